/**
 * A DMG that is being written, once and from front to back: encoded chunks, then a property list with one block table, and
 * the trailer. What is not written becomes ignored chunks, which every reader takes for zeroes.
 */
import { deflateZlib } from '#compress';
import { crc32 } from '../../binary/crc32.ts';
import { crc32Joined } from '../../binary/crc32-zeroes.ts';
import { type Chunk, ChunkReader } from '../../blocks/chunk-reader.ts';
import { looksLikeNoise } from '../../codec/noise.ts';
import type { EncodedSlot, EncodedUnit, Encoder, ImageInfo, Mapping } from '../../image/contract.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import type { ReadTarget, Storage } from '../../storage/contract.ts';
import { decodeChunk } from './decode.ts';
import { TYPE } from './layout.ts';
import { endOf, type WrittenChunk } from './new-tables.ts';

/** Words for the compressions of new images. */
export type Compression = 'zlib' | 'bzip2';

/** Level of zlib without compression, and the usual one. */
const LEVEL = { stored: 0, usual: 6 } as const;
const KEPT_BYTES = 4 * 1024 * 1024;
/** The checksum of a unit stands before its encoded bytes until they are written. */
const SUM_BYTES = 4;

/** Parts of a new image. */
export interface NewDmgParts {
  readonly storage: Storage;
  readonly size: number;
  /** Guest bytes of a chunk. */
  readonly unit: number;
  readonly compression: Compression;
}

/** See the head of this file. */
export class NewDmg extends PlainImage {
  readonly info: ImageInfo;
  readonly encoder: Encoder;
  readonly #type: number;
  readonly #unit: number;
  readonly #compression: Compression;
  readonly #reader: ChunkReader;
  readonly #chunks: WrittenChunk[] = [];
  #end = 0;
  /** Checksums of what the chunks hold, and of the data in the file. */
  #tableSum = 0;
  #dataSum = 0;
  #isFinished = false;

  constructor({ storage, size, unit, compression }: NewDmgParts) {
    super(storage, 'write');
    this.#unit = unit;
    this.#compression = compression;
    this.#type = compression === 'zlib' ? TYPE.zlib : TYPE.bzip2;
    this.info = plainInfo({
      format: 'dmg',
      variant: [compression],
      virtualSize: size,
      blockSize: unit,
      version: '4',
    });
    this.encoder = {
      unit,
      method: compression,
      must: true,
      encode: async (bytes) => withSum(await this.#encode(bytes), crc32(bytes)),
      prepare: (units) => this.#prepare(units),
    };
    this.#reader = new ChunkReader({
      storage,
      chunkBytes: unit,
      keptBytes: Math.max(KEPT_BYTES, unit),
      hint: 'Make the image again.',
      find: (guestOffset) => this.#find(guestOffset),
      decode: (stored, length, room) => decodeChunk(this.#type, stored, length, room),
    });
  }

  get access(): 'random' | 'ascending-once' {
    return this.#isFinished ? 'random' : 'ascending-once';
  }

  map(guestOffset: number, length: number): Mapping {
    const end = guestOffset + length;
    const index = this.#indexAt(guestOffset);
    const chunk = this.#chunks[index];
    if (chunk !== undefined && guestOffset < chunk.guestOffset + chunk.size) {
      return { kind: 'encoded', length: Math.min(chunk.guestOffset + chunk.size, end) - guestOffset };
    }
    return { kind: 'absent', length: Math.min(this.#chunks[index + 1]?.guestOffset ?? end, end) - guestOffset };
  }

  readEncoded(guestOffset: number, target: ReadTarget): Promise<void> {
    return this.#reader.read(guestOffset, target);
  }

  /** Writes what follows the data, durably. */
  async finish(): Promise<void> {
    const { virtualSize: size } = this.info;
    const sums = { table: this.#tableSum, data: this.#dataSum };
    const end = endOf({ chunks: this.#chunks, type: this.#type, size, unit: this.#unit, dataLength: this.#end, sums });
    await this.storage.write(this.#end, end);
    await this.storage.flush();
    this.#isFinished = true;
  }

  async #encode(bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#compression === 'bzip2') return (await import('../../codec/bzip2.ts')).encodeBzip2(bytes);
    // What looks like noise does not get smaller, but takes as long as anything else.
    return deflateZlib(bytes, looksLikeNoise(bytes) ? LEVEL.stored : LEVEL.usual);
  }

  async #prepare(units: readonly EncodedUnit[]): Promise<EncodedSlot> {
    const { storage } = this;
    const fileOffset = this.#end;
    const chunks: WrittenChunk[] = [];
    const buffers: Uint8Array[] = [];
    let [end, tableSum, dataSum] = [fileOffset, this.#tableSum, this.#dataSum];
    for (const { guestOffset, bytes: framed } of units) {
      const size = Math.min(this.#unit, this.info.virtualSize - guestOffset);
      const bytes = size === this.#unit ? framed : await this.#cut(framed, size);
      const stored = bytes.subarray(SUM_BYTES);
      const sum = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
      chunks.push({ guestOffset, size, fileOffset: end, storedBytes: stored.length });
      buffers.push(stored);
      end += stored.length;
      tableSum = crc32Joined(tableSum, sum, size);
      dataSum = crc32(stored, dataSum);
    }
    return {
      storage,
      fileOffset,
      buffers,
      count: units.length,
      commit: () => {
        for (const chunk of chunks) this.#chunks.push(chunk);
        [this.#end, this.#tableSum, this.#dataSum] = [end, tableSum, dataSum];
      },
      // Nothing can follow a write that failed: the disk sees to it.
      abort: () => {},
    };
  }

  /** The last unit without the padding behind the end of the disk, which no chunk may reach. */
  async #cut(framed: Uint8Array, size: number): Promise<Uint8Array> {
    const whole = await decodeChunk(this.#type, framed.subarray(SUM_BYTES), this.#unit, undefined);
    const content = whole.slice(0, size);
    return withSum(await this.#encode(content), crc32(content));
  }

  #indexAt(guestOffset: number): number {
    let [low, high] = [-1, this.#chunks.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#chunks[middle]?.guestOffset ?? 0) <= guestOffset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #find(guestOffset: number): Chunk {
    const chunk = this.#chunks[this.#indexAt(guestOffset)];
    if (chunk === undefined) throw new Error('internal: an encoded run lies in chunks');
    return chunk;
  }
}

function withSum(bytes: Uint8Array, sum: number): Uint8Array {
  const framed = new Uint8Array(SUM_BYTES + bytes.length);
  new DataView(framed.buffer).setUint32(0, sum);
  framed.set(bytes, SUM_BYTES);
  return framed;
}
