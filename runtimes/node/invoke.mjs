// One call of the handler, in any of its forms: asynchronous, with a callback, or with a response stream.

import { ResponseStream, isStreaming } from './streaming.mjs';

const environment = process.env;
// Read once: process.env asks the C library each time.
const fixed = {
  functionVersion: environment.AWS_LAMBDA_FUNCTION_VERSION,
  functionName: environment.AWS_LAMBDA_FUNCTION_NAME,
  memoryLimitInMB: environment.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
  logGroupName: environment.AWS_LAMBDA_LOG_GROUP_NAME,
  logStreamName: environment.AWS_LAMBDA_LOG_STREAM_NAME,
};

// What is to be done when the function has left nothing that could still happen.
let whenIdle;
process.on('beforeExit', () => {
  const action = whenIdle;
  whenIdle = undefined;
  action?.();
});

const parseField = (text) => (text ? JSON.parse(text) : undefined);

function makeContext(headers, { done, waits }) {
  const deadline = Number(headers['lambda-runtime-deadline-ms'] ?? 0);
  const doneAtOnce = (error, result) => {
    waits.value = false;
    done(error, result);
  };
  return {
    get callbackWaitsForEmptyEventLoop() {
      return waits.value;
    },
    set callbackWaitsForEmptyEventLoop(value) {
      waits.value = Boolean(value);
    },
    ...fixed,
    clientContext: parseField(headers['lambda-runtime-client-context']),
    identity: parseField(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
    done: doneAtOnce,
    succeed: (result) => doneAtOnce(null, result),
    fail: (error) => doneAtOnce(error ?? 'handled'),
  };
}

function callPlain(handler, event, headers) {
  return new Promise((resolve, reject) => {
    const waits = { value: true };
    let called = false;
    const settle = (error, result) => (error === null || error === undefined ? resolve(result) : reject(error));
    const done = (error, result) => {
      if (called) return;
      called = true;
      if (waits.value && (error === null || error === undefined)) whenIdle = () => settle(error, result);
      else settle(error, result);
    };
    whenIdle = () => resolve(null); // nobody is left who could answer
    const returned = handler(event, makeContext(headers, { done, waits }), done);
    if (typeof returned?.then === 'function') returned.then(resolve, reject);
  });
}

function callStreaming(handler, event, headers) {
  return new Promise((resolve, reject) => {
    const waits = { value: false };
    const stream = new ResponseStream();
    whenIdle = () => resolve(stream);
    stream.on('finish', () => resolve(stream));
    stream.on('error', reject);
    const done = (error) => (error ? reject(error) : stream.end());
    Promise.resolve(handler(event, stream, makeContext(headers, { done, waits }))).catch(reject);
  });
}

function stringify(result) {
  try {
    return JSON.stringify(result === undefined ? null : result) ?? 'null';
  } catch {
    throw new Error('Unable to stringify response body');
  }
}

// What the handler answers: { payload, contentType }. Throws what the handler fails with.
export async function callHandler(handler, headers, body) {
  try {
    const event = JSON.parse(body.toString('utf8'));
    if (isStreaming(handler)) return (await callStreaming(handler, event, headers)).result();
    return { payload: stringify(await callPlain(handler, event, headers)), contentType: 'application/json' };
  } finally {
    whenIdle = undefined;
  }
}

export const warmUpHandler = async (event) => event;
