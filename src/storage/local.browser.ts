/** Stands for local files where there are none. */
import { ImageError } from '../errors.ts';
import type { LockedMemory, StorageProvider } from './contract.ts';
import type { TcpConnector } from './tcp.ts';

/** There is no default place for names in a browser: throws `unsupported`. */
export function defaultProvider(): StorageProvider {
  throw new ImageError('unsupported', 'A name alone says nothing here: there are no local files', {
    hint: 'Pass a source with its provider, for example of a MemoryProvider or a BlobProvider.',
  });
}

/** A page has no say in what the system swaps out: plain memory. */
export function lockedMemory(length: number): LockedMemory {
  return { bytes: new Uint8Array(length), locked: false, unlock() {} };
}

/** A page has no connections of that kind: connecting throws `unsupported`. */
export function tcpConnector(): TcpConnector {
  return {
    connect: async (address, port) => {
      throw new ImageError('unsupported', 'A page in a browser cannot connect by TCP', {
        path: `${address}:${port}`,
        hint: 'Implement TcpConnector over what the page has, a WebSocket for one.',
      });
    },
  };
}
