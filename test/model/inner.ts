/**
 * Expected internals of an image besides the disk: each snapshot is a copy of the array, each bitmap two sets of bits,
 * those that must be set and those that may be.
 *
 * A bit must be set where bytes changed while the bitmap recorded, and may be where data was written.
 */
import type { ChainDisk } from '../../src/disk/disk.ts';
import { isImageError } from '../../src/errors.ts';
import { readBitmaps } from '../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { offsetOf } from '../../src/formats/qcow2/clusters/cluster-map.ts';
import { readHeader } from '../../src/formats/qcow2/open.ts';
import type { Source } from '../../src/storage/contract.ts';
import { copyOf, type DiskContent, fits } from './content.ts';
import { fileBytes } from './extents.ts';
import type { BitmapOperation, SnapshotOperation } from './inner-operations.ts';
import { Mismatch } from './mismatch.ts';

/** A snapshot and what it must read. */
export interface KeptState {
  readonly name: string;
  readonly content: DiskContent;
}

interface KeptBitmap {
  readonly name: string;
  readonly granularity: number;
  enabled: boolean;
  /** One byte for each bit. */
  must: Uint8Array;
  may: Uint8Array;
}

/** More make a run slow, and no difference. */
const MOST = 5;

/** See the head of this file. */
export class InnerModel {
  states: KeptState[] = [];
  #bitmaps: KeptBitmap[] = [];
  #names = 0;
  /** Bitmaps are as long as the disk, and stored again only when it is closed. */
  #resized = false;

  /** Does it and says what the disk must read from then on; null: it was refused, which leaves all as it was. */
  async snapshot(
    { act, pick }: SnapshotOperation,
    disk: ChainDisk,
    now: DiskContent,
  ): Promise<{ readonly did: string; readonly content: DiskContent } | null> {
    const { snapshots } = disk;
    const some = this.states[pick % Math.max(this.states.length, 1)];
    if (act === 'create' || some === undefined) {
      if (this.states.length >= MOST) return null;
      const name = `state ${++this.#names}`;
      if (!(await allowed(snapshots.create(name, { createdMs: 1_700_000_000_000 + pick })))) return null;
      this.states.push({ name, content: copyOf(now) });
      return { did: 'snapshot create', content: now };
    }
    if (act === 'apply') {
      if (!(await allowed(snapshots.apply(some.name)))) return null;
      const content = copyOf(some.content);
      this.#applied(now, content);
      return { did: 'snapshot apply', content };
    }
    if (act === 'delete') {
      await snapshots.delete(some.name);
      this.states = this.states.filter((one) => one !== some);
    } else {
      const name = `renamed ${++this.#names}`;
      await snapshots.rename(some.name, name);
      this.states = this.states.map((one) => (one === some ? { ...one, name } : one));
    }
    return { did: `snapshot ${act}`, content: now };
  }

  /** False: it was refused. */
  async bitmap({ act, pick, granularity }: BitmapOperation, disk: ChainDisk): Promise<boolean> {
    const { bitmaps } = disk;
    const some = this.#bitmaps[pick % Math.max(this.#bitmaps.length, 1)];
    if (act === 'add' || some === undefined) {
      if (this.#bitmaps.length >= MOST) return false;
      const name = `bits ${++this.#names}`;
      const enabled = pick % 4 > 0;
      if (!(await allowed(bitmaps.add(name, { granularity, enabled })))) return false;
      const count = Math.ceil(disk.size / granularity);
      this.#bitmaps.push({ name, granularity, enabled, must: new Uint8Array(count), may: new Uint8Array(count) });
      return true;
    }
    if (act === 'remove') {
      await bitmaps.remove(some.name);
      this.#bitmaps = this.#bitmaps.filter((one) => one !== some);
    } else if (act === 'clear') {
      await bitmaps.clear(some.name);
      some.must.fill(0);
      some.may.fill(0);
    } else if (act === 'merge') {
      const other = this.#bitmaps[(pick + 1) % this.#bitmaps.length];
      if (other === undefined || other === some) return false;
      await bitmaps.merge(some.name, [other.name]);
      mergeBits(some, other);
    } else {
      await bitmaps[act](some.name);
      some.enabled = act === 'enable';
    }
    return true;
  }

  /** Bytes before and after. Bytes whose old value is uncertain prove nothing. */
  noteChange(offset: number, before: DiskContent, after: Uint8Array): void {
    for (const { enabled, granularity, must } of this.#bitmaps) {
      if (!enabled) continue;
      for (let at = offset; at < offset + after.length; ) {
        const bit = Math.floor(at / granularity);
        const end = Math.min((bit + 1) * granularity, offset + after.length);
        if (must[bit] === 0 && changed(before, at, after.subarray(at - offset, end - offset))) must[bit] = 1;
        at = end;
      }
    }
  }

  /** Something was written, or given up: then all of a unit may be given up with it. */
  noteRequest(from: number, bytes: number, unit = 1): void {
    const offset = from - (from % unit);
    const length = Math.ceil((from + bytes) / unit) * unit - offset;
    for (const { enabled, granularity, may } of this.#bitmaps) {
      if (enabled) may.fill(1, Math.floor(offset / granularity), Math.ceil((offset + length) / granularity));
    }
  }

  reopened(): void {
    this.#resized = false;
  }

  /** The disk has another size. */
  resized(size: number): void {
    this.#resized = true;
    for (const bitmap of this.#bitmaps) {
      const count = Math.ceil(size / bitmap.granularity);
      const old = bitmap.must.length;
      bitmap.must = lengthened(bitmap.must, count);
      bitmap.may = lengthened(bitmap.may, count);
      // Whether what is new, or what a cut unit lost, counts as a change is not promised.
      if (bitmap.enabled) bitmap.may.fill(1, Math.min(old, count) - 1);
    }
  }

  #applied(before: DiskContent, after: DiskContent): void {
    const length = Math.min(before.bytes.length, after.bytes.length);
    const certain = after.bytes.slice(0, length);
    for (let at = 0; at < length; at++) if (after.loose[at] === 1) certain[at] = before.bytes[at] ?? 0;
    this.noteChange(0, before, certain);
    this.noteRequest(0, after.bytes.length);
  }

