/** Node's compression module, loaded on first use: loading takes three milliseconds of a start. */
export function nodeZlib(): typeof import('node:zlib') {
  return process.getBuiltinModule('node:zlib');
}
