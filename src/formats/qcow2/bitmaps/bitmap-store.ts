/**
 * Adding, removing and changing persistent bitmaps. Each change writes the new bits, table and directory into newly
 * allocated clusters; then the header extension in the first sector names the new directory, and the counts of the old
 * clusters are lowered. Nothing else may run at the same time, and everything is flushed before.
 *
 * A session that changes the disk marks the bitmaps that record as in use, in the directory, before its first change.
 * It records in memory, and stores the bits when it ends well. A session that ends otherwise leaves them marked:
 * useless, but never wrong. Those that do not record stay valid.
 */
import { SparseBitSet } from '../../../binary/bits.ts';
import { divCeil } from '../../../binary/numbers.ts';
import { isZero } from '../../../codec/bytes.ts';
import { type ErrorKind, ImageError, isImageError, printable } from '../../../errors.ts';
import type { BitmapStore } from '../../../image/contract.ts';
import { isPromise, type MaybePromise, type OperationOptions } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import { offsetOf } from '../clusters/cluster-map.ts';
import { lowerTable, type Room, type TableHost, takeRooms, withCount, writeTable } from '../clusters/table-room.ts';
import {
  BITMAP_FLAG,
  BITMAP_NAME_MAX,
  ENTRY_BYTES,
  GRANULARITY_BITS_MAX,
  GRANULARITY_BITS_MIN,
  VERSION_3,
} from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import { type Bits, cutBits, kindOf, mergedBits, StoredBits, setBits } from './bitmap-bits.ts';
import { type Bitmap, bitmapsConsistent, bitmapTableEntries, isInUse, serializeBitmaps } from './bitmaps.ts';

/** QEMU's default minimum granularity. */
const DEFAULT_GRANULARITY_MIN = 4096;
/** Limit of the recorded bits in memory for one session. */
const RECORDED_BYTES = 64 * 1024 * 1024;
const NO_EXTRA = new Uint8Array(0);
/** Failures after which the new data is unreferenced. */
const HARMLESS: ReadonlySet<ErrorKind> = new Set(['aborted', 'corrupt', 'limit', 'unsupported']);

/** Position of the directory. */
export interface Directory {
  readonly count: number;
  readonly directoryBytes: number;
  readonly directoryOffset: number;
}

/** The image, as its bitmaps see it. */
export interface BitmapHost extends TableHost {
  readonly bitmaps: readonly Bitmap[];
  /** Makes counts and all earlier writes durable. */
  flush(): Promise<void>;
  /** Throws `unsupported` when the header cannot be switched to that directory. */
  checkDirectory(directory: Directory): Promise<void>;
  /** Switches the header to another directory, durably; null: no bitmaps. */
  changeDirectory(directory: Directory | null): Promise<void>;
  /** Replaces the list of bitmaps. */
  changed(bitmaps: readonly Bitmap[]): void;
  /** Called after a partial failure: memory and medium may differ. */
  fail(): void;
}

/** Bits of a bitmap while the image on the medium marks it as in use. */
interface Recorded {
  readonly granularityBits: number;
  /** False: it does not record and stays unchanged. */
  readonly records: boolean;
  bits: Uint8Array;
}

/** The persistent bitmaps of an image open for writing. */
export class Qcow2Bitmaps implements BitmapStore {
  readonly #host: BitmapHost;
  /** Bits of the bitmaps recorded by this session, by name. */
  readonly #recorded = new Map<string, Recorded>();
  #size = 0;

  constructor(host: BitmapHost) {
    this.#host = host;
  }

