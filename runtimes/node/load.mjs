// The function that _HANDLER names: "module.function", "folder/module.function", "module.object.function".

import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { LambdaError } from './errors.mjs';

const require = createRequire(import.meta.url);

function splitName(name) {
  if (name.includes('..'))
    throw new LambdaError(
      'MalformedHandlerName',
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  const base = path.basename(name);
  const [, module, object] = base.match(/^([^.]*)\.(.*)$/) ?? [];
  if (module === undefined) throw new LambdaError('MalformedHandlerName', 'Bad handler');
  return { folder: name.slice(0, name.length - base.length), module, object };
}

const isFile = (file) => existsSync(file) && statSync(file).isFile();

// Whether package.json says that .js files of this folder are ES modules.
function isModuleFolder(folder, root) {
  for (let at = folder; ; at = path.dirname(at)) {
    const file = path.join(at, 'package.json');
    if (isFile(file)) return JSON.parse(readFileSync(file, 'utf8')).type === 'module';
    if (at === root || at === path.dirname(at)) return false;
  }
}

async function loadModule(root, folder, module) {
  const base = path.resolve(root, folder, module);
  if (isFile(base)) return require(base);
  if (isFile(`${base}.js`))
    return isModuleFolder(path.dirname(base), root) ? import(pathToFileURL(`${base}.js`)) : require(`${base}.js`);
  if (isFile(`${base}.mjs`)) return import(pathToFileURL(`${base}.mjs`));
  if (isFile(`${base}.cjs`)) return require(`${base}.cjs`);
  return require(require.resolve(module, { paths: [root, path.resolve(root, folder)] }));
}

async function loadApplication(root, folder, module) {
  try {
    return await loadModule(root, folder, module);
  } catch (error) {
    if (error instanceof SyntaxError) throw withTrace(new LambdaError('UserCodeSyntaxError', String(error)), error);
    if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND')
      throw withTrace(new LambdaError('ImportModuleError', String(error)), error);
    throw error;
  }
}

function withTrace(error, cause) {
  error.stack = `${error.name}: ${cause.stack}`;
  return error;
}

export async function loadHandler(root, name) {
  const { folder, module, object } = splitName(name);
  const application = await loadApplication(root, folder, module);
  const handler = object.split('.').reduce((value, key) => value?.[key], application);
  if (handler === undefined || handler === null)
    throw new LambdaError('HandlerNotFound', `${name} is undefined or not exported`);
  if (typeof handler !== 'function') throw new LambdaError('HandlerNotFound', `${name} is not a function`);
  return handler;
}
