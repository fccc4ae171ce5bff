// awslambda.streamifyResponse: handlers that write their response. Here all of it is kept, and sent when it has ended.

import { Writable } from 'node:stream';

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const PRELUDE_TYPE = 'application/vnd.awslambda.http-integration-response';
const PRELUDE_END = Buffer.alloc(8); // between the prelude's JSON and the body

export const isStreaming = (handler) => handler[STREAMING] !== undefined;

export class ResponseStream extends Writable {
  #parts = [];
  #contentType = 'application/octet-stream';

  _write(chunk, encoding, done) {
    this.#parts.push(chunk);
    done();
  }

  setContentType(contentType) {
    this.#contentType = contentType;
  }

  result() {
    return { payload: Buffer.concat(this.#parts), contentType: this.#contentType };
  }
}

const HttpResponseStream = {
  from(stream, prelude) {
    stream.setContentType(PRELUDE_TYPE);
    stream.write(JSON.stringify(prelude));
    stream.write(PRELUDE_END);
    return stream;
  },
};

export function installStreaming() {
  globalThis.awslambda = {
    streamifyResponse: (handler) => Object.assign(handler, { [STREAMING]: 'response' }),
    HttpResponseStream,
  };
}
