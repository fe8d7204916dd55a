// SPDX-License-Identifier: MIT
// A peer in the HTTP benchmark: node's own HTTP server, one process.
'use strict';

const http = require('node:http');

const GREETING = 'Hello, world!';
const LARGE = Buffer.alloc(1 << 20, 'x');

function answer(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': body.length });
  response.end(body);
}

function echo(request, response) {
  const length = request.headers['content-length'];
  const fields = { 'Content-Type': 'application/octet-stream' };
  if (length !== undefined) fields['Content-Length'] = length;
  response.writeHead(200, fields);
  request.pipe(response);
}

function handle(request, response) {
  if (request.url === '/') answer(response, 200, GREETING);
  else if (request.url === '/large') answer(response, 200, LARGE);
  else if (request.url === '/echo' && request.method === 'POST') echo(request, response);
  else answer(response, 404, 'not found');
}

const [option, value] = process.argv.slice(2);
const server = http.createServer({ keepAliveTimeout: 3600 * 1000 }, handle); // idle connections are measured, too
server.listen({ host: '127.0.0.1', port: option === '--port' ? Number(value) : 0, backlog: 4096 }, () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
process.on('SIGTERM', () => process.exit(0));
