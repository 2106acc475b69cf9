/**
 * VHDX for the hostile suite: headers, region tables, metadata, BAT, sector bitmaps and log in sound images. Where there is
 * a checksum, each structure stands twice: with one that is wrong then, and with one that fits.
 */
import { putChecksum } from '../../../src/formats/vhdx/checksum.ts';
import {
  DATA_DESCRIPTOR,
  DATA_SECTOR,
  HEADER,
  HEADER_OFFSETS,
  IDENTIFIER,
  ITEM_FLAGS,
  ITEM_IDS,
  LOCATOR,
  LOCATOR_ENTRY,
  LOG_ENTRY,
  METADATA_ENTRY,
  METADATA_TABLE,
  MIB,
  PAGE,
  PARAMETERS,
  REGION,
  REGION_IDS,
  REGION_OFFSETS,
  REGION_TABLE,
  REGION_TABLE_BYTES,
} from '../../../src/formats/vhdx/layout.ts';
import { encodeEntry } from '../../../src/formats/vhdx/log-entry.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type {
  Anatomy,
  Effect,
  FieldTable,
  FileSample,
  HostileKit,
  SampleFile,
  StructPlace,
  SummedRange,
  TablePlace,
} from '../../hostile/descriptor.ts';
import { applyEdits } from '../../hostile/pieces.ts';
import { fileBytes } from '../../model/extents.ts';
import { BAT_OFFSET, batEntry, buildVhdx, DATA_OFFSET, guid, LOG, number, REGIONS } from './build.ts';
import { lies } from './lies.ts';

const SECTOR = 512;
/** Its last block is not whole. 7-Zip takes disks of eight sectors each alone. */
const DISK = 3 * MIB - 2 * 4096;
const BLOCKS = 3;
const NAME = '/image.vhdx';
const CONFIG = { format: 'vhdx', config: { block_size: MIB } };
/** Blocks of 1 MiB that a bitmap covers, where sectors have 512 bytes. */
const RATIO = 4096;
const BITS_OF_ENTRY = 64;

/** VHDX's part of the hostile suite. */
export const hostile: HostileKit<FileSample> = {
  async samples() {
    return [
      await made('dynamic', []),
      { ...(await madeDiff()), every: 2 },
      { ...(await made('fixed', ['fixed'])), every: 6 },
      { ...logged(), every: 2 },
      { ...strange(), every: 4 },
    ];
  },
  hollow: lies,
  files: 300,
  damagedEvery: 12,
  longestRepaired: 16 * MIB,
};

type Effects = Readonly<Record<string, Effect>>;

function all(table: FieldTable, effect: Effect, others: Effects = {}): Effects {
  return { ...Object.fromEntries(Object.keys(table.fields).map((name) => [name, effect])), ...others };
}

function place(name: string, table: FieldTable, offset: number, effects: Effects, summed?: SummedRange): StructPlace {
  return { name, table, offset, littleEndian: true, effects, ...(summed === undefined ? {} : { summed }) };
}

/** A structure with the checksum in its second field, of CRC-32C. */
function summedRange(offset: number, length: number): SummedRange {
  return { offset, length, sum: { at: 4, length: 4 }, put: putChecksum };
}

/** The older header and the second table are not looked at; a wrong checksum gives way to the other one. */
function headerPlaces(bytes: Uint8Array): StructPlace[] {
  const [first, second] = HEADER_OFFSETS;
  const isSecond = HEADER.get(bytes, 'sequence', second) > HEADER.get(bytes, 'sequence', first);
  const current = isSecond ? second : first;
  const ofLog: Effects = { logGuid: 'same', logLength: 'same', logOffset: 'same', logVersion: 'same' };
  // As new as the other one, and different: neither can be the last.
  const effects = { ...ofLog, version: 'same', sequence: 'same' } as const;
  return [
    ...HEADER_OFFSETS.map((at, slot) => place(`header ${slot + 1}`, HEADER, at, all(HEADER, 'exact'))),
    place('header with a checksum', HEADER, current, all(HEADER, 'exact', effects), summedRange(current, HEADER.size)),
  ];
}

