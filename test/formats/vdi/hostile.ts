/** VDI for the hostile suite: its header, its block map, and sound images in every layout that is read. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import {
  ENTRY_FREE,
  ENTRY_ZERO,
  HEADER,
  HEADER_SIZE_1_1,
  OLD_HEADER,
  VERSION_0_2,
} from '../../../src/formats/vdi/layout.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type { Anatomy, Effect, FileSample, HostileKit, SampleFile, StructPlace } from '../../hostile/descriptor.ts';
import { readGolden } from '../../hostile/golden-bytes.ts';
import type { BaseImage } from '../../hostile/protocol.ts';

const BLOCK = 4096;
const BLOCKS = 12;
/** Its last block is not whole. */
const DISK = BLOCKS * BLOCK - 3 * SECTOR;
/** The smallest images that VirtualBox made, of each kind. */
const GOLDEN = ['vdi-empty.vdi', 'vdi-comment.vdi', 'vdi-zeroblock-diff.vdi', 'vdi-bigreloc-before.vdi'];

const EFFECTS: Readonly<Record<string, Effect>> = {
  text: 'exact',
  comment: 'exact',
  physicalCylinders: 'exact',
  physicalHeads: 'exact',
  physicalSectors: 'exact',
  physicalSectorSize: 'exact',
  unused: 'exact',
  blocksAllocated: 'exact',
  uuid: 'exact',
  modificationUuid: 'exact',
  logicalCylinders: 'exact',
  logicalHeads: 'exact',
  logicalSectors: 'exact',
  rest: 'exact',
  diskSize: 'prefix',
  parentModificationUuid: 'exact',
  // A link that is taken away, or to another parent, changes what absent blocks read.
  parentUuid: 'free',
  mapOffset: 'free',
  dataOffset: 'free',
  blockSize: 'free',
  blockExtra: 'free',
  // Layouts before 1.0 have the data behind the map.
  blockCount: 'free',
  // Another version is another layout.
  version: 'free',
  // Without it the file is a raw disk.
  signature: 'free',
};

/** VDI's part of the hostile suite. */
export const hostile: HostileKit = {
  async samples() {
    const dynamic = await made('dynamic', []);
    const withoutLogical = edited('header of 384 bytes', dynamic, (bytes) =>
      HEADER.put(bytes, 'headerSize', HEADER_SIZE_1_1),
    );
    const variations = [withoutLogical, await made('fixed', ['fixed']), withExtra(dynamic), withLongMap(dynamic)];
    return [
      dynamic,
      { ...(await madeDiff()), every: 2 },
      ...variations.map((sample) => ({ ...sample, every: 3 })),
      oldImage(),
      ...goldenSamples(),
    ];
  },
  hollow: () => [
    hollow('one block for all', 1, 0),
    hollow('of a fixed image', 2, 0),
    hollow('all free at its end', 1, 1024),
  ],
};

/** A header, and a map of 32 MiB that is a hole but for free entries at its end: everything else is slot 0. */
function hollow(name: string, type: number, freeEntries: number): BaseImage {
  const blockCount = 2 ** 23;
  const bytes = new Uint8Array(HEADER.size);
  const dataOffset = SECTOR + 4 * blockCount;
  const values = { signature: 0xbeda_107f, version: 0x0001_0001, headerSize: 400, type, logicalSectorSize: SECTOR };
  const places = { mapOffset: SECTOR, dataOffset, blockSize: SECTOR, blockCount, diskSize: blockCount * SECTOR };
  for (const [field, value] of Object.entries({ ...values, ...places })) HEADER.put(bytes, field as 'blockSize', value);
  const free = { offset: dataOffset - 4 * freeEntries, bytes: new Uint8Array(4 * freeEntries).fill(0xff) };
  const image = { name, size: dataOffset + SECTOR, pieces: [{ offset: 0, bytes }, free] };
  return { name, image, beside: [], content: null, differencing: false };
}

