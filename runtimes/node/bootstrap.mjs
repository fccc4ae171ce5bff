// Runs a Node function: the Runtime API's client for the managed runtimes nodejs18.x and later.
//
// What lies between the snapshot and the first event is part of every thaw, so it is short, and has run before.

import { describeError, LambdaError, toLoggable } from './errors.mjs';
import { callHandler, warmUpHandler } from './invoke.mjs';
import { loadHandler } from './load.mjs';
import { patchConsole, setRequestId } from './console.mjs';
import { installStreaming } from './streaming.mjs';
import { RuntimeClient } from './client.mjs';
import * as snapstart from './snapstart.mjs';

const EXIT_INIT = 1;
const EXIT_BEFORE_SNAPSHOT = 64;
const EXIT_AFTER_RESTORE = 65;
const EXIT_REJECTION = 128;
const EXIT_EXCEPTION = 129;
const WARM_UP_ROUNDS = 30; // V8 has then compiled the path, and its caches know the types that pass

const client = new RuntimeClient(process.env.AWS_LAMBDA_RUNTIME_API);
let invocationId; // of the event that is being handled

// Reports a failure that the process will not survive.
async function die(code, path, error, kind) {
  try {
    await client.postError(path, describeError(error), kind);
  } finally {
    process.exit(code);
  }
}

const currentErrorPath = () => (invocationId ? `invocation/${invocationId}/error` : 'init/error');

function catchWhatNobodyCaught() {
  process.on('uncaughtException', (error) => {
    console.error('Uncaught Exception', toLoggable(error));
    die(EXIT_EXCEPTION, currentErrorPath(), error);
  });
  process.on('unhandledRejection', (reason, promise) => {
    const error = new LambdaError('UnhandledPromiseRejection', String(reason));
    Object.assign(error, { reason, promise });
    console.error('Unhandled Promise Rejection', toLoggable(error));
    die(EXIT_REJECTION, currentErrorPath(), error, error.name);
  });
}

async function initialise() {
  try {
    return await loadHandler(process.env.LAMBDA_TASK_ROOT ?? '/var/task', process.env._HANDLER ?? '');
  } catch (error) {
    console.error('Uncaught Exception', toLoggable(error));
    return die(EXIT_INIT, 'init/error', error, error?.name);
  }
}

function setTraceId(traceId) {
  if (traceId === undefined) delete process.env._X_AMZN_TRACE_ID;
  else process.env._X_AMZN_TRACE_ID = traceId;
}

// The answer to an event: what goes out, and its content type.
async function answer(handler, { headers, body }) {
  setTraceId(headers['lambda-runtime-trace-id']);
  const { payload, contentType } = await callHandler(handler, headers, body);
  return { payload, contentType };
}

async function handle(handler, event) {
  const id = event.headers['lambda-runtime-aws-request-id'];
  invocationId = id;
  setRequestId(id);
  let reply;
  try {
    const { payload, contentType } = await answer(handler, event);
    reply = await client.post(`invocation/${id}/response`, payload, contentType);
  } catch (error) {
    console.error('Invoke Error', toLoggable(error));
    reply = await client.postError(`invocation/${id}/error`, describeError(error), error?.name);
  }
  invocationId = undefined;
  if (reply.status !== 202)
    console.error(`The answer was refused with status ${reply.status}: ${reply.body}`);
}

// ---- SnapStart ----

async function warmUp() {
  const event = {
    headers: {
      'lambda-runtime-aws-request-id': '00000000-0000-0000-0000-000000000000',
      'lambda-runtime-deadline-ms': '0',
      'lambda-runtime-trace-id': 'Root=1-00000000-000000000000000000000000;Sampled=0',
    },
    body: Buffer.from('{"key": ["value", 1, 1.5, true, null]}'),
  };
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    await client.ping();
    await answer(warmUpHandler, event);
  }
  setTraceId(undefined);
}

// Handles the sample events that the function is to be primed with, if any, as it will handle all others.
async function prime() {
  for (;;) {
    const event = await client.get('prime/next');
    if (event.status !== 200) break;
    await handle(handler, event);
  }
  setRequestId(undefined);
}

async function prepareSnapshot() {
  try {
    await snapstart.runBeforeSnapshot();
    snapstart.prepareUniqueness();
  } catch (error) {
    console.error('Before-snapshot hook failed', toLoggable(error));
    await die(EXIT_BEFORE_SNAPSHOT, 'init/error', error, 'Runtime.BeforeSnapshotError');
  }
  await warmUp();
  await snapstart.collectGarbage();
}

// The snapshot is taken here, or at the first invocation/next when no hook is to run after a restore: that saves every
// clone a round trip.
async function freezeAndRestore() {
  await prime();
  await prepareSnapshot();
  if (!snapstart.hasAfterRestore()) return;
  const restored = await client.get('restore/next');
  if (restored.status !== 200) throw new Error(`restore/next: status ${restored.status}: ${restored.body}`);
  try {
    await snapstart.runAfterRestore();
  } catch (error) {
    console.error('After-restore hook failed', toLoggable(error));
    await die(EXIT_AFTER_RESTORE, 'restore/error', error, 'Runtime.AfterRestoreError');
  }
}

// ---- the loop ----

const frozen = process.env.AWS_LAMBDA_INITIALIZATION_TYPE === 'snap-start';

delete process.env.AWS_LAMBDA_EXEC_WRAPPER;
patchConsole();
catchWhatNobodyCaught();
installStreaming();
if (frozen) snapstart.ownRandomness();

const handler = await initialise();
if (frozen) await freezeAndRestore();

for (;;) {
  const event = await client.get('invocation/next');
  if (event.status !== 200) {
    console.error(`invocation/next: status ${event.status}: ${event.body}`);
    process.exit(EXIT_INIT);
  }
  await handle(handler, event);
}
