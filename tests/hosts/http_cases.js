// SPDX-License-Identifier: MIT
// HTTP of troth's and of node's in one process, on one loop: node http_cases.js ADDON.
'use strict';
const assert = require('node:assert');
const http = require('node:http');
const net = require('node:net');
const { once } = require('node:events');
const { Worker, isMainThread, workerData } = require('node:worker_threads');

const path = isMainThread ? process.argv[2] : workerData;
const troth = require(path);

const bodyOf = async (stream) => {
  let text = '';
  for await (const part of stream.setEncoding('latin1')) text += part;
  return text;
};
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const ask = async (port, method, path, parts = []) => {
  const request = http.request({ agent, port, host: '127.0.0.1', method, path });
  for (const part of parts) request.write(part);
  request.end();
  const [response] = await once(request, 'response');
  return response.statusCode + ' ' + (await bodyOf(response));
};
const say = async (port, bytes) => {
  const socket = net.connect(port, '127.0.0.1');
  socket.write(bytes);
  return bodyOf(socket);
};

async function main() {
  const served = async (text) => {
    await new Promise(setImmediate); // node's loop goes on meanwhile
    return 'troth: ' + text;
  };
  const ours = await troth.serve(served);
  const web = http.createServer(async (request, response) => {
    response.end(`node: ${request.method} ${request.url} ${await bodyOf(request)}`);
  });
  await once(web.listen(0, '127.0.0.1'), 'listening');
  const theirs = web.address().port;

  // Each client asks each server, all at once.
  const all = [];
  for (let i = 0; i < 50; ++i) {
    for (const [name, port] of [['troth', ours], ['node', theirs]]) {
      all.push(ask(port, 'GET', '/' + i).then((text) => assert.equal(text, `200 ${name}: GET /${i} `)));
      all.push(ask(port, 'POST', '/' + i, ['in ', 'chunks']).then((text) => assert.equal(text, `200 ${name}: POST /${i} in chunks`)));
      all.push(troth.fetch(`http://127.0.0.1:${port}/${i}`).then((text) => assert.equal(text, `200 ${name}: GET /${i} `)));
    }
  }
  await Promise.all(all);

  // Each parser keeps to its own rules.
  const bad = 'GET / HTTP/1.1\r\nHost: a\r\nA(: b\r\n\r\n';
  assert.match(await say(ours, bad), /^HTTP\/1\.1 400 Bad Request\r\n[^]*400 Bad Request: /);
  assert.match(await say(theirs, bad), /^HTTP\/1\.1 400 Bad Request\r\nConnection: close\r\n\r\n$/);
  const brew = 'BREW / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
  assert.match(await say(ours, brew), /^HTTP\/1\.1 501 /);
  assert.match(await say(theirs, brew), /^HTTP\/1\.1 400 /);

  agent.destroy();
  assert.equal(await troth.close(), '');
  await assert.rejects(once(net.connect(ours, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' });
  web.close();
}

async function ended() {
  const worker = new Worker(__filename, { workerData: path });
  const port = (await once(worker, 'message'))[0];
  const reply = say(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n').catch((error) => error.code);
  await once(worker, 'message'); // it is being answered
  await worker.terminate();
  assert.ok(['', 'ECONNRESET'].includes(await reply), await reply);
}

if (isMainThread) {
  const cases = {
    'servers and clients of troth and of node answer each other in one process': main,
    'a worker that is ended takes its server along, in the middle of a request': ended,
  };
  (async () => {
    let failed = 0;
    for (const [name, run] of Object.entries(cases)) {
      try {
        await run();
        console.log('passed ' + name);
      } catch (error) {
        ++failed;
        console.log('FAILED ' + name + '\n' + error.stack);
      }
    }
    console.log(`test cases: 2 | ${2 - failed} passed | ${failed} failed | 0 skipped`);
    process.exitCode = failed ? 1 : 0;
  })();
} else {
  const { parentPort } = require('node:worker_threads');
  troth.serve(() => {
    setImmediate(() => parentPort.postMessage('asked')); // when troth waits for what follows
    return new Promise(() => {});
  }).then((port) => parentPort.postMessage(port));
}