/** Positions in a sound image. */
function anatomyOf(bytes: Uint8Array): Anatomy {
  const header = headerPlace(bytes);
  const isOld = header.table === OLD_HEADER;
  const diskSize = (isOld ? OLD_HEADER : HEADER).get(bytes, 'diskSize');
  const blockSize = (isOld ? OLD_HEADER : HEADER).get(bytes, 'blockSize');
  const count = (isOld ? OLD_HEADER : HEADER).get(bytes, 'blockCount');
  const mapOffset = isOld ? OLD_HEADER.size : HEADER.get(bytes, 'mapOffset');
  const dataOffset = isOld ? OLD_HEADER.size + 4 * count : HEADER.get(bytes, 'dataOffset');
  const slotBytes = blockSize + (isOld ? 0 : HEADER.get(bytes, 'blockExtra'));
  const slots = Math.floor((bytes.length - dataOffset) / slotBytes);
  const edges = Array.from({ length: Math.min(slots, 16) }, (_, slot) => dataOffset + slot * slotBytes);
  return {
    structs: [header],
    tables: [
      {
        name: 'block map',
        offset: mapOffset,
        count,
        entryBytes: 4,
        littleEndian: true,
        values: [ENTRY_FREE, ENTRY_ZERO, ENTRY_ZERO - 1, slots - 1, slots, slots + 1, count - 1, count].map((value) =>
          BigInt(Math.max(value, 0)),
        ),
        guestRange: (index) => [index * blockSize, Math.min((index + 1) * blockSize, diskSize)],
      },
    ],
    edges: [dataOffset, ...edges, bytes.length],
  };
}

function headerPlace(bytes: Uint8Array): StructPlace {
  const isOld = HEADER.get(bytes, 'version') === VERSION_0_2;
  // Which header size it is decides whether there is a logical geometry at all.
  const logicalSectorSize: Effect = HEADER.get(bytes, 'headerSize') <= HEADER_SIZE_1_1 ? 'exact' : 'same';
  return {
    name: isOld ? 'old header' : 'header',
    table: isOld ? OLD_HEADER : HEADER,
    offset: 0,
    littleEndian: true,
    effects: { ...EFFECTS, logicalSectorSize, ...(isOld ? { flags: 'exact' as const } : {}) },
  };
}

async function made(name: string, variant: readonly string[]): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  await createImage({ provider, name: '/image.vdi' }, { ...smallBlocks(), size: DISK, variant });
  await fill(provider, '/image.vdi', content, 3);
  return sampleOf(name, await bytesOf(provider, '/image.vdi'), content, []);
}

/** Over a parent: blocks that only one of them has, blocks of both, and zeroes that hide the parent's. */
async function madeDiff(): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  await createImage({ provider, name: '/base.vdi' }, { ...smallBlocks(), size: DISK });
  await fill(provider, '/base.vdi', content, 4);
  await createImage({ provider, name: '/image.vdi' }, { ...smallBlocks(), parent: { provider, name: '/base.vdi' } });
  await using disk = await openDisk(
    { provider, name: '/image.vdi' },
    { mode: 'write', format: 'vdi', allow: ['same-directory'], flushAfterMs: 0 },
  );
  const changes = randomBytes(new Random(5), BLOCK + 900);
  await disk.write(BLOCK / 2, changes);
  content.set(changes, BLOCK / 2);
  await disk.zero(8 * BLOCK, BLOCK);
  content.fill(0, 8 * BLOCK, 9 * BLOCK);
  await disk.flush();
  const base: SampleFile = { name: 'base.vdi', bytes: await bytesOf(provider, '/base.vdi') };
  return sampleOf('differencing', await bytesOf(provider, '/image.vdi'), content, [base]);
}

function smallBlocks() {
  return { format: 'vdi', config: { AllocationBlockSize: BLOCK, DataAlignment: SECTOR }, comment: 'hostile' };
}

/** Blocks in another order than the guest's, with gaps between them. */
async function fill(provider: MemoryProvider, name: string, content: Uint8Array, seed: number): Promise<void> {
  const random = new Random(seed);
  await using disk = await openDisk({ provider, name }, { mode: 'write', format: 'vdi', flushAfterMs: 0 });
  for (const block of [7, 8, 1, 10, 11]) {
    const bytes = randomBytes(random, Math.min(BLOCK, DISK - block * BLOCK) - 100);
    await disk.write(block * BLOCK + 50, bytes);
    content.set(bytes, block * BLOCK + 50);
  }
}

