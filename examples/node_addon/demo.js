// SPDX-License-Identifier: MIT
// A timer and a web page of node's, and a troth server, side by side in one loop; for its addon see addon.cc.
//
//   node examples/node_addon/demo.js BUILD/examples/node_addon/troth.node
//
// and in another terminal:  nc 127.0.0.1 PORT   and lines such as "time", "sleep", "page" or "quit"
'use strict';
const http = require('node:http');
const troth = require(require('node:path').resolve(process.argv[2] || 'troth.node'));

let ticks = 0;
const timer = setInterval(() => ++ticks, 100);
const web = http.createServer((request, response) => response.end('a page')).listen(0, '127.0.0.1');

// C++ reads the line, calls this, awaits its Promise, and writes what that comes to.
async function answer(line) {
  switch (line) {
    case 'time':
      return `${ticks} ticks`;
    case 'sleep':
      await troth.sleep(1000); // a promise of C++
      return 'a second later';
    case 'page': {
      const page = await fetch(`http://127.0.0.1:${web.address().port}/`);
      return page.text();
    }
    case 'quit':
      quit();
      return 'good-bye';
    default:
      throw new Error(`"${line}" is not time, sleep, page or quit`);
  }
}

let server;
async function quit() {
  await server.close(); // answers this line first
  clearInterval(timer);
  web.close();
  web.closeAllConnections();
} // and node ends by itself

troth.listen({ port: 0 }, answer).then((listening) => {
  server = listening;
  console.log(`listening on 127.0.0.1:${server.port}`);
});
