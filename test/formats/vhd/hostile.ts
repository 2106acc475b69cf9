/** VHD for the hostile suite: footers, header and table of sound images, and images that lie with the right checksums. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { BAT_UNUSED, FOOTER, HEADER } from '../../../src/formats/vhd/layout.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type {
  Anatomy,
  Effect,
  FileSample,
  HostileKit,
  SampleFile,
  StructPlace,
  TablePlace,
} from '../../hostile/descriptor.ts';
import { readGolden } from '../../hostile/golden-bytes.ts';
import { fileBytes } from '../../model/extents.ts';
import { hollow, lies } from './lies.ts';

const BLOCK = 4096;
const BLOCKS = 12;
/** Its last block is not whole. */
const DISK = BLOCKS * BLOCK - 3 * SECTOR;
const GOLDEN = ['vhd-empty.vhd', 'vhd-odd.vhd'];
const NAME = '/image.vhd';

/** A footer with a wrong checksum gives way to the other one; a wrong copy is not looked at. */
const OF_TWO: Readonly<Record<string, Effect>> = {
  ...Object.fromEntries(Object.keys(FOOTER.fields).map((field) => [field, 'exact'])),
  // 0.1 has the checksum of 1.0.
  version: 'same',
};
/** Of a fixed image there is only one. */
const ALONE: Readonly<Record<string, Effect>> = {
  ...OF_TWO,
  cookie: 'free',
  type: 'free',
  currentSize: 'prefix',
  dataOffset: 'exact',
};
const OF_HEADER: Readonly<Record<string, Effect>> = {
  next: 'exact',
  checksum: 'exact',
  parentUuid: 'exact',
  parentTimestamp: 'exact',
  reserved: 'exact',
  parentName: 'exact',
  locators: 'exact',
  rest: 'exact',
  tableOffset: 'free',
  blockSize: 'free',
};
/** The parent is found by its identity, whatever its names are; another identity is another parent. */
const OF_CHILD: Readonly<Record<string, Effect>> = {
  ...OF_HEADER,
  parentUuid: 'free',
  parentName: 'same',
  locators: 'same',
};

/** VHD's part of the hostile suite. */
export const hostile: HostileKit<FileSample> = {
  async samples() {
    const dynamic = await made('dynamic', []);
    return [
      dynamic,
      await madeDiff(),
      elsewhere(dynamic),
      surplus(dynamic),
      { ...(await made('fixed', ['fixed'])), every: 2 },
      ...goldenSamples(),
    ];
  },
  hollow: () => [...hollow(), ...lies()],
  files: 220,
};

function anatomyOf(bytes: Uint8Array, isChild = false): Anatomy {
  const end = bytes.length - SECTOR;
  const footer = FOOTER.decode(bytes.subarray(end));
  const fixed = footer.type === 2;
  const last: StructPlace = {
    name: 'footer',
    table: FOOTER,
    offset: end,
    littleEndian: false,
    effects: fixed ? ALONE : OF_TWO,
  };
  // Without its footer a fixed image is a raw disk.
  if (fixed) return { structs: [last], tables: [], edges: [end], length: 'free' };
  const at = Number(footer.dataOffset);
  const { tableOffset, entries, blockSize } = HEADER.decode(bytes.subarray(at, at + HEADER.size));
  const slot = SECTOR + blockSize;
  const slots = Math.floor((end - tableOffset) / slot);
  const count = Math.ceil(footer.currentSize / blockSize);
  const values = [BAT_UNUSED, BAT_UNUSED - 1, 0, 1, tableOffset / SECTOR, end / SECTOR, (end - slot) / SECTOR];
  const table: TablePlace = {
    name: 'block allocation table',
    offset: tableOffset,
    count,
    entryBytes: 4,
    littleEndian: false,
    values: values.map((value) => BigInt(Math.max(Math.floor(value), 0))),
    guestRange: (index) => [index * blockSize, Math.min((index + 1) * blockSize, footer.currentSize)],
  };
  return {
    structs: [
      last,
      { ...last, name: 'footer copy', offset: 0 },
      { name: 'header', table: HEADER, offset: at, littleEndian: false, effects: isChild ? OF_CHILD : OF_HEADER },
    ],
    tables: count <= entries ? [table] : [],
    edges: Array.from({ length: Math.min(slots, 16) }, (_, number) => end - number * slot),
  };
}

async function made(name: string, variant: readonly string[]): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  await createImage({ provider, name: NAME }, { ...smallBlocks(), size: DISK, variant });
  await fill(provider, NAME, content, 3);
  return sampleOf(name, await fileBytes({ provider, name: NAME }), content, []);
}

