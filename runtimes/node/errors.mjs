// How failures look to callers and in logs.

import { types } from 'node:util';

// A failure with a type of the platform's own: Runtime.<kind>.
export class LambdaError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = `Runtime.${kind}`;
  }
}

const isError = (value) => value instanceof Error || types.isNativeError(value);

// The JSON object that callers see.
export function describeError(error) {
  try {
    if (isError(error))
      return { errorType: error.name, errorMessage: error.message, trace: (error.stack ?? '').split('\n') };
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch {
    const errorMessage =
      'callback called with Error argument, but there was a problem while retrieving one or more of its message, ' +
      'name, and stack';
    return { errorType: 'handled', errorMessage, trace: [] };
  }
}

function loggable(error) {
  if (!isError(error)) return error;
  const { name, message, stack, ...rest } = error;
  return { errorType: error.name, errorMessage: error.message, ...rest, stack: (error.stack ?? '').split('\n') };
}

function toJson(value) {
  const seen = new WeakSet();
  return JSON.stringify(value, (_, inner) => {
    const shown = typeof inner === 'bigint' ? String(inner) : loggable(inner);
    if (shown !== null && typeof inner === 'object') {
      if (seen.has(inner)) return '[Circular]';
      seen.add(inner);
    }
    return shown;
  });
}

// A wrapper that the console writes as Lambda writes failures: as one line of JSON in the text format.
export class Loggable {
  constructor(error) {
    this.error = error;
  }

  toText() {
    try {
      return `\t${toJson(isError(this.error) ? this.error : describeError(this.error))}`;
    } catch {
      return `\t${String(describeError(this.error).errorMessage)}`;
    }
  }
}

export const toLoggable = (error) => new Loggable(error);
