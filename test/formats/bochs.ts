/** Bochs redologs for the test suites. No program makes them here, so they are put together by hand. */
import { SECTOR } from '../../src/binary/numbers.ts';
import {
  ENTRY_FREE,
  HEADER,
  HEADER_MIN,
  MAGIC,
  REST,
  TYPE,
  VERSION_1,
  VERSION_2,
} from '../../src/formats/bochs/layout.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import type { Anatomy, Effect, FieldTable, HostileKit, Sample, StructPlace } from '../hostile/descriptor.ts';
import type { FormatKit } from './kit.ts';

/** A redolog to put together. */
interface Recipe {
  readonly version?: 1 | 2;
  readonly subtype?: string;
  readonly extent: number;
  /** Bytes of the bitmap, where they are more than are needed. */
  readonly bitmap?: number;
  /** Entries of the catalog, where they are more than the disk needs. */
  readonly catalog?: number;
  readonly size: number;
  /** Extents that are stored, in the order of their slots; of each only some sectors. */
  readonly stored: readonly number[];
}

const SECTORS = (length: number): number => Math.ceil(length / SECTOR);

class Builder {
  readonly bytes: Uint8Array;
  readonly content: Uint8Array;
  readonly catalogEntries: number;
  readonly #recipe: Recipe;
  readonly #bitmapBytes: number;

  /** `below`: what sectors that are not stored read. */
  constructor(recipe: Recipe, below: Uint8Array = new Uint8Array(recipe.size)) {
    this.#recipe = recipe;
    const { extent, size, stored } = recipe;
    this.catalogEntries = recipe.catalog ?? Math.ceil(size / extent);
    this.#bitmapBytes = recipe.bitmap ?? Math.ceil(extent / SECTOR / 8);
    this.content = below.slice();
    this.bytes = new Uint8Array(this.slotOffset(stored.length));
    this.#putHeader();
    const catalog = new DataView(this.bytes.buffer, HEADER_MIN, 4 * this.catalogEntries);
    for (let entry = 0; entry < this.catalogEntries; entry++) catalog.setUint32(4 * entry, ENTRY_FREE, true);
    for (const [slot, entry] of stored.entries()) {
      catalog.setUint32(4 * entry, slot, true);
      this.#fill(slot, entry);
    }
  }

