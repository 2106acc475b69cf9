/** Node's module for compression, loaded on first need: it takes a start three milliseconds. */
export function nodeZlib(): typeof import('node:zlib') {
  return process.getBuiltinModule('node:zlib');
}
