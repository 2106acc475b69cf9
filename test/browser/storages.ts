/** Replacement for `test/conformance/storages.ts` in a browser, with the storages available there. */
import { BlobStorage } from '../../src/storage/blob.ts';
import type { LockState, OpenMode, Storage, StorageIdentity } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import type { StorageKind } from '../conformance/storages.ts';

/** Makes files in memory, and opens each as a Blob for reading. */
class HandsOutBlobs extends MemoryProvider {
  /** The last Blob of each file: those that did not change since are copied once. */
  readonly #blobs = new Map<string, { readonly revision: string | undefined; readonly blob: Blob }>();

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    const storage = await super.open(name, mode);
    if (mode === 'write') return storage;
    return new CopyAsBlob(await this.#blobOf(storage), storage);
  }

  async #blobOf(storage: Storage): Promise<Blob> {
    const { key, revision } = await storage.identity();
    const known = this.#blobs.get(key);
    if (known !== undefined && known.revision === revision?.text && known.blob.size === storage.size) return known.blob;
    const bytes = new Uint8Array(storage.size);
    await storage.read(0, bytes);
    const blob = new Blob([bytes]);
    this.#blobs.set(key, { revision: revision?.text, blob });
    return blob;
  }
}

/** Has the identity and locks of its original: a Blob is immutable, so it needs no lock itself. */
class CopyAsBlob extends BlobStorage {
  readonly #origin: Storage;

  constructor(blob: Blob, origin: Storage) {
    super(blob, origin.label);
    this.#origin = origin;
  }

  override async identity(): Promise<StorageIdentity> {
    const { key } = await this.#origin.identity();
    return { ...(await super.identity()), key };
  }

  override async lock(...how: Parameters<Storage['lock']>): Promise<void> {
    await this.#origin.lock(...how);
  }

  override lockState(): Promise<LockState> {
    return this.#origin.lockState();
  }

  override async close(): Promise<void> {
    await this.#origin.close();
    await super.close();
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