  /** A disk that reads a snapshot, opened on copies of the files. */
  async compareStates(open: (snapshot: string) => Promise<ChainDisk>): Promise<void> {
    for (const { name, content } of this.states) {
      const disk = await open(name);
      try {
        if (disk.size !== content.bytes.length) throw new Mismatch(`${name} has ${disk.size} bytes`);
        const found = new Uint8Array(disk.size).fill(0xa5);
        await disk.read(0, found);
        fits(found, content, 0, name);
      } finally {
        await disk.close();
      }
    }
  }

  /** The bits in the file; those that record are only there after a close. */
  async compareBitmaps(source: Source, closed: boolean): Promise<void> {
    const file = await fileBytes(source);
    const view = new DataView(file.buffer);
    const storage = await source.provider.open(source.name, 'read');
    const header = await readHeader(storage);
    const found = await readBitmaps(storage, header);
    await storage.close();
    if (found.length !== this.#bitmaps.length) throw new Mismatch(`there are ${found.length} bitmaps`);
    for (const bitmap of this.#bitmaps) {
      const stored = found.find(({ name }) => name === bitmap.name);
      if (stored === undefined) throw new Mismatch(`the bitmap ${bitmap.name} is gone`);
      if (!closed && (bitmap.enabled || this.#resized)) continue;
      if (stored.flags !== (bitmap.enabled ? 2 : 0)) throw new Mismatch(`${bitmap.name} has flags ${stored.flags}`);
      for (let bit = 0; bit < bitmap.must.length; bit++) {
        const entry = stored.tableOffset + 8 * Math.floor(bit / (header.clusterSize * 8));
        const offset = offsetOf(view.getUint32(entry), view.getUint32(entry + 4));
        const byte = offset === 0 ? 0 : file[offset + (Math.floor(bit / 8) % header.clusterSize)];
        const isSet = (((byte ?? 0) >> (bit % 8)) & 1) === 1;
        const what = `bit ${bit} of ${bitmap.name} (${bitmap.granularity} bytes each)`;
        if (bitmap.must[bit] === 1 && !isSet) throw new Mismatch(`${what} lacks a change`);
        if (bitmap.may[bit] === 0 && isSet) throw new Mismatch(`${what} is set, and nothing was written there`);
      }
    }
  }
}

/** Permits a refusal, as long as nothing has changed. */
async function allowed(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (isImageError(error) && (error.kind === 'unsupported' || error.kind === 'limit')) return false;
    throw error;
  }
}

function changed({ bytes, loose }: DiskContent, offset: number, after: Uint8Array): boolean {
  return after.some((byte, at) => loose[offset + at] === 0 && bytes[offset + at] !== byte);
}

function lengthened(bits: Uint8Array, count: number): Uint8Array {
  const longer = new Uint8Array(count);
  longer.set(bits.subarray(0, count));
  return longer;
}

function mergeBits(target: KeptBitmap, source: KeptBitmap): void {
  for (const which of ['must', 'may'] as const) {
    for (let bit = 0; bit < source[which].length; bit++) {
      if (source[which][bit] === 0) continue;
      const start = bit * source.granularity;
      const first = Math.floor(start / target.granularity);
      const end = Math.max(Math.ceil((start + source.granularity) / target.granularity), first + 1);
      target[which].fill(1, first, end);
    }
  }
}
