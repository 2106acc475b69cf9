/** Replacement for local files in browsers. */
import { ImageError } from '../errors.ts';
import type { LockedMemory, Storage, StorageProvider } from './contract.ts';
import type { TcpConnector } from './tcp.ts';

/** Throws `unsupported`: browsers have no default place for names. */
export function defaultProvider(): StorageProvider {
  throw new ImageError('unsupported', 'A browser has no local files, so a name is not enough', {
    hint: 'Pass a source with its provider, for example of a MemoryProvider or a BlobProvider.',
  });
}

/** Plain memory: a page cannot keep memory out of swap. */
export function lockedMemory(length: number): LockedMemory {
  return { bytes: new Uint8Array(length), locked: false, unlock() {} };
}

/** Connecting throws `unsupported`: pages have no TCP connections. */
export function tcpConnector(): TcpConnector {
  return {
    connect: async (address, port) => {
      throw new ImageError('unsupported', 'A page in a browser cannot connect by TCP', {
        path: `${address}:${port}`,
        hint: 'Implement TcpConnector over a transport that the page has, such as a WebSocket.',
      });
    },
  };
}

/** Throws `unsupported`: a page has no temporary files. */
export async function unpackedFile(): Promise<{ readonly storage: Storage; readonly directory: string }> {
  throw new ImageError('unsupported', 'A page in a browser has no temporary file to unpack an image into', {
    hint: 'Unpack the file first.',
  });
}
