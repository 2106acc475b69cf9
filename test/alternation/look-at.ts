/**
 * Looks at images with both programs, without changing anything: content, snapshots, bitmaps, parents, sizes, options,
 * allocation, and what the checks say.
 */
import { readFile, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Extent } from '../../src/disk/device.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { BitmapInfo } from '../../src/image/contract.ts';
import { checkImage, Disk } from '../../src/index.ts';
import type { InfoOfQemu, StoredBits } from '../formats/walk-kit.ts';
import { Mismatch } from '../model/mismatch.ts';
import { peerRuns } from '../peers/qemu.ts';
import { expectSameMap } from '../peers/same-map.ts';
import type { Bitmap } from './bits.ts';
import { type Content, recognise } from './content.ts';
import { formatOf, qemuReads, walkOf } from './kits.ts';
import { execute } from './programs.ts';
import { chainOf, type Img, type World } from './world.ts';

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
  await compareBits(found);
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
  const { qemuName, walk } = formatOf(image);
  if (walk.reported === undefined) return { snapshots, bitmaps, adopted: false };
  const told: InfoOfQemu = JSON.parse(await askQemu(image, 'info', '--output=json', '-f', qemuName, image.name));
  const facts = walk.reported(told, image.facts) ?? differs(image, 'QEMU reports no options');
  return { snapshots, bitmaps, adopted: false, facts };
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
  if (formatOf(image).format.check === undefined) return;
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
  const stored = await walkOf(image).bits?.(image.name);
  for (const bitmap of image.bitmaps.filter(({ inconsistent }) => inconsistent !== true)) {
    const isSet = stored?.get(bitmap.name) ?? differs(image, `the bitmap ${bitmap.name} is gone`);
    compareBitsOf(image, bitmap, isSet);
  }
}

function compareBitsOf(image: Img, bitmap: Bitmap, isSet: StoredBits): void {
  const { name, granularity, must, may } = bitmap;
  for (let bit = 0; bit * granularity < image.content.size; bit++) {
    const set = isSet(bit);
    if (set ? may.has(bit) || must.has(bit) : !must.has(bit)) continue;
    differs(
      image,
      `bit ${bit} of ${name} (${granularity} bytes) ${set ? 'is set, though nothing was written there' : 'lacks a change'}`,
    );
  }
}

async function askQemu(image: Img, ...words: string[]): Promise<string> {
  const { status, output, errors } = await execute('qemu-img', words);
  return status === 0 ? output : differs(image, `qemu-img ${words.join(' ')}: ${errors}`);
}

async function readByQemu(world: World, image: Img, extents: readonly Extent[], depth: Depth): Promise<void> {
  const { name } = image;
  const { qemuName } = formatOf(image);
  await checkByQemu(image, depth);
  const ask = (...words: string[]): Promise<string> => askQemu(image, ...words);
  await compareFacts(image, JSON.parse(await ask('info', '--output=json', '-f', qemuName, name)));
  const raw = 'seen-by-qemu.tmp';
  await ask('convert', '-f', qemuName, '-O', 'raw', name, raw);
  recognised(image, await readFile(raw), [image.content], 'QEMU');
  for (const { name: snapshot, content } of depth.snapshots ? image.snapshots : []) {
    await ask('convert', '-f', qemuName, '-l', `snapshot.name=${snapshot}`, '-O', 'raw', name, raw);
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
  if (chainOf(world, name).some((one) => !walkOf(one).qemuMaps)) return;
  const theirs = JSON.parse(await ask('map', '--output=json', '-f', qemuName, name));
  try {
    expectSameMap(extents, peerRuns(theirs, { backing: true }));
  } catch (error) {
    differs(image, `the maps differ: ${String(error).slice(0, 400)}`);
  }
}

/** `qemu-img check`: 0 is clean, 3 is lost room. */
async function checkByQemu(image: Img, { cut }: Depth): Promise<void> {
  const { qemuName, walk } = formatOf(image);
  if (!walk.qemuChecks) return;
  const { status, output, errors } = await execute('qemu-img', ['check', '-f', qemuName, image.name]);
  if (status === 0 || (status === 3 && (image.leaky || walk.leaks === true || cut)) || cut) return;
  if (image.leaky && walk.forgives?.(image, `${errors}${output}`) === true) return;
  differs(image, `qemu-img check ends with ${status}: ${errors}${output}`.slice(0, 600));
}

async function compareFacts(image: Img, info: InfoOfQemu): Promise<void> {
  const expect = (what: string, found: unknown, wanted: unknown): void => {
    if (found !== wanted) differs(image, `QEMU finds ${what} ${found}, not ${wanted}`);
  };
  expect('the size', info['virtual-size'], image.content.size);
  const names = (info.snapshots ?? []).map(({ name }) => name);
  expect('the snapshots', names.join(), image.snapshots.map(({ name }) => name).join());
  const backing = info['full-backing-filename'];
  const parent = image.parent === null ? null : await realpath(image.parent);
  expect('the parent', backing === undefined ? null : await realpath(backing), parent);
  const { reported } = walkOf(image);
  if (reported === undefined) return;
  expect('the options', JSON.stringify(reported(info, image.facts)), JSON.stringify(image.facts));
  // A QEMU that was killed leaves the whole list marked as out of date, and lists none of them then.
  const stored = (info['format-specific']?.data.bitmaps ?? []).filter(({ flags }) => !flags.includes('in-use'));
  const bitmaps = stored.map((one) => describeBitmap({ ...one, enabled: one.flags.includes('auto') }));
  const wanted = image.bitmaps.filter(({ inconsistent }) => inconsistent !== true).map(describeBitmap);
  expect('the bitmaps', bitmaps.join(), wanted.join());
}
