/**
 * Looks at images with both programs, without changing anything: content, snapshots, bitmaps, parents, sizes, options,
 * allocation, and what the checks say.
 */
import { readFile, realpath, rm } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import type { Extent } from '../../src/disk/device.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { readBitmaps } from '../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { offsetOf } from '../../src/formats/qcow2/clusters/cluster-map.ts';
import { readHeader } from '../../src/formats/qcow2/open.ts';
import type { BitmapInfo } from '../../src/image/contract.ts';
import { checkImage, Disk } from '../../src/index.ts';
import { localFiles } from '../../src/storage/local/index.ts';
import { Mismatch } from '../model/mismatch.ts';
import { peerRuns } from '../peers/qemu.ts';
import { expectSameMap } from '../peers/same-map.ts';
import type { Bitmap } from './bits.ts';
import { type Content, recognise } from './content.ts';
import { execute } from './programs.ts';
import { chainOf, type Img, MIB, type Qcow2Facts, qemuReads, type World } from './world.ts';

/** Depth of an examination. */
export interface Depth {
  /** The content of all snapshots, by both programs; else of the newest one, by vdkit. */
  readonly snapshots: boolean;
  /** A process was killed a moment ago: counts may be too high, flags missing, until the next session for writing. */
  readonly cut: boolean;
}

/** Compares an image with what it must be, and returns what it is: where it may be one or the other, as it was found. */
export async function lookAt(world: World, image: Img, folder: string, depth: Depth): Promise<Img> {
  const byVdkit = await readByVdkit(world, image, folder, depth);
  const found = { ...image, content: byVdkit.content, or: [], ...byVdkit.adopted };
  await checkByVdkit(found, depth);
  if (found.format === 'qcow2') await compareBits(found);
  if (qemuReads(world, image.name)) await readByQemu(world, found, byVdkit.extents, depth);
  return found;
}

function differs(image: Img, what: string): never {
  throw new Mismatch(`${image.name}: ${what}`);
}

interface Read {
  readonly content: Content;
  readonly extents: readonly Extent[];
  /** Facts kept by a copy. */
  readonly adopted: Partial<Img>;
}

async function readByVdkit(world: World, image: Img, folder: string, depth: Depth): Promise<Read> {
  await using disk = await opened(image, folder);
  const { info } = disk.images.at(-1) ?? differs(image, 'there is no image');
  if (info.format !== image.format) differs(image, `vdkit takes it for ${info.format}`);
  // A parent that is not as it was remembered, repairs: none of it may be needed.
  if (disk.warnings.length > 0 && !depth.cut) differs(image, `vdkit warns: ${disk.warnings.join(' ')}`);
  await compareChain(world, image, disk);
  const content = await readAll(image, disk, [image.content, ...image.or], 'vdkit');
  const adopted = image.adopted === true ? await adoptedFrom(image, disk) : {};
  const { snapshots, bitmaps } = { ...image, ...adopted };
  const names = (info.snapshots ?? []).map(({ name, virtualSize }) => `${name} of ${virtualSize} bytes`);
  const wanted = snapshots.map(({ name, content: { size } }) => `${name} of ${size} bytes`);
  if (names.join() !== wanted.join()) differs(image, `vdkit finds the snapshots ${names}, not ${wanted}`);
  const recorded = depth.cut ? spoiled(bitmaps, info.bitmaps ?? []) : bitmaps;
  const bits = (info.bitmaps ?? []).map(describeBitmap);
  const wantedBits = recorded.map(describeBitmap);
  if (bits.join() !== wantedBits.join()) differs(image, `vdkit finds the bitmaps ${bits}, not ${wantedBits}`);
  for (const snapshot of depth.snapshots ? snapshots : snapshots.slice(-1)) {
    await using state = await opened(image, folder, snapshot.name);
    await readAll(image, state, [snapshot.content], `vdkit, at snapshot ${snapshot.name},`);
  }
  const extents: Extent[] = [];
  for await (const extent of disk.extents()) extents.push(extent);
  return { content, extents, adopted: { ...adopted, bitmaps: recorded } };
}