function edited(name: string, from: FileSample, edit: (bytes: Uint8Array) => void): FileSample {
  const bytes = from.bytes.slice();
  edit(bytes);
  return { ...from, name, bytes, anatomy: anatomyOf(bytes) };
}

/** Private bytes before every block. No known program writes such images, but the layout has them. */
function withExtra(from: FileSample): FileSample {
  const extra = SECTOR;
  const dataOffset = HEADER.get(from.bytes, 'dataOffset');
  const slots = (from.bytes.length - dataOffset) / BLOCK;
  const bytes = new Uint8Array(dataOffset + slots * (BLOCK + extra));
  bytes.set(from.bytes.subarray(0, dataOffset));
  HEADER.put(bytes, 'blockExtra', extra);
  for (let slot = 0; slot < slots; slot++) {
    const start = dataOffset + slot * BLOCK;
    bytes.set(from.bytes.subarray(start, start + BLOCK), dataOffset + slot * (BLOCK + extra) + extra);
  }
  return { ...from, name: 'extra bytes', bytes, anatomy: anatomyOf(bytes) };
}

/**
 * Entries past those of the disk, some of them with blocks: permitted, and their content must never become visible.
 */
function withLongMap(from: FileSample): FileSample {
  const virtualSize = 8 * BLOCK - SECTOR;
  const cut = edited('long map', from, (bytes) => HEADER.put(bytes, 'diskSize', virtualSize));
  const content = from.content instanceof Uint8Array ? from.content.slice(0, virtualSize) : from.content;
  return { ...cut, virtualSize, content };
}

/** The layout before 1.0, put together by hand. */
function oldImage(): FileSample {
  const blockCount = 6;
  const placed = [4, 0, 3];
  const content = new Uint8Array(blockCount * BLOCK);
  const dataOffset = OLD_HEADER.size + 4 * blockCount;
  const bytes = new Uint8Array(dataOffset + placed.length * BLOCK);
  const guid = '6f1d0000-0000-4000-8000-00000000000';
  bytes.set(
    OLD_HEADER.encode({
      ...OLD_HEADER.decode(new Uint8Array(OLD_HEADER.size)),
      text: '<<< innotek VirtualBox Disk Image >>>\n',
      signature: 0xbeda_107f,
      version: VERSION_0_2,
      type: 1,
      comment: 'old',
      diskSize: content.length,
      blockSize: BLOCK,
      blockCount,
      blocksAllocated: placed.length,
      uuid: `${guid}1`,
      modificationUuid: `${guid}2`,
    }),
  );
  const map = new DataView(bytes.buffer, OLD_HEADER.size, 4 * blockCount);
  for (let index = 0; index < blockCount; index++) map.setUint32(index * 4, ENTRY_FREE, true);
  for (const [slot, block] of placed.entries()) {
    const data = randomBytes(new Random(block + 20), BLOCK);
    content.set(data, block * BLOCK);
    bytes.set(data, dataOffset + slot * BLOCK);
    map.setUint32(block * 4, slot, true);
  }
  return sampleOf('before 1.0', bytes, content, []);
}

function goldenSamples(): FileSample[] {
  return readGolden('vdi', GOLDEN).map(({ name, bytes, beside, virtualSize, content }) => {
    const differencing = beside.length > 0;
    const base = {
      name,
      format: 'vdi',
      bytes,
      beside,
      anatomy: anatomyOf(bytes),
      golden: true,
      differencing,
      every: 15,
    };
    return { ...base, virtualSize, content };
  });
}

function sampleOf(name: string, bytes: Uint8Array, content: Uint8Array, beside: readonly SampleFile[]): FileSample {
  const base = { name, format: 'vdi', bytes, beside, anatomy: anatomyOf(bytes), golden: false, every: 1 };
  return { ...base, virtualSize: content.length, content, differencing: beside.length > 0 };
}

async function bytesOf(provider: MemoryProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  return bytes;
}
