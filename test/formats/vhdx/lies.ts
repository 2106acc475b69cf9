/** VHDX images whose checksums are right and whose numbers and names are not. Sparse: nearly all of each is a hole. */

import { putChecksum } from '../../../src/formats/vhdx/checksum.ts';
import {
  DESCRIPTOR_BYTES,
  HEADER_OFFSETS,
  ITEM_FLAGS,
  ITEM_IDS,
  LOCATOR,
  LOG_ENTRY,
  MIB,
  PAGE,
  PARAMETER_FLAGS,
  REGION_OFFSETS,
  ZERO_DESCRIPTOR,
  ZERO_SIGNATURE,
} from '../../../src/formats/vhdx/layout.ts';
import { VHDX_LIMITS } from '../../../src/formats/vhdx/limits.ts';
import { encodeLocator, locatorPairs } from '../../../src/formats/vhdx/locator-encoder.ts';
import { encodeEntry, entryBytes, type LogPage } from '../../../src/formats/vhdx/log-entry.ts';
import type { BaseImage, Piece } from '../../hostile/protocol.ts';
import { BAT_OFFSET, batEntry, buildVhdx, guid, LOG, METADATA_OFFSET, REGIONS, type Recipe } from './build.ts';

const FILE = 8 * MIB;
const CHILD = PARAMETER_FLAGS.hasParent;

function image(name: string, recipe: Recipe, beside: BaseImage['beside'] = []): BaseImage {
  const differencing = ((recipe.flags ?? 0) & CHILD) !== 0;
  return { name, image: buildVhdx('image.vhdx', recipe), beside, content: null, differencing };
}

/** Images that a check of sums lets pass. */
export function lies(): readonly BaseImage[] {
  return [...hollow(), ...logs(), ...targets(), ...regions(), ...items(), ...tables(), ...names(), cycle()];
}

/** Structures as long as they get, in files that are holes. */
function hollow(): BaseImage[] {
  const logLength = VHDX_LIMITS.logBytes;
  const log = { logGuid: guid(9), logLength, logOffset: BigInt(16 * MIB) };
  const [bat, metadata] = REGIONS;
  const regions = [{ ...bat, fileOffset: 16 * MIB, length: 33 * MIB }, metadata];
  const long = { virtualSize: 2 ** 42, regions, size: 50 * MIB };
  return [
    image('a log of zeroes', { header: log, older: log, size: 16 * MIB + logLength }),
    image('a table of zeroes', { ...long }),
    image('a table of zeroes of a child', { ...long, flags: CHILD }),
  ];
}

interface LoggedEntry {
  readonly at: number;
  readonly sequence: bigint;
  readonly tail: number;
  readonly pages?: readonly LogPage[];
  readonly flushed?: bigint;
  readonly last?: bigint;
}

/** An entry at its place in the ring. */
function entryPieces(entry: LoggedEntry): Piece[] {
  const { at, sequence, tail, pages = [], flushed = BigInt(FILE), last = BigInt(FILE) } = entry;
  const own = { sequence, tail, logGuid: guid(9), flushedSize: flushed, lastSize: last };
  return wrapped(at, encodeEntry(own, pages));
}

function wrapped(at: number, bytes: Uint8Array): Piece[] {
  const first = bytes.subarray(0, LOG.length - at);
  const rest = bytes.subarray(first.length);
  const pieces = [{ offset: LOG.fileOffset + at, bytes: first }];
  return rest.length === 0 ? pieces : [...pieces, { offset: LOG.fileOffset, bytes: rest }];
}

function withLog(name: string, pieces: readonly Piece[]): BaseImage {
  const header = { logGuid: guid(9) };
  return image(name, { header, older: header, pieces });
}

function page(fileOffset: number, fill = 0): LogPage {
  return { fileOffset, bytes: new Uint8Array(PAGE).fill(fill) };
}

/** Runs of entries one behind the other, from a place in the ring. */
function run(count: number, entry: (index: number) => Omit<LoggedEntry, 'at'>, start = 0): Piece[] {
  const pieces: Piece[] = [];
  let at = start;
  for (let index = 0; index < count; index++) {
    const one = entry(index);
    pieces.push(...entryPieces({ ...one, at }));
    at = (at + entryBytes(one.pages?.length ?? 0)) % LOG.length;
  }
  return pieces;
}

