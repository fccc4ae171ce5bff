// console.* in Lambda's formats: text, with tabs between the fields, or JSON.

import { format, inspect } from 'node:util';

import { Loggable, describeError } from './errors.mjs';

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
const METHODS = { trace: 0, debug: 1, info: 2, log: 2, warn: 3, error: 4, fatal: 5 };

const asJson = process.env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
const lowest = asJson ? Math.max(0, LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase())) : 0;

let requestId; // of the running event

export function setRequestId(id) {
  requestId = id;
}

function errorFields(error) {
  const { errorType, errorMessage, trace } = describeError(error);
  return { errorType, errorMessage, stackTrace: trace };
}

const replaceErrors = (_, value) =>
  value instanceof Error ? { ...errorFields(value), ...value } : typeof value === 'bigint' ? String(value) : value;

function jsonLine(level, words) {
  const entry = { timestamp: new Date().toISOString(), level, requestId };
  const failure = words.find((word) => word instanceof Loggable)?.error ?? words.find((word) => word instanceof Error);
  if (words.length === 1) {
    entry.message = words[0];
  } else {
    entry.message = format(...words.map((word) => (word instanceof Loggable ? word.error : word)));
    if (failure !== undefined) Object.assign(entry, errorFields(failure));
  }
  try {
    return JSON.stringify(entry, replaceErrors);
  } catch {
    return JSON.stringify({ ...entry, message: inspect(words[0]) });
  }
}

function textLine(level, words) {
  const last = words.at(-1);
  const message = last instanceof Loggable ? `${format(...words.slice(0, -1))} ${last.toText()}` : format(...words);
  return `${new Date().toISOString()}\t${requestId}\t${level}\t${message}`;
}

export function patchConsole() {
  const line = asJson ? jsonLine : textLine;
  for (const [method, level] of Object.entries(METHODS)) {
    console[method] =
      level < lowest
        ? () => {}
        : (...words) => {
            process.stdout.write(`${line(LEVELS[level], words)}\n`);
          };
  }
  // A function may close its output: that is its own affair.
  process.stdout.on('error', () => {});
  process.stderr.on('error', () => {});
}
