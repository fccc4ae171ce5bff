// SnapStart: the hooks that a function registered, and how the clones of one snapshot come to differ.
//
// Clones begin with the same memory, so also with the same random state. What makes them differ:
//   OpenSSL (crypto.*, webcrypto, TLS)  reseeded by unique.node, in every thread
//   crypto.randomUUID, randomInt        keep no values ahead in a SnapStart function
//   Math.random                         a generator of ours, since V8's cannot be reseeded
// A page that the kernel wipes in every clone tells that this has to happen; a hook ahead of every asynchronous callback
// looks at it, so that not even a timer that was due runs before.

import { createHook } from 'node:async_hooks';
import crypto from 'node:crypto';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import v8 from 'node:v8';
import vm from 'node:vm';
import { setTimeout } from 'node:timers/promises';

const require = createRequire(import.meta.url);
const hooks = require('thaw-snapstart/registry');

const SWEEPING_MS = 100; // V8's threads sweep for some milliseconds after a collection, and say nothing when they are done

let native; // unique.node
let mark; // one byte of the page that clones find wiped
let watcher;

// ---- Math.random ----

const state = new Uint32Array(4);

const seedRandom = () => crypto.randomFillSync(state);

const rotate = (value, bits) => (value << bits) | (value >>> (32 - bits));

// xoshiro128**, by Blackman and Vigna.
function next32() {
  const result = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
  const shifted = state[1] << 9;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= shifted;
  state[3] = rotate(state[3], 11);
  return result;
}

function random() {
  return ((next32() >>> 5) * 0x4000000 + (next32() >>> 6)) / 0x20000000000000;
}

// ---- node:crypto's values kept ahead ----

function uncachedRandomInt(original) {
  const RANGE_MAX = 2 ** 48;
  return function randomInt(min, max, callback) {
    const [low, high, done] =
      max === undefined || typeof max === 'function' ? [0, min, max] : [min, max, callback];
    const range = high - low;
    const valid = Number.isSafeInteger(low) && Number.isSafeInteger(high) && range > 0 && range < RANGE_MAX;
    if (!valid || (done !== undefined && typeof done !== 'function')) return original(min, max, callback); // it throws
    const limit = RANGE_MAX - (RANGE_MAX % range);
    let value;
    do value = crypto.randomBytes(6).readUIntBE(0, 6);
    while (value >= limit);
    const result = low + (value % range);
    if (done === undefined) return result;
    process.nextTick(done, undefined, result);
  };
}

// Before the function's own code is loaded.
export function ownRandomness() {
  const { randomUUID } = crypto;
  const uncachedUUID = (options) => randomUUID({ ...options, disableEntropyCache: true });
  crypto.randomUUID = uncachedUUID;
  crypto.randomInt = uncachedRandomInt(crypto.randomInt);
  if (crypto.webcrypto?.randomUUID)
    Object.getPrototypeOf(crypto.webcrypto).randomUUID = function () {
      return uncachedUUID();
    };
  syncBuiltinESMExports();
  seedRandom();
  Math.random = random;
  v8.setFlagsFromString('--no-flush-bytecode'); // what has run before the snapshot need not be compiled after it
}

function makeUnique() {
  mark[0] = 1;
  watcher.disable();
  native.reseed();
  seedRandom();
}

// Before the snapshot: from now on, whatever runs first in a clone makes it unique.
export function prepareUniqueness() {
  try {
    native = require('./unique.node');
  } catch (error) {
    throw new Error(`Clones of this function would not be unique, as unique.node cannot be loaded: ${error.message}`);
  }
  mark = new Uint8Array(native.page);
  mark[0] = 1;
  native.reseed();
  seedRandom();
  watcher = createHook({
    before() {
      if (mark[0] === 0) makeUnique();
    },
  }).enable();
}

// ---- hooks ----

export const hasAfterRestore = () => hooks.afterRestore.length > 0;

export async function runBeforeSnapshot() {
  while (hooks.beforeSnapshot.length > 0) await hooks.beforeSnapshot.pop()();
}

export async function runAfterRestore() {
  for (const hook of hooks.afterRestore) await hook();
}

// A snapshot without garbage is smaller, and clones will not be the ones to collect it, nor to sweep up after.
export async function collectGarbage() {
  v8.setFlagsFromString('--expose-gc');
  const collect = vm.runInNewContext('gc');
  collect();
  collect();
  await setTimeout(SWEEPING_MS);
}
