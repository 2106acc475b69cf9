/**
 * Storing compressed clusters (section "Compressed Clusters Descriptor"). Streams are packed consecutively, so several
 * share sectors and clusters of the file.
 *
 * One appender owns the end of the last stream. Every write covers whole sectors: the first one including the streams
 * already in it, the last one padded with zeroes. A sector is written completely or not at all, so a power cut does not
 * harm those streams. Slots follow each other, since two writes of one sector could arrive in any order.
 *
 * A cluster of the file counts one reference for each stream that touches it. The entry of the last stream shows
 * whether the end is still ours: overwriting that guest cluster may have freed its space. If the count cannot be
 * raised, or the following space is in use, a new cluster is begun; the rest of the old one stays unused.
 */
import { deflateRaw, zstdCompress } from '#compress';
import { alignUp, divCeil, SECTOR } from '../../../binary/numbers.ts';
import { KIND } from '../../../blocks/two-level-map.ts';
import { looksLikeNoise } from '../../../codec/noise.ts';
import { assert, ImageError } from '../../../errors.ts';
import type { EncodedSlot, EncodedUnit, Encoder } from '../../../image/contract.ts';
import { isPromise, type MaybePromise, type Storage } from '../../../storage/contract.ts';
import type { ClusterMap } from '../clusters/cluster-map.ts';
import type { ClusterRun, RefcountStore } from '../clusters/refcount-store.ts';
import type { ClusterWriter, TakenEntries } from '../clusters/writer.ts';
import type { Qcow2Header } from '../header/header.ts';
import { COMPRESSED_HIGH, compressedOffsetBits } from '../layout.ts';

const HIGH = 2 ** 32;

/** Parts of an encoder. Map and writer may be replaced, so they are looked up each time. */
export interface EncoderParts {
  readonly header: Pick<Qcow2Header, 'clusterSize' | 'clusterBits' | 'compression'>;
  readonly storage: Storage;
  readonly counts: RefcountStore;
  map(): ClusterMap;
  writer(): ClusterWriter;
}

/** End of the last stream. */
interface Tail {
  readonly position: number;
  /** Content of the sector before it. */
  readonly bytes: Uint8Array;
  /** Guest cluster of the last stream, and its entry. */
  readonly guestOffset: number;
  readonly high: number;
  readonly low: number;
}

/** Placement of units. */
interface Placement {
  readonly position: number;
  /** References that the units add to clusters of the file. */
  readonly references: ReadonlyMap<number, number>;
  /** Number of units. */
  readonly count: number;
  readonly end: number;
  /** A cluster in use before, if the first unit begins in it. */
  readonly shared: number | null;
  /** Clusters allocated for the units. */
  readonly run: ClusterRun | null;
}

/** Stretches of the file available for units. */
interface Room {
  readonly position: number;
  readonly limit: number;
  readonly shared: number | null;
  readonly run: ClusterRun | null;
}

/** Encoder that packs compressed clusters at the end of the last stream. */
export class ClusterEncoder implements Encoder {
  readonly unit: number;
  readonly method: string;
  readonly #parts: EncoderParts;
  readonly #compress: (bytes: Uint8Array) => MaybePromise<Uint8Array>;
  readonly #offsetBits: number;
  #tail: Tail | null = null;
  /** Resolves when the last slot has ended. */
  #turn: Promise<void> = Promise.resolve();

  constructor(parts: EncoderParts) {
    const { compression, clusterSize, clusterBits } = parts.header;
    this.#parts = parts;
    this.unit = clusterSize;
    this.method = compression;
    this.#compress = compression === 'zstd' ? zstdCompress : deflateRaw;
    this.#offsetBits = compressedOffsetBits(clusterBits);
  }