  slotOffset(slot: number): number {
    const slotBytes = SECTOR * (SECTORS(this.#bitmapBytes) + SECTORS(this.#recipe.extent));
    return HEADER_MIN + 4 * this.catalogEntries + slot * slotBytes;
  }

  #putHeader(): void {
    const { version = 2, subtype = 'Growing', extent, size } = this.#recipe;
    const { catalogEntries, bytes } = this;
    const start = { magic: MAGIC, type: TYPE, subtype, headerSize: HEADER_MIN, catalogEntries, extentBytes: extent };
    const versionWord = version === 1 ? VERSION_1 : VERSION_2;
    bytes.set(HEADER.encode({ ...start, version: versionWord, bitmapBytes: this.#bitmapBytes }));
    const rest = version === 1 ? REST[1].encode({ diskSize: size }) : REST[2].encode({ reserved: 0, diskSize: size });
    bytes.set(rest, HEADER.size);
  }

  /** Two sectors of three, and all of every third extent. */
  #fill(slot: number, entry: number): void {
    const { extent, size } = this.#recipe;
    const random = new Random(entry + 1);
    const at = this.slotOffset(slot);
    const data = at + SECTOR * SECTORS(this.#bitmapBytes);
    for (let sector = 0; sector < extent / SECTOR; sector++) {
      const guest = entry * extent + sector * SECTOR;
      if (guest >= size || (entry % 3 !== 0 && sector % 3 === 1)) continue;
      const byte = at + (sector >> 3);
      this.bytes[byte] = (this.bytes[byte] ?? 0) | (1 << (sector & 7));
      const sectorBytes = randomBytes(random, SECTOR);
      this.bytes.set(sectorBytes, data + sector * SECTOR);
      this.content.set(sectorBytes.subarray(0, Math.min(SECTOR, size - guest)), guest);
    }
  }
}

const EFFECTS: Readonly<Record<string, Effect>> = {
  // Without it the file is a raw disk.
  magic: 'free',
  // Each of these is another layout.
  version: 'free',
  headerSize: 'free',
  catalogEntries: 'free',
  bitmapBytes: 'free',
  extentBytes: 'free',
};

function anatomyOf({ extent, size, version = 2, stored }: Recipe, built: Builder): Anatomy {
  const rest: FieldTable = version === 1 ? REST[1] : REST[2];
  const place = (name: string, table: FieldTable, offset: number, effects: StructPlace['effects']): StructPlace => {
    return { name, table, offset, littleEndian: true, effects };
  };
  const bitmap = { size: 1, fields: { sectors: { offset: 0, size: 1 } } };
  const slots = stored.length;
  return {
    structs: [
      place('header', HEADER, 0, EFFECTS),
      place('rest of the header', rest, HEADER.size, { reserved: 'exact', diskSize: 'prefix' }),
      ...(slots === 0 ? [] : [place('bitmap', bitmap, built.slotOffset(0), { sectors: 'free' as const })]),
    ],
    tables: [
      {
        name: 'catalog',
        offset: HEADER_MIN,
        count: built.catalogEntries,
        entryBytes: 4,
        littleEndian: true,
        values: [ENTRY_FREE, Math.max(slots - 1, 0), slots, slots + 1].map(BigInt),
        guestRange: (index) => [Math.min(index * extent, size), Math.min((index + 1) * extent, size)],
      },
    ],
    edges: [HEADER_MIN, ...stored.map((_, slot) => built.slotOffset(slot)), built.bytes.length],
  };
}

function sample(name: string, recipe: Recipe, below?: Uint8Array): Sample {
  const built = new Builder(recipe, below);
  const virtualSize = recipe.size - (recipe.size % SECTOR);
  return {
    name,
    format: 'bochs',
    bytes: built.bytes,
    beside: below === undefined ? [] : [{ name: 'below.raw', bytes: below }],
    anatomy: anatomyOf(recipe, built),
    virtualSize,
    content: built.content.subarray(0, virtualSize),
    golden: false,
    every: 1,
    differencing: below !== undefined,
  };
}

const EXTENT = 4096;
const SIZE = 12 * EXTENT - 3 * SECTOR;
const STORED = [7, 8, 1, 3, 11, 10];

const hostile: HostileKit = {
  async samples() {
    return [
      sample('growing', { extent: EXTENT, size: SIZE, stored: STORED }),
      sample('version 1', { version: 1, extent: EXTENT, size: SIZE, stored: STORED }),
      sample('extents of a sector', { extent: SECTOR, size: 20 * SECTOR, stored: [3, 4, 0, 19] }),
      sample('large extents', { extent: 65_536, size: 3 * 65_536, stored: [2, 0] }),
      sample('long bitmaps and a long catalog', {
        extent: EXTENT,
        bitmap: 600,
        catalog: 31,
        size: SIZE,
        stored: STORED,
      }),
      sample('nothing stored', { extent: EXTENT, size: SIZE, stored: [] }),
      sample('a part of a sector', { extent: EXTENT, size: SIZE + 100, stored: STORED }),
    ];
  },
  hollow: () => [hollow('a catalog of 4 MiB, all slot 0', 2 ** 20)],
};

/** A header, and a catalog that is a hole. */
function hollow(name: string, catalogEntries: number) {
  const bytes = new Builder({ extent: SECTOR, size: SECTOR, stored: [] }).bytes.slice(0, HEADER_MIN);
  HEADER.put(bytes, 'catalogEntries', catalogEntries);
  bytes.set(REST[2].encode({ reserved: 0, diskSize: catalogEntries * SECTOR }), HEADER.size);
  const image = { name, size: HEADER_MIN + 4 * catalogEntries + 2 * SECTOR, pieces: [{ offset: 0, bytes }] };
  return { name, image, beside: [], content: null, differencing: false };
}

/** An undoable redolog and a volatile one, over a disk that they do not name. */
function unlinked(): Sample[] {
  const below = randomBytes(new Random(50), SIZE);
  return ['Undoable', 'Volatile'].map((subtype) =>
    sample(subtype.toLowerCase(), { subtype, extent: EXTENT, size: SIZE, stored: STORED }, below),
  );
}

export const kit: FormatKit = {
  format: 'bochs',
  golden: { without: 'no program makes them here' },
  hostile,
  unlinked,
  peers: async () => {
    const { qemu } = await import('../peers/qemu.ts');
    return [qemu({ format: 'bochs', readOnly: true, checks: false, mapless: true, cannot: () => null })];
  },
};