/** Over a parent: blocks that only one of them has, blocks of both, and zeroes that hide the parent's. */
async function madeDiff(): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  await createImage({ provider, name: '/base.vhd' }, { ...smallBlocks(), size: DISK });
  await fill(provider, '/base.vhd', content, 4);
  await createImage({ provider, name: NAME }, { ...smallBlocks(), parent: { provider, name: '/base.vhd' } });
  await using disk = await openDisk(
    { provider, name: NAME },
    { mode: 'write', format: 'vhd', allow: ['same-directory'], flushAfterMs: 0 },
  );
  const changes = randomBytes(new Random(5), BLOCK + 900);
  await disk.write(BLOCK / 2, changes);
  content.set(changes, BLOCK / 2);
  await disk.zero(8 * BLOCK, BLOCK);
  content.fill(0, 8 * BLOCK, 9 * BLOCK);
  await disk.close();
  const base: SampleFile = { name: 'base.vhd', bytes: await fileBytes({ provider, name: '/base.vhd' }) };
  return sampleOf('differencing', await fileBytes({ provider, name: NAME }), content, [base]);
}

function smallBlocks() {
  return { format: 'vhd', config: { block_size: BLOCK } };
}

async function fill(provider: MemoryProvider, name: string, content: Uint8Array, seed: number): Promise<void> {
  const random = new Random(seed);
  await using disk = await openDisk({ provider, name }, { mode: 'write', format: 'vhd', flushAfterMs: 0 });
  for (const block of [7, 8, 1, 10, 11]) {
    const bytes = randomBytes(random, Math.min(BLOCK, DISK - block * BLOCK) - 100);
    await disk.write(block * BLOCK + 50, bytes);
    content.set(bytes, block * BLOCK + 50);
  }
}

/** Header and table behind the blocks, in another order. */
function elsewhere(from: FileSample): FileSample {
  const end = from.bytes.length - SECTOR;
  const footer = FOOTER.decode(from.bytes.subarray(end));
  const header = HEADER.decode(from.bytes.subarray(SECTOR, SECTOR + HEADER.size));
  const bytes = new Uint8Array(from.bytes.length + 2 * SECTOR + HEADER.size);
  bytes.set(from.bytes.subarray(0, end));
  bytes.fill(0, SECTOR, SECTOR + HEADER.size + SECTOR);
  const table = from.bytes.subarray(header.tableOffset, header.tableOffset + SECTOR);
  bytes.set(table, end);
  const headerOffset = end + 2 * SECTOR;
  bytes.set(withSum(HEADER.encode({ ...header, tableOffset: end }), HEADER.fields.checksum.offset), headerOffset);
  const moved = FOOTER.encode({ ...footer, dataOffset: BigInt(headerOffset) });
  for (const at of [0, bytes.length - SECTOR]) bytes.set(withSum(moved, FOOTER.fields.checksum.offset), at);
  return { ...from, name: 'header and table behind the blocks', bytes, anatomy: anatomyOf(bytes) };
}

/** One entry more than the disk needs, as old versions of qemu-img wrote it. */
function surplus(from: FileSample): FileSample {
  const bytes = from.bytes.slice();
  const header = bytes.subarray(SECTOR, SECTOR + HEADER.size);
  HEADER.put(header, 'entries', BLOCKS + 1);
  withSum(header, HEADER.fields.checksum.offset);
  return { ...from, name: 'an entry too many', bytes, anatomy: anatomyOf(bytes) };
}

/** The checksum of the specification, put into the bytes. */
function withSum(bytes: Uint8Array, field: number): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint32(field, 0);
  view.setUint32(field, 0xffff_ffff - bytes.reduce((sum, byte) => sum + byte, 0));
  return bytes;
}

function goldenSamples(): FileSample[] {
  return readGolden('vhd', GOLDEN).map(({ name, bytes, beside, virtualSize, content }) => {
    const isChild = beside.length > 0;
    const base = { name, format: 'vhd', bytes, beside, golden: true, differencing: isChild, every: 15 };
    return { ...base, anatomy: anatomyOf(bytes, isChild), virtualSize, content };
  });
}

function sampleOf(name: string, bytes: Uint8Array, content: Uint8Array, beside: readonly SampleFile[]): FileSample {
  const isChild = beside.length > 0;
  const base = { name, format: 'vhd', bytes, beside, anatomy: anatomyOf(bytes, isChild), golden: false, every: 1 };
  return { ...base, virtualSize: content.length, content, differencing: isChild };
}
