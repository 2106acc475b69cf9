/** Compressed clusters of a QCOW image: raw deflate, packed byte by byte, one behind the other. */

import { deflateRaw } from '#compress';
import { inflateRaw } from '#decompress';
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { type Chunk, ChunkReader } from '../../blocks/chunk-reader.ts';
import type { TwoLevelState } from '../../blocks/two-level-state.ts';
import { looksLikeNoise } from '../../codec/noise.ts';
import { assert, ImageError } from '../../errors.ts';
import type { EncodedSlot, EncodedUnit, Encoder } from '../../image/contract.ts';
import { isPromise, type MaybePromise, type Storage } from '../../storage/contract.ts';
import { compressedEntry, compressedPlace, streamsEnd } from './entries.ts';
import type { QcowShape } from './shape.ts';

/** Bytes of decoded clusters kept after a read of a part of them. */
const KEPT_BYTES = 2 * 1024 * 1024;

type State = TwoLevelState<QcowShape>;

/** A reader of the compressed clusters. The state may be replaced, so it is looked up each time. */
export function streamReader(storage: Storage, state: () => State): ChunkReader {
  const { clusterSize, header } = state().shape;
  const find = (guestOffset: number): MaybePromise<Chunk> => {
    const { table } = state();
    const index = Math.floor(guestOffset / clusterSize);
    const entry = table.get(index);
    if (entry === undefined) return table.load(index).then(() => find(guestOffset));
    const place = compressedPlace(entry, header.clusterBits);
    assert(place !== null, 'a run of compressed clusters has nothing else in it');
    const { fileOffset, length } = place;
    if (length === 0 || fileOffset + length > storage.size) {
      throw new ImageError('corrupt', 'An L2 entry of a compressed cluster points where none can be', {
        path: storage.label,
        guestOffset: index * clusterSize,
        guestLength: clusterSize,
        offset: fileOffset,
        expected: `1 to ${clusterSize - 1} bytes inside the file`,
        hint: 'Other clusters can still be read (on the command line: convert --salvage).',
      });
    }
    return { guestOffset: index * clusterSize, size: clusterSize, fileOffset, storedBytes: length };
  };
  return new ChunkReader({
    storage,
    chunkBytes: clusterSize,
    keptBytes: KEPT_BYTES,
    hint: 'Other clusters can still be read.',
    find,
    decode: inflateRaw,
  });
}

/** End of the last stream, and the bytes of its sector. */
interface Tail {
  readonly position: number;
  readonly bytes: Uint8Array;
}

/** Places compressed clusters behind everything else, one directly behind the other. */
export class StreamEncoder implements Encoder {
  readonly unit: number;
  readonly method = 'zlib';
  readonly #storage: Storage;
  readonly #state: () => State;
  #tail: Tail | null = null;
  /** Resolves when the last slot has ended. */
  #turn: Promise<void> = Promise.resolve();

  constructor(storage: Storage, state: () => State) {
    this.#storage = storage;
    this.#state = state;
    this.unit = state().shape.clusterSize;
  }

  encode(bytes: Uint8Array): MaybePromise<Uint8Array | null> {
    const smaller = (stream: Uint8Array): Uint8Array | null => (stream.length < this.unit ? stream : null);
    if (looksLikeNoise(bytes)) return null;
    const stream = deflateRaw(bytes);
    return isPromise(stream) ? stream.then(smaller) : smaller(stream);
  }

  async prepare(units: readonly EncodedUnit[]): Promise<EncodedSlot> {
    const before = this.#turn;
    let ended = (): void => {};
    this.#turn = new Promise((resolve) => {
      ended = resolve;
    });
    await before;
    const pinned: number[] = [];
    const { table } = this.#state();
    try {
      for (const { guestOffset } of units) {
        const index = guestOffset / this.unit;
        while (table.get(index) === undefined) await table.load(index);
        table.pin(index);
        pinned.push(index);
      }
      return this.#slot(units, pinned, ended);
    } catch (error) {
      for (const index of pinned) table.unpin(index);
      ended();
      throw error;
    }
  }

  #slot(units: readonly EncodedUnit[], pinned: readonly number[], ended: () => void): EncodedSlot {
    const { map, table, shape } = this.#state();
    const { units: room } = map.slots;
    const total = units.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const { position, run, head } = this.#place(total);
    const { clusterBits } = shape.header;
    const close = (): void => {
      for (const index of pinned) table.unpin(index);
      ended();
    };
    if (position + total > streamsEnd(clusterBits)) {
      room.giveBack(run);
      throw this.#tooLong(clusterBits);
    }
    const streams = [...(head === null ? [] : [head.bytes]), ...units.map(({ bytes }) => bytes)];
    const fill = alignUp(position + total, SECTOR) - (position + total);
    return {
      storage: this.#storage,
      fileOffset: position - (head?.bytes.length ?? 0),
      buffers: fill === 0 ? streams : [...streams, new Uint8Array(fill)],
      count: units.length,
      commit: () => {
        room.committed(run);
        let at = position;
        for (const [n, { bytes }] of units.entries()) {
          const index = pinned[n] ?? 0;
          const old = table.get(index) ?? 0;
          if (shape.entries.kindOf(old) === 'data') map.slots.pin(old / shape.clusterSize);
          table.set(index, compressedEntry({ fileOffset: at, length: bytes.length }, clusterBits));
          at += bytes.length;
        }
        this.#tail = tailOf(streams, at);
        close();
      },
      abort: () => {
        room.giveBack(run);
        close();
      },
    };
  }

  /** Room behind the last stream if nothing lies there yet, otherwise at the end of the file. */
  #place(total: number) {
    const { units: room } = this.#state().map.slots;
    const tail = this.#tail;
    const inSector = tail === null ? 0 : alignUp(tail.position, SECTOR) - tail.position;
    const run = room.takeAtEnd(divCeil(Math.max(total - inSector, 0), SECTOR));
    const start = run.first * SECTOR;
    if (tail !== null && start === alignUp(tail.position, SECTOR)) return { position: tail.position, run, head: tail };
    room.giveBack(run);
    const whole = room.takeAtEnd(divCeil(total, SECTOR));
    return { position: whole.first * SECTOR, run: whole, head: null };
  }

  #tooLong(clusterBits: number): ImageError {
    return new ImageError('limit', 'The file is too large for compressed clusters', {
      path: this.#storage.label,
      expected: `at most ${streamsEnd(clusterBits)} bytes`,
      hint: 'Write without compression.',
    });
  }
}

/** Part of these streams in the sector of the end. */
function tailOf(streams: readonly Uint8Array[], position: number): Tail {
  const bytes = new Uint8Array(position % SECTOR);
  let start = bytes.length;
  for (let index = streams.length - 1; index >= 0 && start > 0; index--) {
    const stream = streams[index] ?? bytes;
    const part = stream.subarray(Math.max(stream.length - start, 0));
    start -= part.length;
    bytes.set(part, start);
  }
  return { position, bytes };
}