  async add(
    name: string,
    how: { readonly granularity?: number | undefined; readonly enabled: boolean },
  ): Promise<void> {
    const { header, bitmaps } = this.#host;
    this.#checkWhole();
    this.#checkName(name);
    if (bitmaps.length >= QCOW2_LIMITS.bitmaps)
      throw this.#error('limit', 'The image has the maximum number of bitmaps');
    if (header.size === 0)
      throw this.#error('unsupported', 'A disk of 0 bytes cannot have bitmaps', {
        hint: 'Resize it first (on the command line: resize).',
      });
    const granularity = how.granularity ?? Math.max(header.clusterSize, DEFAULT_GRANULARITY_MIN);
    const granularityBits = this.#granularityBits(granularity);
    const tableEntries = bitmapTableEntries(header.size, granularityBits, header.clusterSize);
    if (tableEntries * header.clusterSize > QCOW2_LIMITS.bitmapBytes) {
      throw this.#error('limit', 'The bitmap would exceed the size limit', {
        found: `${tableEntries * header.clusterSize} bytes`,
        expected: `at most ${QCOW2_LIMITS.bitmapBytes}`,
        hint: 'Choose a coarser granularity.',
      });
    }
    const flags = how.enabled ? BITMAP_FLAG.auto : 0;
    const made = { name, granularityBits, flags, tableOffset: 0, tableEntries, extra: NO_EXTRA };
    await this.#replace(null, made, new Uint8Array(0));
  }

  async remove(name: string): Promise<void> {
    const { header, bitmaps } = this.#host;
    const bitmap = this.#find(name);
    const rest = bitmaps.filter((one) => one !== bitmap);
    // Where another program wrote since, the room may be somebody else's: it leaks until the next check.
    const lower = bitmapsConsistent(header) ? await this.#clustersOf(bitmap) : [];
    await this.#switch(rest, [], lower);
  }

  async clear(name: string): Promise<void> {
    const bitmap = this.#usable(name);
    await this.#replace(bitmap, bitmap, new Uint8Array(0));
  }

  async enable(name: string, enabled: boolean): Promise<void> {
    const { bitmaps } = this.#host;
    const bitmap = this.#usable(name);
    const flags = enabled ? bitmap.flags | BITMAP_FLAG.auto : bitmap.flags & ~BITMAP_FLAG.auto;
    if (flags === bitmap.flags) return;
    await this.#switch(
      bitmaps.map((one) => (one === bitmap ? { ...bitmap, flags } : one)),
      [],
      [],
    );
  }

  async merge(name: string, sources: readonly string[], { signal }: OperationOptions = {}): Promise<void> {
    const turns = new Turns(signal, 'Merging the bitmaps');
    const bitmap = this.#usable(name);
    const from = sources.map((source) => this.#usable(source));
    const target = await this.#stored(bitmap);
    const others: StoredBits[] = [];
    for (const source of from) others.push(await this.#stored(source));
    await this.#store(bitmap, bitmap, async (index) => {
      const turn = turns.take();
      if (turn !== undefined) await turn;
      const { clusterSize, size } = this.#host.header;
      let own = await target.at(index);
      for (const source of others) own = await mergedBits(target, source, { index, own, clusterSize, size });
      return own;
    });
  }

  /** Called before the first change of content: enabled bitmaps are loaded and marked as in use. Durable. */
  async beginChanges(): Promise<void> {
    await this.#use(isEnabled);
  }

  /**
   * Called before a resize. Bitmaps are as long as the disk: until all of them are stored again they are marked,
   * including disabled ones. Durable.
   */
  async beginResize(): Promise<void> {
    await this.#use(() => true);
  }

  /** Called after a resize, successful or not. New space starts with clear bits. */
  endResize(): void {
    const { size } = this.#host.header;
    this.#size = size;
    for (const recorded of this.#recorded.values()) {
      const entries = bitmapTableEntries(size, recorded.granularityBits, this.#host.header.clusterSize);
      const bits = new Uint8Array(entries * this.#host.header.clusterSize);
      bits.set(recorded.bits.subarray(0, bits.length));
      this.#cutTail(bits, recorded);
      recorded.bits = bits;
    }
  }

  /** Loads bitmaps and marks them as in use. */
  async #use(wanted: (bitmap: Bitmap) => boolean): Promise<void> {
    const { header, bitmaps, storage } = this.#host;
    if (header.bitmaps === null || !bitmapsConsistent(header)) return;
    await this.#load(wanted);
    const next = bitmaps.map((bitmap) =>
      wanted(bitmap) ? { ...bitmap, flags: bitmap.flags | BITMAP_FLAG.inUse } : bitmap,
    );
    if (next.every(({ flags }, index) => flags === bitmaps[index]?.flags)) return;
    // In place: only flags change, each of them inside a sector.
    await writeTable(this.#host, { offset: header.bitmaps.directoryOffset }, serializeBitmaps(next));
    await storage.flush();
    this.#host.changed(next);
  }

  /** Records a change of a range. */
  noteRange(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#size);
    for (const { granularityBits, records, bits } of this.#recorded.values()) {
      const granularity = 2 ** granularityBits;
      if (records && end > offset) setBits(bits, Math.floor(offset / granularity), divCeil(end, granularity));
    }
  }

  /** Stores the recorded bits and removes the marks. */
  async endChanges(): Promise<void> {
    const recorded = [...this.#recorded];
    this.#recorded.clear();
    for (const [name, { bits }] of recorded) {
      const bitmap = this.#host.bitmaps.find((one) => one.name === name);
      if (bitmap === undefined) continue;
      const flags = bitmap.flags & ~BITMAP_FLAG.inUse;
      const tableEntries = bits.length / this.#host.header.clusterSize;
      await this.#replace(bitmap, { ...bitmap, flags, tableEntries }, bits);
    }
  }

  /** True for a bitmap marked as in use by this session, which has its bits. */
  isRecorded({ name }: Bitmap): boolean {
    return this.#recorded.has(name);
  }

  /** Loads bits as far as they fit into memory and can be read; bitmaps left out stay marked. */
  async #load(wanted: (bitmap: Bitmap) => boolean): Promise<void> {
    const { header, bitmaps } = this.#host;
    this.#size = header.size;
    let bytes = 0;
    for (const bitmap of bitmaps) {
      if (!wanted(bitmap) || isInUse(bitmap)) continue;
      const more = bitmap.tableEntries * header.clusterSize;
      if (bytes + more > RECORDED_BYTES) continue;
      bytes += more;
      try {
        const bits = await this.#bitsOf(bitmap);
        const { granularityBits } = bitmap;
        this.#recorded.set(bitmap.name, { granularityBits, records: isEnabled(bitmap), bits });
      } catch (error) {
        // A damaged bitmap does not prevent writes: it stays marked as of no use.
        if (!isImageError(error) || error.kind !== 'corrupt') throw error;
      }
    }
  }

  /** Replaces or creates a bitmap; missing bits are zero. */
  async #replace(old: Bitmap | null, bitmap: Bitmap, bits: Uint8Array): Promise<void> {
    const { clusterSize } = this.#host.header;
    await this.#store(old, bitmap, (index) => {
      const bytes = bits.subarray(index * clusterSize, (index + 1) * clusterSize);
      return bytes.length === 0 ? 'zeroes' : kindOf(bytes);
    });
  }

  /**
   * Replaces a bitmap with bits produced and written a cluster at a time. Nothing refers to them before all are
   * written, so after a cancel or a read error the space is freed.
   */
  async #store(old: Bitmap | null, bitmap: Bitmap, bitsAt: (index: number) => MaybePromise<Bits>): Promise<void> {
    const { bitmaps, header } = this.#host;
    const lower = old === null ? [] : await this.#clustersOf(old);
    const taken: Room[] = await takeRooms(this.#host, [bitmap.tableEntries * ENTRY_BYTES]);
    const [tableRoom] = taken;
    const table = new DataView(new ArrayBuffer(bitmap.tableEntries * ENTRY_BYTES));
    try {
      for (let index = 0; index < bitmap.tableEntries; index++) {
        const answer = bitsAt(index);
        const bits = this.#last(isPromise(answer) ? await answer : answer, index, bitmap);
        if (bits === 'zeroes') continue;
        table.setUint32(index * ENTRY_BYTES + 4, 1);
        if (bits === 'ones') continue;
        const [room] = await takeRooms(this.#host, [header.clusterSize]);
        if (room === undefined) continue;
        taken.push(room);
        table.setBigUint64(index * ENTRY_BYTES, BigInt(room.offset));
        await writeTable(this.#host, room, bits);
      }
    } catch (error) {
      throw await this.#letGo(taken, error);
    }
    const made = { ...bitmap, tableOffset: tableRoom?.offset ?? 0 };
    const next = old === null ? [...bitmaps, made] : bitmaps.map((one) => (one === old ? made : one));
    await this.#switch(next, [[tableRoom, new Uint8Array(table.buffer)]], lower, taken);
  }

  /** Bits of the last cluster past the end of the disk are zero, so it is never all ones. */
  #last(bits: Bits, index: number, bitmap: Bitmap): Bits {
    if (bits === 'zeroes' || index + 1 < bitmap.tableEntries) return bits;
    const { clusterSize, size } = this.#host.header;
    const bytes = bits === 'ones' ? new Uint8Array(clusterSize).fill(0xff) : bits.slice();
    const count = divCeil(size, 2 ** bitmap.granularityBits) - index * clusterSize * 8;
    cutBits(bytes, count);
    return isZero(bytes) ? 'zeroes' : bytes;
  }

  /** Writes the new data, switches the list of bitmaps in one step, and frees the clusters of the old ones. */
  async #switch(
    next: readonly Bitmap[],
    writes: readonly [Room | undefined, Uint8Array][],
    lower: readonly number[],
    taken: readonly Room[] = [],
  ): Promise<void> {
    const host = this.#host;
    const { bitmaps: before } = host.header;
    const counted = bitmapsConsistent(host.header);
    const directory = serializeBitmaps(next);
    const { room, place } = await this.#placeFor(directory, next.length, taken);
    try {
      for (const [written, bytes] of writes) await writeTable(host, written, bytes);
      await writeTable(host, room, directory);
      await host.flush();
      await host.changeDirectory(place);
      if (before !== null && counted) await lowerTable(host, before.directoryOffset, before.directoryBytes);
      for (const cluster of lower) await withCount(host.counts, cluster, () => host.counts.lower(cluster));
      await host.flush();
      host.changed(next);
    } catch (error) {
      host.fail();
      throw error;
    }
  }

  /** Room for a list, and its place as the header stores it. Refused before anything is written: then nothing is taken. */
  async #placeFor(
    directory: Uint8Array,
    count: number,
    taken: readonly Room[],
  ): Promise<{ readonly room: Room | undefined; readonly place: Directory | null }> {
    const rooms = [...taken];
    try {
      if (directory.length > QCOW2_LIMITS.bitmapDirectoryBytes) {
        throw this.#error('limit', 'The bitmap directory would exceed its size limit');
      }
      const [room] = await takeRooms(this.#host, count === 0 ? [] : [directory.length]);
      if (room === undefined) return { room, place: null };
      rooms.push(room);
      const place = { count, directoryBytes: directory.length, directoryOffset: room.offset };
      await this.#host.checkDirectory(place);
      return { room, place };
    } catch (error) {
      throw await this.#letGo(rooms, error);
    }
  }

  /** Frees space that nothing refers to, after a failure. */
  async #letGo(rooms: readonly Room[], error: unknown): Promise<unknown> {
    for (const { run } of rooms) for (let n = 0; n < run.count; n++) await this.#lower(run.first + n);
    if (!isImageError(error) || !HARMLESS.has(error.kind)) this.#host.fail();
    return error;
  }

  /** The entries of a bitmap's table. */
  async #tableOf(bitmap: Bitmap): Promise<DataView> {
    const { header, storage } = this.#host;
    if (bitmap.tableEntries * header.clusterSize > QCOW2_LIMITS.bitmapBytes) {
      throw this.#error('corrupt', 'The bitmap table exceeds its size limit');
    }
    const bytes = new Uint8Array(bitmap.tableEntries * ENTRY_BYTES);
    await readPadded(storage, bitmap.tableOffset, bytes);
    const table = new DataView(bytes.buffer);
    const clusters = new SparseBitSet();
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      const offset = offsetOf(table.getUint32(at), table.getUint32(at + 4));
      const details = { offset: bitmap.tableOffset + at };
      if (offset % header.clusterSize !== 0 || offset >= storage.size) {
        throw this.#error('corrupt', 'The offset of a bitmap is not valid', details);
      }
      if (offset === 0 || clusters.add(offset / header.clusterSize)) continue;
      throw this.#error('corrupt', 'Two parts of a bitmap overlap', details);
    }
    return table;
  }

  /** Clusters of the table and of the bits. */
  async #clustersOf(bitmap: Bitmap): Promise<number[]> {
    const { clusterSize } = this.#host.header;
    const table = await this.#tableOf(bitmap);
    const first = bitmap.tableOffset / clusterSize;
    const clusters = Array.from({ length: divCeil(table.byteLength, clusterSize) }, (_, n) => first + n);
    for (let at = 0; at < table.byteLength; at += ENTRY_BYTES) {
      const offset = offsetOf(table.getUint32(at), table.getUint32(at + 4));
      if (offset !== 0) clusters.push(offset / clusterSize);
    }
    return clusters;
  }

  /** Bits read on demand. */
  async #stored(bitmap: Bitmap): Promise<StoredBits> {
    const { header, storage } = this.#host;
    const { clusterSize } = header;
    const wanted = bitmapTableEntries(header.size, bitmap.granularityBits, clusterSize);
    if (bitmap.tableEntries !== wanted) {
      throw this.#error('corrupt', 'The length of the bitmap table does not match the disk', {
        found: `${bitmap.tableEntries} entries`,
        expected: `${wanted}`,
      });
    }
    return new StoredBits(storage, bitmap, await this.#tableOf(bitmap), clusterSize);
  }

  /** All bits of a bitmap that fits into memory. */
  async #bitsOf(bitmap: Bitmap): Promise<Uint8Array> {
    const { clusterSize } = this.#host.header;
    const stored = await this.#stored(bitmap);
    const bits = new Uint8Array(bitmap.tableEntries * clusterSize);
    for (let index = 0; index < bitmap.tableEntries; index++) {
      const piece = await stored.at(index);
      if (piece === 'ones') bits.fill(0xff, index * clusterSize, (index + 1) * clusterSize);
      else if (piece !== 'zeroes') bits.set(piece, index * clusterSize);
    }
    this.#cutTail(bits, bitmap);
    return bits;
  }

  /** Clears bits past the end of the disk. */
  #cutTail(bits: Uint8Array, { granularityBits }: Pick<Bitmap, 'granularityBits'>): void {
    cutBits(bits, divCeil(this.#host.header.size, 2 ** granularityBits));
  }

  async #lower(cluster: number): Promise<void> {
    await withCount(this.#host.counts, cluster, () => this.#host.counts.lower(cluster));
  }

  #find(name: string): Bitmap {
    const { bitmaps, header } = this.#host;
    if (header.bitmaps !== null && header.bitmaps.count !== bitmaps.length) {
      throw this.#error('corrupt', 'The list of bitmaps cannot be read, so it cannot be changed');
    }
    const found = bitmaps.find((one) => one.name === name);
    if (found !== undefined) return found;
    const some = bitmaps.slice(0, 10).map((one) => printable(one.name));
    throw this.#error('not-found', `The image has no bitmap "${printable(name)}"`, {
      hint: some.length === 0 ? 'It has none.' : `It has: ${some.join(', ')}.`,
    });
  }

  #usable(name: string): Bitmap {
    const bitmap = this.#find(name);
    if (bitmapsConsistent(this.#host.header) && !isInUse(bitmap)) return bitmap;
    throw this.#error('unsupported', `The bitmap "${printable(name)}" is inconsistent: some writes were not recorded`, {
      hint: 'Remove it, and add a new one.',
    });
  }

  /** Rejects changes to a list that another program has ignored. */
  #checkWhole(): void {
    const { header, bitmaps } = this.#host;
    if (header.version !== VERSION_3) {
      throw this.#error('unsupported', 'QCOW2 version 2 does not support bitmaps', {
        hint: 'Change it to version 3 first (on the command line: amend -o compat=1.1).',
      });
    }
    if (header.bitmaps !== null && header.bitmaps.count !== bitmaps.length) {
      throw this.#error('corrupt', 'The list of bitmaps cannot be read, so it cannot be changed');
    }
    if (bitmaps.length === 0 || bitmapsConsistent(header)) return;
    throw this.#error('unsupported', 'The bitmaps of the image are inconsistent: another program has written to it', {
      hint: 'Remove them first.',
    });
  }

  #checkName(name: string): void {
    const { length } = new TextEncoder().encode(name);
    if (length === 0 || length > BITMAP_NAME_MAX || /\p{Cc}/u.test(name)) {
      throw this.#error('invalid-argument', 'The name of the bitmap is not valid', {
        found: printable(name),
        expected: `1 to ${BITMAP_NAME_MAX} bytes without control characters`,
      });
    }
    if (!this.#host.bitmaps.some((one) => one.name === name)) return;
    throw this.#error('exists', `A bitmap "${printable(name)}" already exists`, { hint: 'Choose another name.' });
  }

  #granularityBits(granularity: number): number {
    const bits = Math.log2(granularity);
    if (Number.isInteger(bits) && bits >= GRANULARITY_BITS_MIN && bits <= GRANULARITY_BITS_MAX) return bits;
    throw this.#error('invalid-argument', 'The granularity of the bitmap is not valid', {
      found: granularity,
      expected: `a power of two from ${2 ** GRANULARITY_BITS_MIN} to ${2 ** GRANULARITY_BITS_MAX}`,
    });
  }

  #error(
    kind: ConstructorParameters<typeof ImageError>[0],
    message: string,
    details: {
      found?: string | number | undefined;
      expected?: string | undefined;
      hint?: string | undefined;
      offset?: number | undefined;
    } = {},
  ): ImageError {
    return new ImageError(kind, message, { path: this.#host.storage.label, ...details });
  }
}

/** True for a bitmap that records changes. */
function isEnabled({ flags }: Bitmap): boolean {
  return (flags & BITMAP_FLAG.auto) !== 0;
}