function regionPlaces(bytes: Uint8Array): StructPlace[] {
  const [first, second] = REGION_OFFSETS;
  const summed = summedRange(first, REGION_TABLE_BYTES);
  const tables = [first, second].map((at, slot) =>
    place(`region table ${slot + 1}`, REGION_TABLE, at, all(REGION_TABLE, 'exact')),
  );
  const count = REGION_TABLE.get(bytes, 'count', first);
  const entries = Array.from({ length: count }, (_, index) => {
    const at = first + REGION_TABLE.size + index * REGION.size;
    // A table that begins elsewhere holds other entries.
    const isBat = REGION.get(bytes, 'id', at) === REGION_IDS.bat;
    const effects = all(REGION, 'same', isBat ? { fileOffset: 'free', id: 'free' } : {});
    return place(`region ${index} with a checksum`, REGION, at, effects, summed);
  });
  const head = all(REGION_TABLE, 'exact', { count: 'same' });
  return [
    ...tables,
    place('region 0', REGION, first + REGION_TABLE.size, all(REGION, 'exact')),
    place('region table with a checksum', REGION_TABLE, first, head, summed),
    ...entries,
  ];
}

const NUMBER_4: FieldTable = { size: 4, fields: { value: { offset: 0, size: 4 } } };
const NUMBER_8: FieldTable = { size: 8, fields: { value: { offset: 0, size: 8 } } };
const ID: FieldTable = { size: 16, fields: { value: { offset: 0, size: 16 } } };

/** Items: their layout, and the effect of each field. */
const ITEMS: Readonly<Record<string, readonly [string, FieldTable, Effects]>> = {
  [ITEM_IDS.parameters]: ['parameters', PARAMETERS, { blockSize: 'free', flags: 'free' }],
  [ITEM_IDS.diskSize]: ['disk size', NUMBER_8, { value: 'prefix' }],
  [ITEM_IDS.diskId]: ['disk id', ID, { value: 'exact' }],
  // Larger sectors have longer chunks: other entries are those of blocks.
  [ITEM_IDS.logicalSector]: ['logical sector', NUMBER_4, { value: 'free' }],
  [ITEM_IDS.physicalSector]: ['physical sector', NUMBER_4, { value: 'same' }],
};

function metadataPlaces(bytes: Uint8Array, region: number): StructPlace[] {
  const count = METADATA_TABLE.get(bytes, 'count', region);
  const places = [place('metadata table', METADATA_TABLE, region, { reserved: 'exact', rest: 'exact', count: 'free' })];
  for (let index = 0; index < count; index++) {
    const at = region + METADATA_TABLE.size + index * METADATA_ENTRY.size;
    const { id, offset } = METADATA_ENTRY.decode(bytes, at);
    // An item that is another one, or lies elsewhere, says something else.
    const effects = { id: 'free', offset: 'free', flags: 'free', reserved: 'exact' } as const;
    places.push(place(`item ${index}`, METADATA_ENTRY, at, effects));
    const known = ITEMS[id];
    if (known !== undefined) places.push(place(known[0], known[1], region + offset, known[2]));
    if (id === ITEM_IDS.parentLocator) places.push(...locatorPlaces(region + offset));
  }
  return places;
}

/** The parent lies beside the image, and is found by its identity; without one any is taken. */
function locatorPlaces(offset: number): StructPlace[] {
  return [
    place('locator', LOCATOR, offset, { reserved: 'exact' }),
    place('linkage', LOCATOR_ENTRY, offset + LOCATOR.size, {}),
    place('relative path', LOCATOR_ENTRY, offset + LOCATOR.size + LOCATOR_ENTRY.size, {}),
  ];
}

