/** Local files and pipes: the default place for names in Node. And memory that the system keeps in memory. */
import type { StorageProvider } from '../contract.ts';
import { localFiles } from './provider.ts';

export { FileStorage } from './file.ts';
export { lockedMemory } from './locked-memory.ts';
export { type SpoolOptions, StreamStorage, stdinSpool } from './pipe.ts';
export { tcpConnector } from './tcp.ts';
export { localFiles };

/** Where names are looked up when the caller gives no provider. */
export function defaultProvider(): StorageProvider {
  return localFiles();
}
