// SPDX-License-Identifier: MIT
// What the addon does inside of one node: node node_cases.js ADDON. Counts its cases as the other tests do.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const { once } = require('node:events');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const path = isMainThread ? process.argv[2] : workerData.path;
const troth = require(path);

/// A client that sends lines and awaits as many; then it is open still.
class Client {
  constructor(port) {
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.on('error', () => {});
    this.text = '';
    this.ended = once(this.socket, 'close');
    this.socket.on('data', (data) => (this.text += data));
  }
  async ask(...lines) {
    this.socket.write(lines.map((line) => line + '\n').join(''));
    return this.lines(lines.length);
  }
  async lines(count) {
    while (this.text.split('\n').length <= count) await once(this.socket, 'data');
    const all = this.text.split('\n');
    this.text = all.slice(count).join('\n');
    return all.slice(0, count);
  }
  end() {
    this.socket.destroy();
    return this.ended;
  }
}

async function refuses(port) {
  const socket = net.connect(port, '127.0.0.1');
  const [error] = await once(socket, 'error');
  return error.code === 'ECONNREFUSED';
}

function isError(code, part) {
  return (error) => error instanceof Error && error.code === code && error.message.includes(part);
}

const cases = {
  async 'timers and fetch of JavaScript and the server of troth run together'() {
    let ticks = 0;
    const timer = setInterval(() => ++ticks, 1);
    const web = http.createServer((request, response) => response.end('from node'));
    await once(web.listen(0, '127.0.0.1'), 'listening');
    const server = await troth.listen({ port: 0 });
    const client = new Client(server.port);
    for (let i = 0; i < 20; ++i) {
      const [page, lines, slept] = await Promise.all([
        fetch(`http://127.0.0.1:${web.address().port}/`).then((response) => response.text()),
        client.ask('hello ' + i),
        troth.sleep(2),
      ]);
      assert.deepEqual([page, lines, slept], ['from node', ['HELLO ' + i], undefined]);
    }
    assert(ticks > 10, `the timer ticked ${ticks} times`);
    clearInterval(timer);
    await client.end();
    web.close();
    web.closeAllConnections();
    assert.equal(await server.close(), 0);
  },

  async 'functions of JavaScript answer fifty clients at once, some later than others'() {
    const server = await troth.listen({}, async (line) => {
      await new Promise((resolve) => setTimeout(resolve, line.length % 7));
      return line + '!';
    });
    const clients = Array.from({ length: 50 }, () => new Client(server.port));
    const answers = await Promise.all(clients.map((c, i) => c.ask('a'.repeat(i), 'ä€😀', '')));
    answers.forEach((lines, i) => assert.deepEqual(lines, ['a'.repeat(i) + '!', 'ä€😀!', '!']));
    assert.deepEqual(server.counters(), { connections: 50, accepted: 50, answered: 150, failed: 0 });
    await Promise.all(clients.map((c) => c.end()));
    assert.equal(await server.close(), 0);
  },

  async 'errors of JavaScript reach the client with their message, thrown or rejected, and the connection goes on'() {
    const server = await troth.listen({}, (line) => {
      if (line === 'throw') throw new Error('thrown');
      if (line === 'reject') return Promise.reject(new Error('rejected'));
      if (line === 'text') throw 'just text';
      if (line === 'null') throw null;
      if (line === 'hostile') throw Object.create(null); // it cannot even be shown
      if (line === 'then') return Promise.resolve({ then: () => { throw new Error('in then'); } });
      if (line === 'number') return 42;
      if (line === 'two lines') return 'one\nand\r\ntwo';
      if (line === 'two errors') throw new Error('one\ntwo');
      return line;
    });
    const client = new Client(server.port);
    const lines = await client.ask('throw', 'reject', 'text', 'null', 'hostile', 'then', 'number', 'two lines', 'two errors', 'good');
    assert.deepEqual(lines.slice(0, 6), ['error: thrown', 'error: rejected', 'error: just text', 'error: null',
      'error: an error of JavaScript', 'error: in then']);
    assert.match(lines[6], /^error: .*string/);
    assert.deepEqual(lines.slice(7), ['one and  two', 'error: one two', 'good']);
    assert.equal(server.counters().failed, 8);
    await client.end();
    await server.close();
  },

  async 'errors cross twice with their message, and their kind as the code'() {
    const through = (error) => troth.timeout(10000, Promise.reject(error));
    for (const code of ['FAILED', 'OVERLOADED', 'DISCONNECTED', 'UNIMPLEMENTED'])
      await assert.rejects(through(Object.assign(new Error('of ' + code), { code })), isError(code, 'of ' + code));
    await assert.rejects(through(Object.assign(new TypeError('gone'), { code: 'ENOENT' })), isError('FAILED', 'gone'));
    await assert.rejects(through('a text'), isError('FAILED', 'a text'));
    const hostile = new Error('x');
    Object.defineProperty(hostile, 'message', { get() { throw new Error('y'); } });
    await assert.rejects(through(hostile), isError('FAILED', ''));
    let reads = 0; // an error whose getters throw that error, too
    const endless = new Error('x');
    for (const name of ['code', 'message'])
      Object.defineProperty(endless, name, { get() { if (++reads < 100) throw endless; } });
    await assert.rejects(through(endless), isError('FAILED', ''));
    assert.equal(reads, 2);
  },

  async 'values cross unchanged, objects as themselves'() {
    const object = { a: 1 };
    for (const value of [object, undefined, null, 0, -0.5, 'text', 10n, Symbol.iterator, assert, [object]])
      assert.strictEqual(await troth.timeout(10000, Promise.resolve(value)), value);
    assert.strictEqual(await troth.timeout(10000, 'no promise at all'), 'no promise at all');
  },

  async 'what C++ does not wait for any more may be settled later, or never'() {
    let resolve, reject;
    const first = troth.timeout(1, new Promise((r) => (resolve = r)));
    const second = troth.timeout(1, new Promise((_, r) => (reject = r)));
    const third = troth.timeout(1, new Promise(() => {}));
    for (const promise of [first, second, third])
      await assert.rejects(promise, isError('OVERLOADED', 'timed out'));
    resolve('too late');
    reject(new Error('too late'));
    await troth.sleep(1);
  },

  async 'promises of C++ are settled in time, in a loop in which nothing else happens'() {
    const order = [];
    await Promise.all([30, 10, 20, 0].map((ms) => troth.sleep(ms).then(() => order.push(ms))));
    assert.deepEqual(order, [0, 10, 20, 30]);
    let ticks = 0;
    await troth.sleep(1).then(() => process.nextTick(() => ++ticks));
    await troth.sleep(1);
    assert.equal(ticks, 1);
  },

  async 'closing answers what was read, hangs up on the silent, and closes the port'() {
    let answer;
    const server = await troth.listen({}, () => new Promise((resolve) => (answer = resolve)));
    const silent = new Client(server.port);
    const busy = new Client(server.port);
    const asked = busy.ask('a question');
    while (!answer || server.counters().accepted < 2) await troth.sleep(1);
    const closed = server.close(60000);
    const again = server.close();
    await silent.ended;
    assert(await refuses(server.port));
    assert.equal(server.counters().connections, 1);
    answer('an answer');
    assert.deepEqual(await asked, ['an answer']);
    await busy.ended;
    assert.deepEqual(await Promise.all([closed, again, server.close()]), [0, 0, 0]);
    assert.deepEqual(server.counters(), { connections: 0, accepted: 0, answered: 0, failed: 0 }); // it has gone
  },

  async 'closing cuts off after the grace who waits for an answer that does not come'() {
    let answer;
    const server = await troth.listen({}, () => new Promise((resolve) => (answer = resolve)));
    const client = new Client(server.port);
    client.socket.write('a question\n');
    while (!answer) await troth.sleep(1);
    assert.equal(await server.close(5), 1);
    await client.ended;
    answer('too late');
    await troth.sleep(1);
  },

  async 'a port that is in use, names and wrong arguments are refused with an error that says so'() {
    const server = await troth.listen();
    await assert.rejects(troth.listen({ port: server.port }), isError('FAILED', `127.0.0.1:${server.port}`));
    await server.close();
    assert.throws(() => troth.listen({ port: 65536 }), isError('FAILED', 'the port must be a number from 0 to 65535'));
    assert.throws(() => troth.listen({ port: '80' }), isError('FAILED', 'the port'));
    assert.throws(() => troth.listen({ host: 'localhost' }), isError('FAILED', '"localhost"'));
    assert.throws(() => troth.listen({ host: 5 }), isError('FAILED', 'string'));
    for (const where of [7000, '127.0.0.1:7000', null, () => 'an answer'])
      assert.throws(() => troth.listen(where), isError('FAILED', 'must be an object'));
    assert.throws(() => troth.listen({}, 'no function'), isError('FAILED', 'function'));
    assert.throws(() => troth.sleep(), isError('FAILED', 'the time'));
    for (const ms of [-1, NaN, Infinity, '5']) assert.throws(() => troth.sleep(ms), isError('FAILED', 'the time'));
    assert.throws(() => troth.timeout(-1, Promise.resolve()), isError('FAILED', 'the time'));
  },

  async 'an error in what awaits a promise of C++ is an unhandled rejection, as any other'() {
    const heard = once(process, 'unhandledRejection');
    troth.sleep(1).then(() => { throw new Error('nobody catches it'); });
    assert.equal((await heard)[0].message, 'nobody catches it');
  },

  async 'a second context on a thread is refused, and the first goes on'() {
    assert.throws(() => process.dlopen({ exports: {} }, require.resolve(path)), isError('FAILED', 'event loop'));
    await troth.sleep(1);
  },

  async 'two addons, each with a troth of its own inside, share a thread and a loop'() {
    const folder = fs.mkdtempSync(os.tmpdir() + '/troth-hosts-');
    fs.copyFileSync(path, folder + '/other.node');
    const other = require(folder + '/other.node');
    fs.rmSync(folder, { recursive: true });
    const servers = await Promise.all([troth.listen(), other.listen({}, (line) => troth.timeout(10000, line + '!'))]);
    const clients = servers.map((server) => new Client(server.port));
    assert.deepEqual(await Promise.all(clients.map((c) => c.ask('hello'))), [['HELLO'], ['hello!']]);
    await Promise.all(clients.map((c) => c.end()));
    assert.deepEqual(await Promise.all(servers.map((server) => server.close())), [0, 0]);
  },

  async 'each worker has a server of its own, and ends by itself when that is closed'() {
    await Promise.all(Array.from({ length: 6 }, async (_, i) => {
      const worker = new Worker(__filename, { workerData: { path, name: `worker ${i}` } });
      const exited = once(worker, 'exit');
      const [port] = await once(worker, 'message');
      const client = new Client(port);
      assert.deepEqual(await client.ask('hello'), [`worker ${i}: hello`]);
      worker.postMessage('close');
      await client.ended;
      assert.deepEqual(await exited, [0]);
    }));
  },

  async 'workers are terminated with servers open, calls pending and promises waiting, and nothing stays'() {
    await Promise.all(Array.from({ length: 6 }, async (_, i) => {
      const worker = new Worker(__filename, { workerData: { path, name: `worker ${i}`, busy: true } });
      const [port] = await once(worker, 'message');
      const clients = [new Client(port), new Client(port)];
      assert.deepEqual(await clients[0].ask('hello'), [`worker ${i}: hello`]);
      clients[1].socket.write('never\n');
      await worker.terminate();
      await Promise.all(clients.map((c) => c.ended));
      assert(await refuses(port));
    }));
  },

  async 'a worker may exit in the middle of an answer'() {
    const worker = new Worker(__filename, { workerData: { path, name: 'worker' } });
    const exited = once(worker, 'exit');
    const [port] = await once(worker, 'message');
    const client = new Client(port);
    client.socket.write('exit\n');
    assert.deepEqual(await exited, [5]);
    await client.ended;
  },
};

