/** The storage providers that every conformance scenario runs over. A test finds providers that are missing here. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { localFiles } from '../../src/storage/local/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';

/** A provider with an empty place in it. */
export interface Place {
  readonly provider: StorageProvider;
  /** A full name in that place. */
  path(name: string): string;
  /** Makes a directory, by its full name. Left out: one is there by what it has in it. */
  makeDirectory?(name: string): Promise<void>;
  dispose(): Promise<void>;
}

/** One kind of storage that can be written. */
export interface StorageKind {
  readonly name: string;
  /** The module that has the provider. */
  readonly module: string;
  make(): Promise<Place>;
}

export const STORAGE_KINDS: readonly StorageKind[] = [
  {
    name: 'memory',
    module: 'memory.ts',
    async make() {
      const provider = new MemoryProvider();
      return { provider, path: (name) => provider.resolve(name, ''), dispose: async () => {} };
    },
  },
  {
    name: 'local files',
    module: 'local/provider.ts',
    async make() {
      const directory = await mkdtemp(join(tmpdir(), 'vdkit-conformance-'));
      return {
        provider: localFiles(),
        path: (name) => join(directory, name),
        makeDirectory: (name) => mkdir(name),
        dispose: () => rm(directory, { recursive: true, force: true }),
      };
    },
  },
];