/** Loops, wraps, entries over each other, and tails that lead anywhere. */
function logs(): BaseImage[] {
  const sectors = LOG.length / PAGE;
  const last = 2n ** 64n - 1n;
  const full = run(sectors, (index) => ({ sequence: BigInt(index + 1), tail: 0 }));
  const tails = [0, PAGE, LOG.length - PAGE, LOG.length, 2 ** 32 - PAGE, 1];
  return [
    withLog('a full ring', full),
    withLog('a full ring whose first entry is the last', [...full, ...entryPieces({ at: 0, sequence: 999n, tail: 0 })]),
    withLog(
      'a ring that goes round',
      run(sectors, (index) => ({ sequence: BigInt(index + 1), tail: 0 }), 17 * PAGE),
    ),
    withLog(
      'numbers that end',
      run(4, (index) => ({ sequence: last - 1n + BigInt(index % 2), tail: 0 })),
    ),
    withLog('the last number', entryPieces({ at: 0, sequence: last, tail: 0 })),
    withLog('number zero', entryPieces({ at: 0, sequence: 0n, tail: 0 })),
    withLog(
      'the same number everywhere',
      run(sectors, () => ({ sequence: 5n, tail: 0 })),
    ),
    withLog('entries over each other', overlapping()),
    ...tails.map((tail) =>
      withLog(
        `a tail at ${tail}`,
        run(3, (index) => ({ sequence: BigInt(index + 1), tail })),
      ),
    ),
    ...[0n, 1n, 2n ** 40n, 2n ** 47n, 2n ** 63n, last].flatMap((size) => [
      withLog(`a flushed size of ${size}`, entryPieces({ at: 0, sequence: 1n, tail: 0, flushed: size })),
      withLog(`a last size of ${size}`, entryPieces({ at: 0, sequence: 1n, tail: 0, last: size })),
    ]),
  ];
}

/** Each sector begins an entry that goes to the end of the log: a reader computes checksums for ever. */
function overlapping(): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 0; at < LOG.length; at += PAGE) {
    const head = new Uint8Array(LOG_ENTRY.size);
    LOG_ENTRY.put(head, 'signature', 0x6567_6f6c);
    LOG_ENTRY.put(head, 'length', LOG.length);
    LOG_ENTRY.put(head, 'sequence', 1n);
    LOG_ENTRY.put(head, 'logGuid', guid(9));
    pieces.push({ offset: LOG.fileOffset + at, bytes: head });
  }
  return pieces;
}

/** An entry that zeroes a range. */
function zeroing(fileOffset: bigint, length: bigint, count = 1): Piece[] {
  const own = { sequence: 1n, tail: 0, logGuid: guid(9), flushedSize: BigInt(FILE), lastSize: BigInt(FILE) };
  const bytes = encodeEntry(own, []);
  const entry = { signature: ZERO_SIGNATURE, reserved: 0, length, fileOffset, sequence: 1n };
  for (let index = 0; index < count; index++) {
    bytes.set(ZERO_DESCRIPTOR.encode(entry), LOG_ENTRY.size + index * DESCRIPTOR_BYTES);
  }
  LOG_ENTRY.put(bytes, 'count', count);
  putChecksum(bytes);
  return wrapped(0, bytes);
}

/** Changes of what no log may change, and of what lies beyond the file. */
function targets(): BaseImage[] {
  const [header] = HEADER_OFFSETS;
  const [region] = REGION_OFFSETS;
  const far = 2 ** 50;
  const places = [0, PAGE, header, region, 320 * 1024, MIB - PAGE, LOG.fileOffset, METADATA_OFFSET, FILE - PAGE, FILE];
  const lengths = [0n, 1n, BigInt(PAGE), BigInt(MIB), BigInt(FILE), 2n ** 40n, 2n ** 63n, 2n ** 64n - BigInt(PAGE)];
  return [
    ...[...places, far].map((at) =>
      withLog(`a log over ${at}`, entryPieces({ at: 0, sequence: 1n, tail: 0, pages: [page(at, 0xee)] })),
    ),
    ...lengths.map((length) => withLog(`zeroes of ${length}`, zeroing(BigInt(METADATA_OFFSET), length))),
    ...[0n, BigInt(LOG.fileOffset) - BigInt(PAGE), BigInt(FILE), 2n ** 64n - BigInt(PAGE)].map((at) =>
      withLog(`zeroes at ${at}`, zeroing(at, BigInt(2 * MIB))),
    ),
    withLog('many zeroes', zeroing(BigInt(MIB * 4), BigInt(MIB * 4), 126)),
    // What is read again after the replay is no longer what it was.
    withLog('a table of all ones', entryPieces({ at: 0, sequence: 1n, tail: 0, pages: [page(BAT_OFFSET, 0xff)] })),
    withLog('region tables that go', zeroing(BigInt(region), 128n * 1024n)),
  ];
}

