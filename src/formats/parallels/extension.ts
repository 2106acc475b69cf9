/**
 * The format extension: a cluster with sections, of which the dirty bitmap is known. vdkit shows it and does not maintain it: a
 * writer drops it before the first change, and leaves an image alone whose sections forbid that.
 */
import { md5 } from '@noble/hashes/legacy.js';
import { alignUp, divCeil, isPowerOfTwo, SECTOR } from '../../binary/numbers.ts';
import { hex } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import type { ParallelsLayout } from './header.ts';
import {
  BITMAP,
  BITMAP_ID,
  BITMAP_ONES,
  EXTENSION,
  EXTENSION_MAGIC,
  IN_USE,
  SECTION,
  SECTION_NECESSARY,
  SECTION_TRANSIT,
} from './layout.ts';

/** Bytes of the largest cluster that is read for an extension: with larger ones the image is only read. */
export const LONGEST = 64 * 1024 * 1024;

/** A dirty bitmap. */
export interface DirtyBitmap {
  /** Identity for the backup program that keeps it. */
  readonly id: string;
  /** Bytes of the disk for each bit. */
  readonly granularity: number;
}

/** A format extension as it was found. */
export interface Extension {
  /** File offsets of its cluster and of those that its bitmaps name: no cluster of the disk lies there. */
  readonly places: readonly number[];
  readonly bitmaps: readonly DirtyBitmap[];
  /** The reason why it cannot be used, or null. */
  readonly damage: string | null;
  /** A program that does not know it has written to the image since, or may have. */
  readonly outdated: boolean;
  /** The reason why the image must not be changed, or null. */
  readonly obstacle: string | null;
}

/** Reads the extension that a header names; null: there is none. Throws only where the file cannot be read. */
export async function readExtension(
  storage: Storage,
  layout: ParallelsLayout,
  options: OperationOptions,
): Promise<Extension | null> {
  const { extensionOffset, inUse } = layout.header;
  if (extensionOffset === 0n) return null;
  const outdated = inUse !== IN_USE.closed;
  const found: Found = { places: [], bitmaps: [], flags: 0n };
  const damage = await examine(storage, layout, found, options);
  return { ...found, damage, outdated, obstacle: obstacleOf(found.flags, outdated ? null : damage) };
}

function obstacleOf(flags: bigint, damage: string | null): string | null {
  if ((flags & SECTION_NECESSARY) !== 0n) return 'its format extension has a section that writers must maintain';
  if ((flags & SECTION_TRANSIT) !== 0n) return 'its format extension has a section that writers must keep';
  return damage === null ? null : `its format extension is damaged: ${damage}`;
}

interface Found {
  places: number[];
  bitmaps: DirtyBitmap[];
  /** Those of all sections. */
  flags: bigint;
}

/** Fills in what there is. Returns what is wrong with it, or null. */
async function examine(
  storage: Storage,
  layout: ParallelsLayout,
  found: Found,
  options: OperationOptions,
): Promise<string | null> {
  const { clusterSize, header } = layout;
  const place = placeOf(storage, layout, header.extensionOffset);
  if (place === null) return `it cannot be at sector ${header.extensionOffset}`;
  if (clusterSize > LONGEST) return `it is longer than ${LONGEST} bytes`;
  if (clusterSize < EXTENSION.size) return 'a cluster is too short for it';
  found.places.push(place);
  const bytes = new Uint8Array(clusterSize);
  await readPadded(storage, place, bytes, options);
  const { magic, md5: stored } = EXTENSION.decode(bytes);
  if (magic !== EXTENSION_MAGIC) return `it begins with ${hex(magic)} instead of ${hex(EXTENSION_MAGIC)}`;
  const problem = readSections(storage, layout, bytes, found);
  const sum = md5(bytes.subarray(EXTENSION.size));
  return sum.every((byte, at) => byte === stored[at]) ? problem : 'its MD5 does not match';
}

/** Place of a cluster of metadata; null: there can be none. */
function placeOf(storage: Storage, { dataStart, clusterSize }: ParallelsLayout, sector: bigint): number | null {
  const place = sector * BigInt(SECTOR);
  const isInside = place >= BigInt(dataStart) && place + BigInt(clusterSize) <= BigInt(storage.size);
  return isInside ? Number(place) : null;
}

function readSections(storage: Storage, layout: ParallelsLayout, bytes: Uint8Array, found: Found): string | null {
  for (let at = EXTENSION.size; at + SECTION.size <= bytes.length; ) {
    const { id, flags, dataSize } = SECTION.decode(bytes, at);
    if (id === 0n) return null;
    found.flags |= flags;
    const start = at + SECTION.size;
    if (start + dataSize > bytes.length) return `section ${hex(id)} is longer than the cluster`;
    if (id === BITMAP_ID) {
      const problem = readBitmap(storage, layout, bytes.subarray(start, start + dataSize), found);
      if (problem !== null) return problem;
    }
    at = start + alignUp(dataSize, 8);
  }
  return 'its sections have no end';
}

function readBitmap(storage: Storage, layout: ParallelsLayout, data: Uint8Array, found: Found): string | null {
  if (data.length < BITMAP.size) return 'the section of a dirty bitmap is too short';
  const { sectors, uuid, granularity, entries } = BITMAP.decode(data);
  if (sectors !== BigInt(layout.virtualSize / SECTOR)) return `a dirty bitmap is for a disk of ${sectors} sectors`;
  if (!isPowerOfTwo(granularity)) return `a dirty bitmap has ${granularity} sectors for each bit`;
  const length = divCeil(divCeil(Number(sectors), granularity), 8);
  const wanted = divCeil(length, layout.clusterSize);
  if (entries !== wanted || data.length !== BITMAP.size + entries * 8) {
    return `a dirty bitmap has ${entries} entries in ${data.length} bytes instead of ${wanted}`;
  }
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (let index = 0; index < entries; index++) {
    const sector = view.getBigUint64(BITMAP.size + index * 8, true);
    if (sector <= BITMAP_ONES) continue;
    const place = placeOf(storage, layout, sector);
    if (place === null) return `a part of a dirty bitmap cannot be at sector ${sector}`;
    found.places.push(place);
  }
  const id = [...uuid].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  found.bitmaps.push({ id, granularity: granularity * SECTOR });
  return null;
}