/** Those that record may be lost when a program is killed, and all of an image whose size was about to change. */
function spoiled(bitmaps: readonly Bitmap[], found: readonly BitmapInfo[]): Bitmap[] {
  return bitmaps.map((bitmap) => {
    const lost = found.some(({ name, inconsistent }) => name === bitmap.name && inconsistent);
    return lost ? { ...bitmap, inconsistent: true } : bitmap;
  });
}

/** As `info` of either program says it. */
function describeBitmap({
  name,
  granularity,
  enabled,
  inconsistent,
}: {
  readonly name: string;
  readonly granularity: number;
  readonly enabled: boolean;
  readonly inconsistent?: boolean;
}): string {
  return `${name} of ${granularity} bytes${enabled ? ', enabled' : ''}${inconsistent ? ', inconsistent' : ''}`;
}

/** Options of a copy, and its snapshots and bitmaps, as the original has them; it may have none. */
async function adoptedFrom(image: Img, disk: ChainDisk): Promise<Partial<Img>> {
  const { info } = disk.images.at(-1) ?? differs(image, 'there is no image');
  const kept = <T extends { readonly name: string }>(
    all: readonly T[],
    some: readonly { readonly name: string }[],
  ): T[] => all.filter(({ name }) => some.some((one) => one.name === name));
  const snapshots = kept(image.snapshots, info.snapshots ?? []);
  const bitmaps = kept(image.bitmaps, info.bitmaps ?? []);
  if (image.qcow2 === null) return { snapshots, bitmaps, adopted: false };
  const told: QemuInfo = JSON.parse(await askQemu(image, 'info', '--output=json', '-f', 'qcow2', image.name));
  return { snapshots, bitmaps, adopted: false, qcow2: factsOf(told, image.qcow2.compressed) };
}

function opened(image: Img, folder: string, snapshot?: string): Promise<Disk> {
  const some = snapshot === undefined ? {} : { snapshot };
  return Disk.open(image.name, { format: image.format, allow: [folder, join(folder, 'other')], ...some }).catch(
    (error: unknown) => {
      throw new Mismatch(`vdkit does not open ${image.name}: ${String(error)}`, { cause: error });
    },
  );
}

async function compareChain(world: World, image: Img, disk: ChainDisk): Promise<void> {
  const found = await Promise.all(disk.images.map(({ name }) => realpath(name)));
  const wanted = await Promise.all(
    chainOf(world, image.name)
      .reverse()
      .map(({ name }) => realpath(name)),
  );
  if (found.join() !== wanted.join()) differs(image, `vdkit reads the chain ${found}, not ${wanted}`);
}

async function readAll(image: Img, disk: ChainDisk, wanted: readonly Content[], who: string): Promise<Content> {
  // What is left unread must not look right.
  const bytes = new Uint8Array(disk.size).fill(0xe5);
  await disk.read(0, bytes);
  return recognised(image, bytes, wanted, who);
}

function recognised(image: Img, bytes: Uint8Array, wanted: readonly Content[], who: string): Content {
  for (const size of new Set(wanted.map((one) => one.size))) {
    const found = recognise(
      bytes,
      wanted.filter((one) => one.size === size),
    );
    if ('equals' in found) return found;
    if (size === bytes.length)
      differs(image, `${who} reads other bytes at ${found.wrongAt}: ${describeAt(bytes, wanted, found.wrongAt)}`);
  }
  return differs(image, `${who} reads ${bytes.length} bytes, not ${wanted.map((one) => one.size).join(' or ')}`);
}

const SHOWN = 12;

function describeAt(bytes: Uint8Array, wanted: readonly Content[], at: number): string {
  const hex = (part: Uint8Array): string => Buffer.from(part).toString('hex');
  const page = 64 * 1024;
  const ours = wanted.map((one) => hex(one.page(Math.floor(at / page)).subarray(at % page, (at % page) + SHOWN)));
  return `${hex(bytes.subarray(at, at + SHOWN))}, not ${ours.join(' or ')}`;
}