async function inWorker() {
  const server = await troth.listen({}, async (line) => {
    if (line === 'exit') process.exit(5);
    if (line === 'never') await new Promise(() => {});
    await troth.sleep(1);
    return `${workerData.name}: ${line}`;
  });
  if (workerData.busy) {
    troth.sleep(3600000);
    troth.timeout(3600000, new Promise(() => {}));
    for (let i = 0; i < 100; ++i) troth.sleep(i);
  }
  parentPort.once('message', () => server.close());
  parentPort.postMessage(server.port);
}

const LIMIT_MS = 10000; // for each case

async function main() {
  let failed = 0;
  for (const [name, run] of Object.entries(cases)) {
    const begun = performance.now();
    let outcome = 'passed';
    let limit;
    const late = new Promise((_, reject) => (limit = setTimeout(reject, LIMIT_MS, new Error('it takes too long'))));
    try {
      await Promise.race([run(), late]);
    } catch (error) {
      outcome = 'FAILED';
      ++failed;
      console.error(error);
    }
    clearTimeout(limit);
    console.log(`${outcome} ${name} in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  }
  const count = Object.keys(cases).length;
  console.log(`test cases: ${count} | ${count - failed} passed | ${failed} failed`);
  if (failed) process.exit(1); // what it has left open keeps nobody waiting
}

if (isMainThread) main();
else inWorker();
