// The function of the official clients' tests, for aws-lambda-ric: see tests/clients/README.md for what it answers.
const crypto = require('node:crypto');
const fs = require('node:fs');
const util = require('node:util');
const { Worker } = require('node:worker_threads');

const born = draw();
let clone = null;
let count = 0;
let ticks = 0;
setInterval(() => { ticks += 1; }, 1);

// Is in the middle of something whenever it is looked at.
const worked = new Int32Array(new SharedArrayBuffer(4));
const work = `
  const { workerData } = require('node:worker_threads');
  setInterval(() => {
    for (let i = 0; i < 20; i++) Array.from({ length: 500 }, (_, n) => 'n' + n).sort();
    Atomics.add(workerData, 0, 1);
  }, 1);`;
if (process.env.BUSY) new Worker(work, { eval: true, workerData: worked });

function draw() { // from the kernel, as nothing else in Node is unique in clones without help
  const file = fs.openSync('/dev/urandom', 'r');
  const bytes = Buffer.alloc(16);
  fs.readSync(file, bytes);
  fs.closeSync(file);
  return bytes.toString('hex');
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function threadsWork() { // Node's thread pool, and its timers
  const before = ticks;
  const workedBefore = Atomics.load(worked, 0);
  const keys = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(
    (salt) => util.promisify(crypto.pbkdf2)('word', `salt ${salt}`, 10, 16, 'sha256')));
  while (ticks < before + 3 || (process.env.BUSY && Atomics.load(worked, 0) < workedBefore + 3)) await pause(1);
  return new Set(keys.map(String)).size === 8;
}

exports.handler = async (event, context) => {
  clone ??= draw();
  count += 1;
  if (event.do === 'fail') throw new TypeError('it failed');
  if (event.do === 'exit') process.exit(7);
  if (event.log) console.error('logged: %s', event.log);
  await pause(event.hold_ms ?? 0);
  return {
    event, born, clone, count, hooks: [], threads: await threadsWork(), request: context.awsRequestId,
    arn: context.invokedFunctionArn, remaining: context.getRemainingTimeInMillis(),
  };
};