function tablesOf(bytes: Uint8Array, bat: number): TablePlace[] {
  const bitmapEntry = bat + RATIO * 8;
  const stored = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(bitmapEntry, true);
  const ends = [bytes.length / MIB - 1, bytes.length / MIB, bytes.length / MIB + 1].map((mib) => Math.floor(mib));
  const states = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((state) => [batEntry(state), batEntry(state, 5)]);
  const places = [1, 2, 3, ...ends].flatMap((mib) => [batEntry(6, mib), batEntry(7, mib)]);
  const values = [...states, ...places, batEntry(6, 2 ** 43 - 1), batEntry(6, 4) + 0xf_fff8n];
  const base = { entryBytes: 8 as const, littleEndian: true, values };
  const range = (index: number): [number, number] => [index * MIB, Math.min((index + 1) * MIB, DISK)];
  const table: TablePlace = { ...base, name: 'BAT', offset: bat, count: BLOCKS, guestRange: range };
  if (stored === 0n) return [table];
  const everything = (): [number, number] => [0, DISK];
  const bits = BITS_OF_ENTRY * SECTOR;
  return [
    table,
    { ...base, name: 'entry of the bitmap', offset: bitmapEntry, count: 1, guestRange: everything },
    {
      ...base,
      name: 'sector bitmap',
      values: [1n, 1n << 63n, 0xffffn, 0xff00_ff00_ff00_ff00n],
      offset: Number(stored >> 20n) * MIB,
      count: Math.ceil(DISK / bits),
      guestRange: (index) => [index * bits, Math.min((index + 1) * bits, DISK)],
    },
  ];
}

function anatomyOf(bytes: Uint8Array, log: readonly StructPlace[] = []): Anatomy {
  const [first] = REGION_OFFSETS;
  const count = REGION_TABLE.get(bytes, 'count', first);
  const regions = Array.from({ length: count }, (_, index) =>
    REGION.decode(bytes, first + REGION_TABLE.size + index * REGION.size),
  );
  const at = (id: string): number => Number(regions.find((one) => one.id === id)?.fileOffset ?? 0n);
  const bat = at(REGION_IDS.bat);
  return {
    structs: [
      place('identifier', IDENTIFIER, 0, { signature: 'free', creator: 'exact' }),
      ...headerPlaces(bytes),
      ...regionPlaces(bytes),
      ...metadataPlaces(bytes, at(REGION_IDS.metadata)),
      ...log,
    ],
    tables: tablesOf(bytes, bat),
    edges: Array.from({ length: Math.ceil(bytes.length / MIB) }, (_, index) => index * MIB),
  };
}

/** Some sectors of each block but the second one. */
async function fill(provider: MemoryProvider, name: string, content: Uint8Array, seed: number): Promise<void> {
  const random = new Random(seed);
  await using disk = await openDisk({ provider, name }, { mode: 'write', format: 'vhdx', flushAfterMs: 0 });
  for (const offset of [70_000, 2 * MIB + 50, DISK - 900]) {
    const bytes = randomBytes(random, 900);
    await disk.write(offset, bytes);
    content.set(bytes, offset);
  }
}

async function made(name: string, variant: readonly string[]): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  await createImage({ provider, name: NAME }, { ...CONFIG, size: DISK, variant });
  await fill(provider, NAME, content, 3);
  return sampleOf(name, await fileBytes({ provider, name: NAME }), content);
}

/** Over a parent: blocks that only one of them has, a block that is stored in part, and zeroes that hide the parent's. */
async function madeDiff(): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  const base = { provider, name: '/base.vhdx' };
  await createImage(base, { ...CONFIG, size: DISK });
  await fill(provider, base.name, content, 4);
  await createImage({ provider, name: NAME }, { ...CONFIG, parent: base });
  const options = { mode: 'write', format: 'vhdx', allow: ['same-directory'], flushAfterMs: 0 } as const;
  await using disk = await openDisk({ provider, name: NAME }, options);
  for (const offset of [70_400, MIB + SECTOR]) {
    const bytes = randomBytes(new Random(5), 900);
    await disk.write(offset, bytes);
    content.set(bytes, offset);
  }
  await disk.zero(2 * MIB, DISK - 2 * MIB);
  content.fill(0, 2 * MIB);
  await disk.close();
  const bytes = await fileBytes(base);
  return sampleOf('differencing', await fileBytes({ provider, name: NAME }), content, [{ name: 'base.vhdx', bytes }]);
}