/** Regions over each other, over the log and the headers, beyond the file, twice, missing, too short. */
function regions(): BaseImage[] {
  const [bat, metadata] = REGIONS;
  const other = { id: guid(30), fileOffset: 5 * MIB, length: MIB, required: false };
  const of = (name: string, list: Recipe['regions'], more: Recipe = {}) =>
    image(`regions: ${name}`, { ...more, ...(list === undefined ? {} : { regions: list }) });
  return [
    of('one', [bat]),
    of('none', []),
    of('in one place', [bat, { ...metadata, fileOffset: bat.fileOffset }]),
    of('over the log', [{ ...bat, fileOffset: LOG.fileOffset }, metadata]),
    of('over the headers', [{ ...bat, fileOffset: 0 }, metadata]),
    of('twice', [bat, metadata, bat]),
    of('beyond the file', [{ ...bat, fileOffset: FILE }, metadata]),
    of('far beyond the file', [{ ...bat, fileOffset: 2 ** 52 }, metadata]),
    of('partly beyond the file', [{ ...bat, fileOffset: FILE - MIB, length: 2 * MIB }, metadata]),
    of('not at a MiB', [{ ...bat, fileOffset: bat.fileOffset + PAGE }, metadata]),
    of('of no MiB', [{ ...bat, length: PAGE }, metadata]),
    of('of no length', [{ ...bat, length: 0 }, metadata]),
    of('as long as they get', [bat, { ...metadata, fileOffset: 4 * MIB, length: 4095 * MIB }]),
    of('of an unknown kind', [bat, metadata, { ...other, required: true }]),
    of('an unknown one over a block', [bat, metadata, other], { bat: [batEntry(6, 5)] }),
    of('an unknown one over the metadata', [bat, metadata, { ...other, fileOffset: METADATA_OFFSET }]),
    of('an unknown one beyond the file', [bat, metadata, { ...other, fileOffset: 2 ** 52 }]),
    of('a table too short for the disk', [bat, metadata], { virtualSize: 2 ** 46 }),
  ];
}

/** Metadata that is missing, there twice, too long, or contradicts itself. */
function items(): BaseImage[] {
  const sizes = [0, 1, 511, 513, 2 ** 46, 2 ** 46 + 512, 2 ** 53 - 512];
  const blocks = [0, 1, 512, MIB - 1, MIB + 1, 3 * MIB, 256 * MIB, 512 * MIB, 2 ** 31];
  const bytes = new Uint8Array(8);
  const users = Array.from({ length: 1025 }, (_, index) => ({ id: guid(100 + index), flags: ITEM_FLAGS.user, bytes }));
  const of = (name: string, recipe: Recipe) => image(`metadata: ${name}`, recipe);
  return [
    ...sizes.map((virtualSize) => of(`a disk of ${virtualSize}`, { virtualSize })),
    ...blocks.map((blockSize) => of(`blocks of ${blockSize}`, { blockSize })),
    ...[0, 1, 256, 520, 4096, 8192, 2 ** 31].map((one) => of(`sectors of ${one}`, { logicalSector: one })),
    of('nothing', { onlyItems: [] }),
    of('an item twice', { items: [{ id: ITEM_IDS.diskSize, bytes }] }),
    of('an unknown required one', { items: [{ id: guid(40), bytes }] }),
    of('an item over the table', { items: [{ id: guid(40), flags: 0, bytes, offset: 64 }] }),
    of('an item over another', { items: [{ id: guid(40), flags: 0, bytes, offset: 65_540 }] }),
    of('an item beyond the region', { items: [{ id: guid(40), flags: 0, bytes, offset: MIB - 4 }] }),
    of('an item that is too long', { items: [{ id: guid(40), flags: 0, bytes, length: 2 ** 32 - 1 }] }),
    of('too many items of users', { items: users }),
    of('all flags', { flags: 0xffff_ffff }),
    of('a child without a locator', { flags: CHILD }),
    of('a locator that no child has', { items: [{ id: ITEM_IDS.parentLocator, bytes }] }),
    of('a child with an empty locator', { flags: CHILD, items: [{ id: ITEM_IDS.parentLocator, bytes }] }),
  ];
}

