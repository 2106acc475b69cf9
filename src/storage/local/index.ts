/** Local files and pipes, the default place for names in Node, and memory kept out of swap. */
import type { StorageProvider } from '../contract.ts';
import { localFiles } from './provider.ts';

export { systemError } from './errno.ts';
export { FileStorage } from './file.ts';
export { lockedMemory } from './locked-memory.ts';
export { commandWords } from './names.ts';
export { type SpoolOptions, StreamStorage, stdinSpool } from './pipe.ts';
export { tcpConnector } from './tcp.ts';
export { type UnpackedFile, unpackedFile } from './unpacked.ts';
export { localFiles };

/** Provider used when the caller gives none. */
export function defaultProvider(): StorageProvider {
  return localFiles();
}
