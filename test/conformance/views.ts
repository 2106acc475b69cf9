/** Views under the promises of storages: files in memory whose bytes have another form, or another place, than is seen. */
import type { CreateMode, OpenMode, Storage } from '../../src/storage/contract.ts';
import { ForwardingProvider } from '../../src/storage/forwarding.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { StorageView, type ViewCodec } from '../../src/storage/view.ts';
import type { StorageKind } from './storages.ts';

/** Lies before the view in every file. */
const OFFSET = 4096 + 17;

/** Bytes exclusive-ored with their offset, in units of this size. */
export function xorCodec(unit: number): ViewCodec {
  const turn = (from: Uint8Array, to: Uint8Array, offset: number): void => {
    for (let n = 0; n < from.length; n++) to[n] = (from[n] ?? 0) ^ keyAt(offset + n);
  };
  return { unit, storedUnit: unit, decode: turn, encode: async (plain, stored, offset) => turn(plain, stored, offset) };
}

function keyAt(offset: number): number {
  return (offset * 31 + (offset >>> 9) * 7 + 0x5a) & 0xff;
}

const [PAYLOAD, SECTOR, LEAD] = [2048, 2352, 16];

/** The payload of raw sectors of a CD, whose lead and tail name the sector. */
export const SECTOR_CODEC: ViewCodec = {
  unit: PAYLOAD,
  storedUnit: SECTOR,
  async decode(stored, plain) {
    for (let n = 0; n * SECTOR < stored.length; n++) {
      plain.set(stored.subarray(n * SECTOR + LEAD, n * SECTOR + LEAD + PAYLOAD), n * PAYLOAD);
    }
  },
  encode(plain, stored, offset) {
    for (let n = 0; n * SECTOR < stored.length; n++) {
      stored.fill(offset / PAYLOAD + n, n * SECTOR, (n + 1) * SECTOR);
      stored.set(plain.subarray(n * PAYLOAD, (n + 1) * PAYLOAD), n * SECTOR + LEAD);
    }
  },
};

/** Files that are seen through a view. How long each is it remembers, since units can only be stored whole. */
class ViewProvider extends ForwardingProvider {
  readonly #codec: ViewCodec | undefined;
  readonly #latest = new Map<string, StorageView>();

  constructor(codec: ViewCodec | undefined) {
    super(new MemoryProvider());
    this.#codec = codec;
  }

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    return this.#view(await this.inner.open(name, mode));
  }

  override async create(name: string, how?: CreateMode): Promise<Storage> {
    return this.#view(await this.inner.create(name, how));
  }

  async #view(storage: Storage): Promise<Storage> {
    const { key } = await storage.identity();
    const latest = this.#latest.get(key);
    const codec = this.#codec;
    const size = codec === undefined || codec.unit === 1 ? undefined : (latest?.size ?? 0);
    const view = new StorageView(storage, { offset: OFFSET, codec, size });
    if (storage.can.write) this.#latest.set(key, view);
    return view;
  }
}

function viewKind(name: string, codec: ViewCodec | undefined): StorageKind {
  return {
    name,
    module: 'view.ts',
    async make() {
      const provider = new ViewProvider(codec);
      return { provider, path: (file) => provider.resolve(file, ''), dispose: async () => {} };
    },
  };
}

export const VIEW_KINDS: readonly StorageKind[] = [
  viewKind('a view behind a header', undefined),
  viewKind('a view of bytes by offset', xorCodec(1)),
  viewKind('a view of sectors by offset', xorCodec(512)),
  viewKind('a view of payloads of sectors', SECTOR_CODEC),
];