async function checkByVdkit(image: Img, { cut }: Depth): Promise<void> {
  if (image.format === 'raw') return;
  const { findings } = await checkImage(image.name, { format: image.format });
  const bad = findings.filter(
    ({ severity }) => severity === 'corruption' || (severity === 'leak' && !image.leaky && !cut),
  );
  if (bad.length > 0)
    differs(image, `vdkit's check: ${bad.map(({ code, message }) => `${code}: ${message}`).join('; ')}`);
}

/** The bits in the file. */
async function compareBits(image: Img): Promise<void> {
  if (image.bitmaps.length === 0) return;
  const file = await readFile(image.name);
  const storage = await localFiles().open(resolve(image.name), 'read');
  try {
    const header = await readHeader(storage);
    const stored = await readBitmaps(storage, header);
    for (const bitmap of image.bitmaps.filter(({ inconsistent }) => inconsistent !== true)) {
      const its = stored.find(({ name }) => name === bitmap.name);
      if (its === undefined) differs(image, `the bitmap ${bitmap.name} is gone`);
      compareBitsOf(image, bitmap, file, its.tableOffset, header.clusterSize);
    }
  } finally {
    await storage.close();
  }
}

function compareBitsOf(image: Img, bitmap: Bitmap, file: Buffer, tableOffset: number, clusterSize: number): void {
  const { name, granularity, must, may } = bitmap;
  for (let bit = 0; bit * granularity < image.content.size; bit++) {
    const entry = tableOffset + 8 * Math.floor(bit / (clusterSize * 8));
    const [high, low] = [file.readUInt32BE(entry), file.readUInt32BE(entry + 4)];
    const offset = offsetOf(high, low);
    const byte = offset === 0 ? (low & 1) * 0xff : (file[offset + (Math.floor(bit / 8) % clusterSize)] ?? 0);
    const isSet = ((byte >> (bit % 8)) & 1) === 1;
    if (isSet ? may.has(bit) || must.has(bit) : !must.has(bit)) continue;
    differs(
      image,
      `bit ${bit} of ${name} (${granularity} bytes) ${isSet ? 'is set, though nothing was written there' : 'lacks a change'}`,
    );
  }
}

async function askQemu(image: Img, ...words: string[]): Promise<string> {
  const { status, output, errors } = await execute('qemu-img', words);
  return status === 0 ? output : differs(image, `qemu-img ${words.join(' ')}: ${errors}`);
}

async function readByQemu(world: World, image: Img, extents: readonly Extent[], depth: Depth): Promise<void> {
  const { name, format } = image;
  await checkByQemu(image, depth);
  const ask = (...words: string[]): Promise<string> => askQemu(image, ...words);
  await compareFacts(image, JSON.parse(await ask('info', '--output=json', '-f', format, name)));
  const raw = 'seen-by-qemu.tmp';
  await ask('convert', '-f', format, '-O', 'raw', name, raw);
  recognised(image, await readFile(raw), [image.content], 'QEMU');
  for (const { name: snapshot, content } of depth.snapshots ? image.snapshots : []) {
    await ask('convert', '-f', format, '-l', `snapshot.name=${snapshot}`, '-O', 'raw', name, raw);
    // It copies as many bytes as the disk has now.
    const length = Math.min(content.size, image.content.size);
    recognised(
      image,
      (await readFile(raw)).subarray(0, length),
      [content.resized(length)],
      `QEMU, at snapshot ${snapshot},`,
    );
  }
  await rm(raw);
  if (chainOf(world, name).some((one) => one.format !== 'qcow2')) return;
  const theirs = JSON.parse(await ask('map', '--output=json', '-f', format, name));
  try {
    expectSameMap(extents, peerRuns(theirs, { backing: true }));
  } catch (error) {
    differs(image, `the maps differ: ${String(error).slice(0, 400)}`);
  }
}