/** Blocks over each other, over the metadata, and beyond the end; all states, alone and with bitmaps. */
function tables(): BaseImage[] {
  const places = [0, 1, 2, 3, 4, 7, 8, 9, 2 ** 20, 2 ** 33, 2 ** 43 - 1];
  const states = [0, 1, 2, 3, 4, 5, 6, 7];
  const bitmapAt = (entry: bigint): Piece => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, entry, true);
    return { offset: BAT_OFFSET + 4096 * 8, bytes };
  };
  const child = { flags: CHILD, items: [locatorItem(locatorPairs(stored('base.vhdx')))] };
  return [
    ...places.flatMap((mib) => [
      image(`blocks at ${mib} twice`, { bat: [batEntry(6, mib), batEntry(6, mib)] }),
      image(`blocks at ${mib} and behind it`, { bat: [batEntry(6, mib), batEntry(6, mib + 1), batEntry(6, 4)] }),
      image(`a bitmap at ${mib}`, { ...child, bat: [batEntry(7, 4)], pieces: [bitmapAt(batEntry(6, mib))] }),
    ]),
    ...states.flatMap((status) => [
      image(`state ${status}`, { bat: [batEntry(status), batEntry(status, 4), batEntry(status, 2 ** 40)] }),
      image(`state ${status} of a child`, { ...child, bat: [batEntry(status), batEntry(status, 4)] }),
      image(`a bitmap of state ${status}`, {
        ...child,
        bat: [batEntry(7, 4)],
        pieces: [bitmapAt(batEntry(status, 5))],
      }),
    ]),
    image('large blocks over each other', {
      blockSize: 4 * MIB,
      bat: [batEntry(6, 4), batEntry(6, 5)],
      size: 16 * MIB,
    }),
  ];
}

function stored(name: string, linkage: string | null = guid(2)) {
  return { relative: name, absolute: null, linkage, format: 'vhdx' };
}

function locatorItem(pairs: ReadonlyMap<string, string>) {
  return { id: ITEM_IDS.parentLocator, bytes: encodeLocator(pairs) };
}

/** Names that leave the folder, are devices, or are the image; and locators that cannot be one. */
function names(): BaseImage[] {
  const away = [
    '..\\..\\secret.vhdx',
    '\\secret\\other.raw',
    'C:\\secret.vhdx',
    '\\\\server\\share\\a.vhdx',
    '/dev/zero',
  ];
  const volume = `\\\\?\\Volume{${guid(50)}}\\secret\\other.raw`;
  const own = ['image.vhdx', '.\\image.vhdx', '.', '..', '\ud800', 'a'.repeat(30_000), `${'..\\'.repeat(9000)}x`];
  const keys = ['relative_path', 'volume_path', 'absolute_win32_path'];
  const named = keys.flatMap((key) =>
    [...away, volume, ...own].map((text) => {
      const pairs = new Map([
        ['parent_linkage', `{${guid(60)}}`],
        [key, text],
      ]);
      const title = `a parent with the ${key} ${JSON.stringify(text.slice(0, 30))}`;
      return image(title, { flags: CHILD, items: [locatorItem(pairs)] });
    }),
  );
  const odd = [
    new Map<string, string>(),
    new Map([['parent_linkage', 'not a GUID']]),
    new Map([['parent_linkage', guid(2)]]),
    new Map([['parent_format', '../../vdi']]),
    new Map([
      ['parent_format', 'raw'],
      ['relative_path', 'image.vhdx'],
    ]),
    new Map([
      ['Relative_Path', 'base.vhdx'],
      ['relative_path', 'image.vhdx'],
    ]),
  ].map((pairs, index) => image(`an odd locator ${index}`, { flags: CHILD, items: [locatorItem(pairs)] }));
  return [...named, ...odd, ...brokenLocators()];
}

/** Numbers of a locator that lead out of it. */
function brokenLocators(): BaseImage[] {
  const sound = encodeLocator(locatorPairs(stored('base.vhdx')));
  const numbers = [0, 1, 19, sound.length - 1, sound.length, 0xffff];
  return [16, 18, 20, 24, 28, 30].flatMap((at) =>
    numbers.map((value) => {
      const bytes = sound.slice();
      const view = new DataView(bytes.buffer);
      if (at === 20 || at === 24) view.setUint32(LOCATOR.size + at - 20, value === 0xffff ? 2 ** 32 - 2 : value, true);
      else view.setUint16(at, value, true);
      return image(`locator ${at} := ${value}`, { flags: CHILD, items: [{ id: ITEM_IDS.parentLocator, bytes }] });
    }),
  );
}

/** Two children that each name the other. */
function cycle(): BaseImage {
  const link = (to: string, linkage: string): Recipe => {
    return { flags: CHILD, items: [locatorItem(locatorPairs(stored(to, linkage)))] };
  };
  const other = buildVhdx('other.vhdx', { ...link('image.vhdx', guid(2)), header: { dataWriteGuid: guid(70) } });
  return image('two children of each other', link('other.vhdx', guid(70)), [other]);
}
