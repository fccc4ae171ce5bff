// The Runtime API's client: one connection, one request at a time. Node's own HTTP client would do, but costs several
// times the code between a thaw and its event.

import net from 'node:net';

const PREFIX = '/2018-06-01/runtime/';

function parseHead(text) {
  const [first, ...lines] = text.split('\r\n');
  const headers = Object.create(null);
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { status: Number(first.slice(9, 12)), headers };
}

// The body of a chunked answer, undefined while a part of it is missing.
function decodeChunks(data) {
  const parts = [];
  for (let at = 0; ; ) {
    const lineEnd = data.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(data.toString('latin1', at, lineEnd), 16);
    const end = lineEnd + 2 + size;
    if (size === 0) return data.indexOf('\r\n', lineEnd + 2) < 0 ? undefined : Buffer.concat(parts);
    if (data.length < end + 2) return undefined;
    parts.push(data.subarray(lineEnd + 2, end));
    at = end + 2;
  }
}

export class RuntimeClient {
  #host;
  #port;
  #fields; // of every request
  #socket;
  #waiting; // { resolve, reject } of the request under way
  #answer; // its head, once it is complete
  #received = []; // what came of the head, and then of the body
  #bytes = 0;

  constructor(api) {
    const colon = api.lastIndexOf(':');
    this.#host = colon < 0 ? api : api.slice(0, colon);
    this.#port = colon < 0 ? 80 : Number(api.slice(colon + 1));
    this.#fields = ` HTTP/1.1\r\nHost: ${api}\r\n`;
  }

  get(path) {
    return this.#request(`GET ${PREFIX}${path}${this.#fields}\r\n`);
  }

  ping() {
    return this.#request(`GET /2018-06-01/ping${this.#fields}\r\n`);
  }

  // `body` is text or a Buffer. Never rejects: a server that refuses a long body may hang up before all of it was sent.
  async post(path, body, contentType = 'application/json', fields = '') {
    const head =
      `POST ${PREFIX}${path}${this.#fields}Content-Type: ${contentType}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n${fields}\r\n`;
    try {
      return await (typeof body === 'string' ? this.#request(head + body) : this.#request(head, body));
    } catch (error) {
      return { status: 0, headers: {}, body: Buffer.from(String(error)) };
    }
  }

  postError(path, description, kind) {
    const type = /^(Runtime|Function)\.\w+$/.test(kind) ? kind : `Function.${description.errorType}`;
    const field = `Lambda-Runtime-Function-Error-Type: ${type.replace(/[^\x20-\x7e]/g, '?')}\r\n`;
    return this.post(path, JSON.stringify(description), 'application/json', field);
  }

  #connect() {
    const socket = net.connect({ host: this.#host, port: this.#port, noDelay: true });
    socket.on('data', (data) => this.#take(data));
    socket.on('error', (error) => this.#lose(socket, error));
    socket.on('close', () => this.#lose(socket, new Error('the Runtime API closed the connection')));
    this.#socket = socket;
  }

  #lose(socket, error) {
    if (socket !== this.#socket) return;
    this.#socket = undefined;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  #request(head, body) {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#answer = undefined;
      this.#received = [];
      this.#bytes = 0;
      if (!this.#socket) this.#connect();
      this.#socket.ref();
      this.#socket.write(head);
      if (body) this.#socket.write(body);
    });
  }

  #take(data) {
    this.#received.push(data);
    this.#bytes += data.length;
    if (!this.#answer && !this.#takeHead()) return;
    const { headers } = this.#answer;
    if (headers['content-length'] !== undefined) {
      if (this.#bytes >= Number(headers['content-length'])) this.#finish(this.#all());
    } else if (headers['transfer-encoding'] !== undefined) {
      const body = decodeChunks(this.#all());
      if (body) this.#finish(body);
    } else {
      this.#finish(Buffer.alloc(0));
    }
  }

  #all() {
    if (this.#received.length > 1) this.#received = [Buffer.concat(this.#received)];
    return this.#received[0];
  }

  #takeHead() {
    const data = this.#all();
    const end = data.indexOf('\r\n\r\n');
    if (end < 0) return false;
    this.#answer = parseHead(data.toString('latin1', 0, end));
    this.#received = [data.subarray(end + 4)];
    this.#bytes = data.length - end - 4;
    return true;
  }

  // While the function works, its own affairs alone keep the event loop alive: whether it is empty has a meaning.
  #finish(body) {
    const { resolve } = this.#waiting;
    const socket = this.#socket;
    this.#waiting = undefined;
    socket.unref();
    if (this.#answer.headers.connection === 'close') {
      this.#socket = undefined;
      socket.destroy();
    }
    resolve({ ...this.#answer, body });
  }
}