/** A file that was not closed: its block, and the size of its disk, are in the log alone. */
function logged(): FileSample {
  const content = new Uint8Array(DISK);
  const block = randomBytes(new Random(6), 3 * PAGE);
  content.set(block, MIB);
  const table = new Uint8Array(PAGE);
  table.set(number(batEntry(6, DATA_OFFSET / MIB), 8), 8);
  const file = buildVhdx('image', { virtualSize: DISK, pieces: [{ offset: DATA_OFFSET, bytes: block }] });
  const bytes = applyEdits(new Uint8Array(0), file.pieces, 6 * MIB);
  const flushed = BigInt(bytes.length);
  const own = { tail: 0, sequence: 9n, logGuid: guid(9), flushedSize: flushed, lastSize: flushed };
  bytes.set(encodeEntry(own, [{ fileOffset: BAT_OFFSET, bytes: table }]), LOG.fileOffset);
  for (const at of HEADER_OFFSETS) {
    const header = bytes.subarray(at, at + HEADER.size);
    HEADER.put(header, 'logGuid', guid(9));
    putChecksum(header);
  }
  const entry = summedRange(LOG.fileOffset, 2 * PAGE);
  const parts: readonly [string, FieldTable, number, Effects][] = [
    ['log entry', LOG_ENTRY, 0, { reserved: 'exact' }],
    ['descriptor', DATA_DESCRIPTOR, LOG_ENTRY.size, { leading: 'free', trailing: 'free', fileOffset: 'free' }],
    ['data sector', DATA_SECTOR, PAGE, { middle: 'free' }],
  ];
  const places = parts.flatMap(([name, layout, at, effects]) => [
    place(`${name} with a checksum`, layout, LOG.fileOffset + at, effects, entry),
    place(name, layout, LOG.fileOffset + at, {}),
  ]);
  return sampleOf('not closed', bytes, content, [], places);
}

/** Regions in another order, one and some items that no program knows, an item of users, and an early draft's flags. */
function strange(): FileSample {
  const content = new Uint8Array(DISK);
  const block = randomBytes(new Random(7), 900);
  content.set(block, 2 * MIB);
  const other = { id: guid(20), fileOffset: 5 * MIB, length: MIB, required: false };
  const regions = [other, ...REGIONS.map((one) => ({ ...one, required: false }))].reverse();
  const text = new TextEncoder().encode('kept as it is');
  const items = [
    { id: guid(21), flags: 0, bytes: text },
    { id: ITEM_IDS.diskSize, flags: ITEM_FLAGS.user, bytes: text },
    { id: guid(22), flags: 0, bytes: new Uint8Array(0), offset: 0 },
  ];
  const bat = [batEntry(2), batEntry(3, 99), batEntry(6, DATA_OFFSET / MIB)];
  const pieces = [{ offset: DATA_OFFSET, bytes: block }];
  const file = buildVhdx('image', { virtualSize: DISK, regions, items, bat, pieces });
  return sampleOf('strange', applyEdits(new Uint8Array(0), file.pieces, 6 * MIB), content);
}

function sampleOf(
  name: string,
  bytes: Uint8Array,
  content: Uint8Array,
  beside: readonly SampleFile[] = [],
  log: readonly StructPlace[] = [],
): FileSample {
  const base = { name, format: 'vhdx', bytes, beside, anatomy: anatomyOf(bytes, log), golden: false, every: 1 };
  return { ...base, virtualSize: content.length, content, differencing: beside.length > 0 };
}
