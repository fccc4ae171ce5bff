// Stands before an S3 server, as a network would: every answer comes LATENCY_MS later. What was put through it is answered from
// memory, as the server itself, made for tests, takes longer for that than the network. usage: latency.mjs SERVER_PORT LATENCY_MS
// Says its port on standard output. GET /-/counts answers with the numbers of requests, by method and folder of the store.
import http from 'node:http';

const [serverPort, latency] = process.argv.slice(2).map(Number);
const kept = new Map(); // path: {headers, body}
const counts = {};
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

function count(method, path) {
  const folder = /\/bench\/(chunks|snapshots|domains)\//.exec(path)?.[1] ?? 'other';
  const key = `${method} ${folder}`;
  counts[key] = (counts[key] ?? 0) + 1;
}

function answer(response, status, headers, body) {
  const began = performance.now();
  const send = () => {
    // Timers are of whole milliseconds: what is left of one is waited for.
    if (performance.now() - began < latency) return setImmediate(send);
    response.writeHead(status, headers);
    return response.end(body);
  };
  setTimeout(send, Math.max(0, latency - 1));
}

function pass(request, response, body) {
  const onward = http.request({ port: serverPort, method: request.method, path: request.url, headers: request.headers, agent }, (reply) => {
    const pieces = [];
    reply.on('data', (piece) => pieces.push(piece));
    reply.on('end', () => {
      const ok = reply.statusCode === 200;
      const { etag } = reply.headers;
      if (request.method === 'PUT' && ok && !request.url.includes('?')) {
        kept.set(request.url, { headers: { etag, 'content-length': body.length }, body });
      } else if (request.method !== 'GET' && request.method !== 'HEAD') {
        kept.delete(request.url.split('?')[0]);
      }
      const headers = { ...reply.headers };
      delete headers.connection;
      answer(response, reply.statusCode, headers, Buffer.concat(pieces));
    });
  });
  onward.on('error', () => response.destroy());
  onward.end(body);
}

const server = http.createServer((request, response) => {
  if (request.url === '/-/counts') {
    response.end(JSON.stringify(counts));
    return;
  }
  count(request.method, request.url);
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const found = kept.get(request.url);
    const reads = request.method === 'GET' || request.method === 'HEAD';
    if (!reads || !found || request.headers.range) pass(request, response, Buffer.concat(pieces));
    else answer(response, 200, found.headers, request.method === 'GET' ? found.body : undefined);
  });
});
server.keepAliveTimeout = 60000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
