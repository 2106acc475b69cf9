/**
 * Content that is stored in parts which are decoded one by one, such as the blocks of bgzip: any place is read without those
 * before it, in bounded memory and without a temporary file.
 */
import { type Chunk, ChunkReader } from '../../../blocks/chunk-reader.ts';
import { ImageError } from '../../../errors.ts';
import { readOnlyStorage } from '../../../storage/checks.ts';
import type { OperationOptions, ReadTarget, Storage, StorageExtent } from '../../../storage/contract.ts';
import { ForwardingStorage } from '../../../storage/forwarding.ts';

/** Decoded bytes that small parts are put together to. */
const TOGETHER = 1024 * 1024;
/** Larger parts are not decoded for a single request: the content is unpacked from its start. */
const LARGEST = 64 * 1024 * 1024;
/** More parts are not listed. */
const MOST = 2 ** 20;
/** Decoded bytes that are kept, at least two parts. */
const KEPT = 16 * 1024 * 1024;

/** Decodes all that is stored into exactly `size` bytes. Throws `corrupt`. */
export type DecodeBlock = (stored: Uint8Array, size: number, fileOffset: number) => Promise<Uint8Array>;

/** Places of the parts, in the file and in the content. */
export class BlockIndex {
  /** Starts in the content, and its end. */
  readonly #starts: number[] = [0];
  readonly #fileOffsets: number[] = [];
  readonly #storedBytes: number[] = [];
  readonly #joins: boolean;
  #largest = 0;
  #parts = 0;

  /** `joins`: neighbours in the file can be decoded together. */
  constructor({ joins }: { readonly joins: boolean }) {
    this.#joins = joins;
  }

  /** Bytes of the content. */
  get size(): number {
    return this.#starts.at(-1) ?? 0;
  }

  /** Bytes of the largest part. */
  get largest(): number {
    return this.#largest;
  }

  /** True when reading at random pays: more than one part, none of them large. */
  get isUseful(): boolean {
    return this.#parts > 1 && this.#largest <= LARGEST && this.#fileOffsets.length <= MOST;
  }

  /** Adds the next part. False: there are too many. */
  add(fileOffset: number, storedBytes: number, size: number): boolean {
    if (size === 0) return true;
    this.#parts++;
    const last = this.#fileOffsets.length - 1;
    const start = this.#starts[last] ?? 0;
    const isBehind = (this.#fileOffsets[last] ?? 0) + (this.#storedBytes[last] ?? 0) === fileOffset;
    if (this.#joins && last >= 0 && isBehind && this.size + size - start <= TOGETHER) {
      this.#storedBytes[last] = fileOffset + storedBytes - (this.#fileOffsets[last] ?? 0);
      this.#starts[last + 1] = this.size + size;
    } else {
      this.#fileOffsets.push(fileOffset);
      this.#storedBytes.push(storedBytes);
      this.#starts.push(this.size + size);
    }
    this.#largest = Math.max(this.#largest, this.size - (this.#starts.at(-2) ?? 0));
    return this.#fileOffsets.length <= MOST;
  }

  /** The part that holds an offset of the content. */
  find(offset: number): Chunk {
    let [low, high] = [0, this.#fileOffsets.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    const guestOffset = this.#starts[low] ?? 0;
    return {
      guestOffset,
      size: (this.#starts[low + 1] ?? 0) - guestOffset,
      fileOffset: this.#fileOffsets[low] ?? 0,
      storedBytes: this.#storedBytes[low] ?? 0,
    };
  }
}

/** The content of an index as a storage. Closing it leaves the outer file open. */
export class BlockStorage extends ForwardingStorage {
  readonly #index: BlockIndex;
  readonly #reader: ChunkReader;

  constructor(outer: Storage, index: BlockIndex, decode: DecodeBlock) {
    super(outer, ['hints', 'readNow', 'allocate', 'adviseSequential']);
    this.#index = index;
    this.#reader = new ChunkReader({
      storage: outer,
      chunkBytes: index.largest,
      keptBytes: Math.max(KEPT, 2 * index.largest),
      hint: 'Get an intact copy of the file. Other parts of it can still be read.',
      find: (offset) => index.find(offset),
      decode: (stored, size, _room, { fileOffset }) => decode(stored, size, fileOffset),
    });
  }

  override get size(): number {
    return this.#index.size;
  }

  override get can(): Storage['can'] {
    return { ...this.inner.can, write: false, resize: false, punch: false };
  }

  override read(offset: number, target: ReadTarget, _options?: OperationOptions): Promise<void> {
    return this.#reader.read(offset, target);
  }

  override extentAt(): StorageExtent {
    return { start: 0, end: this.size, data: true };
  }

  override write(): Promise<never> {
    return Promise.reject(readOnlyStorage(this.label));
  }

  override zero(): Promise<never> {
    return Promise.reject(readOnlyStorage(this.label));
  }

  override resize(): Promise<never> {
    return Promise.reject(readOnlyStorage(this.label));
  }

  override async flush(): Promise<void> {}

  override async close(): Promise<void> {}
}

/** All chunks as `size` bytes. Throws `corrupt` where they are more or fewer. */
export async function exactly(chunks: AsyncIterable<Uint8Array>, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  let filled = 0;
  for await (const chunk of chunks) {
    if (filled + chunk.length > size) throw otherSize(`more than ${size} bytes`, size);
    bytes.set(chunk, filled);
    filled += chunk.length;
  }
  if (filled < size) throw otherSize(`${filled} bytes`, size);
  return bytes;
}

/** A single chunk. */
export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function otherSize(found: string, expected: number): ImageError {
  return new ImageError('corrupt', 'A part of the compressed file has another length than the index says', {
    found,
    expected: `${expected} bytes`,
  });
}
