/**
 * A compressed extent, read at random through its tables: streams of VMware, whose tables follow the grains and whose
 * footer names them, and those of QEMU, whose tables lie in front.
 *
 * A grain begins with a marker that names its place in the disk. It must be the one that the tables led from: other
 * readers return the data of another grain. The stored length stands in the marker only, so a grain is read up to the
 * next one, or up to the largest that there can be.
 */
import { inflateZlib } from '#decompress';
import { SECTOR } from '../../../binary/numbers.ts';
import { type Chunk, ChunkReader } from '../../../blocks/chunk-reader.ts';
import { assert, ImageError, isImageError } from '../../../errors.ts';
import type { Mapping, MetadataExtent } from '../../../image/contract.ts';
import type { MaybePromise, OperationOptions, ReadTarget, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import { GRAIN_MARKER, GTE_ABSENT, GTE_ZERO } from '../layout.ts';
import { Extent } from './extent.ts';
import type { SparseLayout } from './header.ts';

/** Bytes of decoded grains that are kept after a read of a part of them. */
const KEPT_BYTES = 2 * 1024 * 1024;
/** Grains joined into one run. */
const RUN_GRAINS = 16_384;

/** Places of the grains, as byte offsets; 0: absent. An `EntryTable` is one. */
export interface GrainPlaces {
  get(index: number): number | undefined;
  load(index: number): Promise<void>;
  /** End of the grains from `index` on that are known to be equal to it. */
  sameUntil(index: number): number;
}

/** Parts of a stream. */
export interface StreamParts {
  readonly storage: Storage;
  readonly layout: SparseLayout;
  readonly places: GrainPlaces;
  readonly length: number;
  readonly notes: readonly string[];
  /** There are no tables: a grain without a place may have been lost. */
  readonly isCut: boolean;
}

/** See the head of this file. */
export class StreamExtent extends Extent {
  readonly storage: Storage;
  readonly layout: SparseLayout;
  override readonly readEncoded: (offset: number, target: ReadTarget, options?: OperationOptions) => Promise<void>;
  readonly #places: GrainPlaces;
  readonly #notes: readonly string[];
  readonly #isCut: boolean;

  constructor({ storage, layout, places, length, notes, isCut }: StreamParts) {
    super(length);
    this.storage = storage;
    this.layout = layout;
    this.#places = places;
    this.#notes = notes;
    this.#isCut = isCut;
    const reader = new ChunkReader({
      storage,
      chunkBytes: layout.grainBytes,
      keptBytes: KEPT_BYTES,
      hint: 'Other grains can still be read (on the command line: convert --salvage).',
      find: (offset) => this.#find(offset),
      decode: (stored, size, room, chunk) => decodeGrain(stored, size, chunk, layout.grainBytes, room),
    });
    this.readEncoded = (offset, target) => reader.read(offset, target);
  }

  override get unit(): number {
    return this.layout.grainBytes;
  }

  override get obstacle(): string {
    return 'streams are written once, when they are made';
  }

  override get warnings(): readonly string[] {
    return this.#notes.map((note) => `${this.storage.label}: ${note}`);
  }

  map(offset: number, length: number): MaybePromise<Mapping> {
    const { grainBytes, capacity } = this.layout;
    const end = offset + length;
    if (offset >= capacity) return { kind: 'absent', length };
    const index = Math.floor(offset / grainBytes);
    const place = this.#places.get(index);
    if (place === undefined) return this.#places.load(index).then(() => this.map(offset, length));
    const kind = this.#kindOf(place);
    if (kind === 'absent' && this.#isCut) throw this.#lost(index, offset, end);
    if (kind === 'encoded' && this.#isMisplaced(place)) throw this.#misplaced(offset, place, grainBytes);
    let next = kind === 'encoded' ? index + 1 : this.#places.sameUntil(index);
    for (let looks = 0; looks < RUN_GRAINS && next * grainBytes < end; looks++) {
      const other = this.#places.get(next);
      if (other === undefined || this.#kindOf(other) !== kind) break;
      if (kind === 'encoded' && this.#isMisplaced(other)) break;
      next = kind === 'encoded' ? next + 1 : this.#places.sameUntil(next);
    }
    return { kind, length: Math.min(next * grainBytes, end) - offset };
  }

  /** Grains whose place or marker is wrong. Nothing is decoded. */
  async *damaged({ signal }: OperationOptions = {}): AsyncGenerator<ImageError> {
    const turns = new Turns(signal, 'Checking the stream');
    const marker = new Uint8Array(GRAIN_MARKER.size);
    const { grainBytes, capacity } = this.layout;
    for (let index = 0; index * grainBytes < capacity; index = this.#places.sameUntil(index)) {
      const turn = turns.take();
      if (turn !== undefined) await turn;
      if (this.#places.get(index) === undefined) await this.#places.load(index);
      const place = this.#places.get(index) ?? GTE_ABSENT;
      if (this.#kindOf(place) !== 'encoded') continue;
      const guestOffset = index * grainBytes;
      if (this.#isMisplaced(place)) {
        yield this.#misplaced(guestOffset, place, grainBytes);
        continue;
      }
      await readPadded(this.storage, place, marker);
      try {
        lengthOf(marker, guestOffset, this.#storedBytes(index, place) - GRAIN_MARKER.size);
      } catch (error) {
        if (!isImageError(error)) throw error;
        yield new ImageError(error.kind, error.message, { ...error.context, guestOffset, offset: place });
      }
    }
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    const length = Math.min(this.layout.overhead, storage.size);
    yield { storage, fileOffset: 0, length, what: 'header and descriptor', guestOffset: null };
  }

  #kindOf(place: number): 'encoded' | 'zero' | 'absent' {
    if (place === GTE_ABSENT) return 'absent';
    return place === GTE_ZERO * SECTOR && this.layout.zeroGrains ? 'zero' : 'encoded';
  }

  #find(offset: number): MaybePromise<Chunk> {
    const { grainBytes, capacity } = this.layout;
    const index = Math.floor(offset / grainBytes);
    const fileOffset = this.#places.get(index);
    if (fileOffset === undefined) return this.#places.load(index).then(() => this.#find(offset));
    assert(this.#kindOf(fileOffset) === 'encoded', 'a run of compressed grains has nothing else in it');
    const guestOffset = index * grainBytes;
    const size = Math.min(grainBytes, Math.max(capacity, this.length) - guestOffset);
    return { guestOffset, size, fileOffset, storedBytes: this.#storedBytes(index, fileOffset) };
  }

  /** Bytes up to the next grain of the file, as far as the tables tell, or the most that a grain can take. */
  #storedBytes(index: number, fileOffset: number): number {
    const most = GRAIN_MARKER.size + 2 * this.layout.grainBytes;
    const isLast = (index + 1) * this.layout.grainBytes >= this.layout.capacity;
    const next = isLast ? 0 : (this.#places.get(index + 1) ?? 0);
    return next > fileOffset ? Math.min(next - fileOffset, most) : most;
  }

  #lost(index: number, guestOffset: number, end: number): ImageError {
    const next = Math.min(this.#places.sameUntil(index) * this.layout.grainBytes, end);
    return new ImageError('corrupt', 'The stream was cut off: it may have held data here', {
      path: this.storage.label,
      guestOffset,
      guestLength: next - guestOffset,
      hint: 'Copy the image again from where it came from; the grains that are there can be saved (on the command line: convert --salvage).',
    });
  }

  #isMisplaced(fileOffset: number): boolean {
    return fileOffset < this.layout.overhead || fileOffset >= this.storage.size;
  }

  #misplaced(guestOffset: number, fileOffset: number, guestLength: number): ImageError {
    return new ImageError('corrupt', 'A grain is said to lie where the file has none', {
      path: this.storage.label,
      offset: fileOffset,
      guestOffset,
      guestLength,
      expected: `from ${this.layout.overhead} to ${this.storage.size}`,
      hint: 'Copy the image again from where it came from; the other grains can be saved (on the command line: convert --salvage).',
    });
  }
}

/** The code of vd.h for a grain that cannot be decoded. */
const INVALID_FORMAT = 'VERR_VD_VMDK_INVALID_FORMAT';

/** The stored length of a grain, as its marker says. Throws `corrupt` where the marker cannot be that of the grain. */
function lengthOf(stored: Uint8Array, guestOffset: number, available: number): number {
  const { lba, size: length } = GRAIN_MARKER.decode(stored);
  if (lba * SECTOR !== guestOffset) {
    throw new ImageError('corrupt', 'The tables lead to the grain of another part of the disk', {
      status: INVALID_FORMAT,
      field: 'lba of the grain marker',
      found: lba,
      expected: guestOffset / SECTOR,
    });
  }
  if (length > 0 && length <= available) return length;
  throw new ImageError('corrupt', 'The stored length of a grain is not possible', {
    status: INVALID_FORMAT,
    field: 'size of the grain marker',
    found: length,
    expected: `from 1 to ${available}`,
  });
}

/** Decodes a grain behind its marker. The last one may be whole or end where the disk does. Throws `corrupt`. */
export async function decodeGrain(
  stored: Uint8Array,
  size: number,
  { guestOffset }: Pick<Chunk, 'guestOffset'>,
  grainBytes: number,
  room?: Uint8Array,
): Promise<Uint8Array> {
  if (stored.length < GRAIN_MARKER.size) throw new ImageError('corrupt', 'The file ends before the grain');
  const length = lengthOf(stored, guestOffset, stored.length - GRAIN_MARKER.size);
  const data = await inflateZlib(stored.subarray(GRAIN_MARKER.size, GRAIN_MARKER.size + length), grainBytes, room);
  if (data.length >= size) return data.subarray(0, size);
  const whole = new Uint8Array(size);
  whole.set(data);
  return whole;
}