  encode(bytes: Uint8Array): MaybePromise<Uint8Array | null> {
    const smaller = (stream: Uint8Array): Uint8Array | null => (stream.length < this.unit ? stream : null);
    // Zstandard finds that out by itself, and as fast.
    if (this.method === 'zlib' && looksLikeNoise(bytes)) return null;
    const stream = this.#compress(bytes);
    return isPromise(stream) ? stream.then(smaller) : smaller(stream);
  }

  async prepare(units: readonly EncodedUnit[]): Promise<EncodedSlot> {
    const before = this.#turn;
    let ended = (): void => {};
    this.#turn = new Promise((resolve) => {
      ended = resolve;
    });
    await before;
    let entries: TakenEntries | null = null;
    try {
      const taken = this.#parts.writer().takeEntries(units.map(({ guestOffset }) => guestOffset));
      entries = isPromise(taken) ? await taken : taken;
      const wanted = units.slice(0, entries.count);
      let placement = this.#place(wanted);
      while (placement instanceof Promise) {
        await placement;
        placement = this.#place(wanted);
      }
      return this.#slot(wanted.slice(0, placement.count), placement, entries, ended);
    } catch (error) {
      entries?.abort();
      ended();
      throw error;
    }
  }

  /** Allocates space for as many of the units as fit, the first at least. A promise: retry when it resolves. */
  #place(units: readonly EncodedUnit[]): Placement | Promise<void> {
    const { counts } = this.#parts;
    const room = this.#room(units);
    if (room instanceof Promise) return room;
    const { position, limit, shared, run } = room;
    const references = new Map<number, number>();
    const present = shared === null ? 0 : (counts.peek(shared) ?? 0);
    let end = position;
    let count = 0;
    for (const { bytes } of units) {
      const next = end + bytes.length;
      const touched = this.#clustersOf(end, next);
      const full = touched.some((cluster) => {
        return (references.get(cluster) ?? 0) + (cluster === shared ? present : 0) >= counts.most;
      });
      if (next > limit || full) break;
      for (const cluster of touched) references.set(cluster, (references.get(cluster) ?? 0) + 1);
      end = next;
      count++;
    }
    assert(count > 0, 'there is room for one unit at least');
    const kept = this.#giveBackBehind(run, end);
    if (shared !== null) {
      // It must not become free while the units are written: one of their references is made now.
      const held = counts.hold(shared);
      assert(held, 'the count of a shared cluster is in memory');
      counts.raise(shared);
    }
    return { position, references, count, end, shared, run: kept };
  }

  /** Space after the last stream, or new clusters; for at least one unit. */
  #room(units: readonly EncodedUnit[]): Room | Promise<void> {
    const { counts } = this.#parts;
    const size = this.unit;
    const total = units.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const tail = this.#ownTail();
    if (tail instanceof Promise) return tail;
    const tailEnd = tail === null ? 0 : alignUp(tail.position, size);
    const shared = tail === null ? null : Math.floor(tail.position / size);
    const missing = divCeil((tail?.position ?? 0) + total - tailEnd, size);
    if (tail !== null && missing <= 0) return { position: tail.position, limit: tailEnd, shared, run: null };
    const run = counts.take(missing);
    if (run === undefined) return counts.loadFree();
    const [start, limit] = [run.first * size, (run.first + run.count) * size];
    this.#checkLimit(limit, run);
    if (tail !== null && start === tailEnd) return { position: tail.position, limit, shared, run };
    const [first] = units;
    if (tail !== null && first !== undefined && tail.position + first.bytes.length <= tailEnd) {
      counts.giveBack(run);
      return { position: tail.position, limit: tailEnd, shared, run: null };
    }
    return { position: start, limit, shared: null, run };
  }

  /** End of the last stream, if another may follow. A promise: retry when it resolves. */
  #ownTail(): Tail | null | Promise<void> {
    const tail = this.#tail;
    if (tail === null || tail.position % this.unit === 0) return null;
    const map = this.#parts.map();
    const same =
      map.look(tail.guestOffset) && map.kind === KIND.encoded && map.high === tail.high && map.low === tail.low;
    if (!same) {
      this.#tail = null;
      return null;
    }
    const { counts } = this.#parts;
    const cluster = Math.floor(tail.position / this.unit);
    const count = counts.peek(cluster);
    if (count === undefined) return counts.load(cluster);
    return count > 0 && count < counts.most ? tail : null;
  }

  #slot(units: readonly EncodedUnit[], placement: Placement, entries: TakenEntries, ended: () => void): EncodedSlot {
    const { storage, counts } = this.#parts;
    const { position, end, shared, run, references } = placement;
    const head = shared === null ? null : this.#tail;
    const streams = [...(head === null ? [] : [head.bytes]), ...units.map(({ bytes }) => bytes)];
    const fill = alignUp(end, SECTOR) - end;
    this.#tail = null;
    return {
      storage,
      fileOffset: position - (head?.bytes.length ?? 0),
      buffers: fill === 0 ? streams : [...streams, new Uint8Array(fill)],
      count: units.length,
      commit: () => {
        // Who takes a cluster, and who shares one, has its first reference already.
        for (const [cluster, times] of references) for (let n = 1; n < times; n++) counts.raise(cluster);
        if (shared !== null) counts.letGo(shared);
        if (run !== null) counts.keep(run);
        const made = this.#entries(units, position);
        entries.commit(made);
        const last = units.at(-1);
        const entry = made.at(-1);
        if (last !== undefined && entry !== undefined) {
          this.#tail = { position: end, bytes: endOf(streams, end % SECTOR), guestOffset: last.guestOffset, ...entry };
        }
        ended();
      },
      abort: () => {
        if (shared !== null) counts.release(shared);
        if (run !== null) counts.giveBack(run);
        entries.abort();
        ended();
      },
    };
  }

  #entries(units: readonly EncodedUnit[], position: number): { high: number; low: number }[] {
    let at = position;
    return units.map(({ bytes }) => {
      const last = at + bytes.length - 1;
      const sectors = Math.floor(last / SECTOR) - Math.floor(at / SECTOR);
      const high = sectors * 2 ** (this.#offsetBits - 32) + Math.floor(at / HIGH) + COMPRESSED_HIGH;
      const entry = { high, low: at % HIGH };
      at += bytes.length;
      return entry;
    });
  }

  #clustersOf(start: number, end: number): number[] {
    const first = Math.floor(start / this.unit);
    const last = Math.floor((end - 1) / this.unit);
    return first === last ? [first] : [first, last];
  }

  /** Frees the part of a run after the last unit. Returns the rest; null: nothing is left. */
  #giveBackBehind(run: ClusterRun | null, end: number): ClusterRun | null {
    if (run === null) return null;
    const { counts } = this.#parts;
    const used = Math.max(divCeil(end, this.unit) - run.first, 0);
    if (used === run.count) return run;
    if (used > 0) {
      const held = counts.hold(run.first + used);
      assert(held, 'the counts of a run are in memory');
    }
    counts.giveBack({ first: run.first + used, count: run.count - used });
    return used === 0 ? null : { first: run.first, count: used };
  }

  #checkLimit(end: number, run: ClusterRun): void {
    if (end <= 2 ** this.#offsetBits) return;
    this.#parts.counts.giveBack(run);
    throw new ImageError('limit', 'The file is too large for compressed clusters', {
      path: this.#parts.storage.label,
      found: `${end} bytes`,
      expected: `at most ${2 ** this.#offsetBits} bytes`,
      hint: 'Write without compression.',
    });
  }
}

/** The last `length` bytes of all of them together. */
function endOf(buffers: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let start = length;
  for (let index = buffers.length - 1; index >= 0 && start > 0; index--) {
    const buffer = buffers[index] ?? bytes;
    const part = buffer.subarray(Math.max(buffer.length - start, 0));
    start -= part.length;
    bytes.set(part, start);
  }
  return bytes;
}