/** `qemu-img check`: 0 is clean, 3 is lost room. */
async function checkByQemu(image: Img, { cut }: Depth): Promise<void> {
  if (image.format === 'raw') return;
  const { status, output, errors } = await execute('qemu-img', ['check', '-f', image.format, image.name]);
  if (status === 0 || (status === 3 && (image.leaky || cut)) || cut) return;
  if (image.leaky && lacksFlagsOnly(image, `${errors}${output}`)) return;
  // What a cut leaves unused in a VDI is lost room for vdkit, and an error for QEMU.
  if (image.format === 'vdi' && image.leaky) return;
  differs(image, `qemu-img check ends with ${status}: ${errors}${output}`.slice(0, 600));
}

/** vdkit sets flags that a cut left missing where it opens an image, unless its tables are very large. */
function lacksFlagsOnly({ qcow2 }: Img, said: string): boolean {
  const errors = said.split('\n').filter((line) => line.startsWith('ERROR'));
  const missing = errors.every((line) => /^ERROR OFLAG_COPIED .* refcount=1$/.test(line));
  return errors.length > 0 && missing && (qcow2?.clusterSize ?? 0) >= MIB;
}

/** Fields used from `qemu-img info --output=json`. */
interface QemuInfo {
  readonly 'virtual-size': number;
  readonly 'cluster-size'?: number;
  readonly 'full-backing-filename'?: string;
  readonly snapshots?: readonly { readonly name: string }[];
  readonly 'format-specific'?: {
    readonly data: {
      readonly compat: string;
      readonly 'refcount-bits': number;
      readonly 'compression-type': string;
      readonly 'lazy-refcounts'?: boolean;
      readonly 'extended-l2'?: boolean;
      readonly 'data-file'?: string;
      readonly 'data-file-raw'?: boolean;
      readonly bitmaps?: readonly { readonly name: string; readonly granularity: number; readonly flags: string[] }[];
    };
  };
}

/** The options of an image, as QEMU sees them. */
function factsOf(info: QemuInfo, compressed: boolean): Qcow2Facts | null {
  const data = info['format-specific']?.data;
  if (info['cluster-size'] === undefined || data === undefined) return null;
  const dataFile = data['data-file'];
  return {
    version: data.compat === '0.10' ? 2 : 3,
    clusterSize: info['cluster-size'],
    extendedL2: data['extended-l2'] ?? false,
    refcountBits: data['refcount-bits'],
    lazyRefcounts: data['lazy-refcounts'] ?? false,
    zstd: data['compression-type'] === 'zstd',
    dataFile: dataFile === undefined ? null : relative('.', dataFile),
    rawDataFile: data['data-file-raw'] ?? false,
    compressed,
  };
}

async function compareFacts(image: Img, info: QemuInfo): Promise<void> {
  const expect = (what: string, found: unknown, wanted: unknown): void => {
    if (found !== wanted) differs(image, `QEMU finds ${what} ${found}, not ${wanted}`);
  };
  expect('the size', info['virtual-size'], image.content.size);
  const names = (info.snapshots ?? []).map(({ name }) => name);
  expect('the snapshots', names.join(), image.snapshots.map(({ name }) => name).join());
  const backing = info['full-backing-filename'];
  const parent = image.parent === null ? null : await realpath(image.parent);
  expect('the parent', backing === undefined ? null : await realpath(backing), parent);
  if (image.qcow2 === null) return;
  expect('the options', JSON.stringify(factsOf(info, image.qcow2.compressed)), JSON.stringify(image.qcow2));
  // A QEMU that was killed leaves the whole list marked as out of date, and lists none of them then.
  const stored = (info['format-specific']?.data.bitmaps ?? []).filter(({ flags }) => !flags.includes('in-use'));
  const bitmaps = stored.map((one) => describeBitmap({ ...one, enabled: one.flags.includes('auto') }));
  const wanted = image.bitmaps.filter(({ inconsistent }) => inconsistent !== true).map(describeBitmap);
  expect('the bitmaps', bitmaps.join(), wanted.join());
}
