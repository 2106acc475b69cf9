/** What stands for `test/conformance/storages.ts` in a browser: the storages that there are. */
import { BlobStorage } from '../../src/storage/blob.ts';
import type { OpenMode, Storage, StorageIdentity } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import type { StorageKind } from '../conformance/storages.ts';

/** Makes files in memory, and hands each out as a Blob to whoever opens it for reading. */
class HandsOutBlobs extends MemoryProvider {
  override async open(name: string, mode: OpenMode): Promise<Storage> {
    const storage = await super.open(name, mode);
    if (mode === 'write') return storage;
    const bytes = new Uint8Array(storage.size);
    await storage.read(0, bytes);
    const { key } = await storage.identity();
    await storage.close();
    return new CopyAsBlob(new Blob([bytes]), name, key);
  }
}

/** Is known as what it was copied from. */
class CopyAsBlob extends BlobStorage {
  readonly #key: string;

  constructor(blob: Blob, label: string, key: string) {
    super(blob, label);
    this.#key = key;
  }

  override async identity(): Promise<StorageIdentity> {
    return { ...(await super.identity()), key: this.#key };
  }
}

function kindOver(name: string, module: string, makeProvider: () => MemoryProvider): StorageKind {
  return {
    name,
    module,
    async make() {
      const provider = makeProvider();
      return { provider, path: (path) => provider.resolve(path, ''), dispose: async () => {} };
    },
  };
}

export const STORAGE_KINDS: readonly StorageKind[] = [
  kindOver('memory', 'memory.ts', () => new MemoryProvider()),
  kindOver('blob', 'blob.ts', () => new HandsOutBlobs()),
];
