/**
 * Reading chunks that are stored encoded: compressed clusters, grains, blocks of a disk image.
 *
 * Encoded chunks lie packed in the file, so neighbours are fetched by one read and then decoded in parallel. The stored
 * length of a chunk may be rounded up: the bytes after it belong to other chunks, and may lie past the end of the file.
 * The chunk itself must be inside: missing bytes are never replaced, since zeroes may decode to something.
 *
 * Chunks read in part are kept decoded, within a bound: the next request mostly needs the next part.
 */
import { largest, smallest } from '../binary/numbers.ts';
import { hex, isImageError, withContext } from '../errors.ts';
import { allDone, markHandled } from '../storage/all-done.ts';
import { isPromise, type MaybePromise, type ReadTarget, type Storage } from '../storage/contract.ts';

/** Guest bytes decoded at a time, at least a chunk. */
const WINDOW = 4 * 1024 * 1024;
/** Maximum bytes of the file per read, at least one chunk. */
const READ_MAX = 2 * 1024 * 1024;
/** Gaps between chunks up to this size are read along. */
const GAP_MAX = 16 * 1024;

/** Place of one chunk in the disk and in the file. */
export interface Chunk {
  /** First byte of the chunk in the disk. */
  readonly guestOffset: number;
  /** Bytes that it decodes into. */
  readonly size: number;
  readonly fileOffset: number;
  /** Bytes of the file that it takes at most. */
  readonly storedBytes: number;
}

/** Parts of a reader. */
export interface ChunkSource {
  readonly storage: Storage;
  /** Bytes of the largest chunk. */
  readonly chunkBytes: number;
  /** Decoded bytes that are kept, at least one chunk. */
  readonly keptBytes: number;
  /** For errors: `Other clusters can still be read.` */
  readonly hint: string;
  /** The chunk that holds a guest offset. Throws `corrupt`. */
  find(guestOffset: number): MaybePromise<Chunk>;
  /**
   * Decodes the first `size` bytes of a chunk; `room`: optional memory for the result; `chunk`: its place, for formats
   * that store it with the bytes. Throws `corrupt`.
   */
  decode(stored: Uint8Array, size: number, room: Uint8Array | undefined, chunk: Chunk): Promise<Uint8Array>;
}

/** One chunk, or the requested part of it. */
interface Piece extends Chunk {
  /** Bytes of the chunk before the part. */
  readonly skip: number;
  readonly target: Uint8Array;
}

/** Reads encoded chunks of one image. */
export class ChunkReader {
  readonly #source: ChunkSource;
  readonly #storage: Storage;
  readonly #kept: DecodedChunks;

  constructor(source: ChunkSource) {
    this.#source = source;
    this.#storage = source.storage;
    this.#kept = new DecodedChunks(source.keptBytes);
  }

  /** Fills the target, which lies entirely in encoded chunks. */
  async read(guestOffset: number, target: ReadTarget): Promise<void> {
    const { chunkBytes } = this.#source;
    let at = guestOffset;
    for (const buffer of target instanceof Uint8Array ? [target] : target) {
      const step = Math.max(WINDOW, chunkBytes);
      for (let from = 0; from < buffer.length; ) {
        // Windows end where chunks do.
        const to = Math.min(from + step - ((at + from) % chunkBytes), buffer.length);
        await this.#readWindow(at + from, buffer.subarray(from, to));
        from = to;
      }
      at += buffer.length;
    }
  }

  /** Drops decoded data. Called when space in the file is reused. */
  forget(): void {
    this.#kept.clear();
  }

  async #readWindow(guestOffset: number, target: Uint8Array): Promise<void> {
    const groups = groupNeighbours(await this.#pieces(guestOffset, target));
    await allDone(groups.map((group) => markHandled(this.#readGroup(group))));
  }

  async #pieces(guestOffset: number, target: Uint8Array): Promise<Piece[]> {
    const pieces: Piece[] = [];
    for (let at = 0; at < target.length; ) {
      const wanted = guestOffset + at;
      const found = this.#source.find(wanted);
      const chunk = isPromise(found) ? await found : found;
      const { guestOffset: chunkOffset, size, fileOffset, storedBytes } = chunk;
      const end = Math.min(chunkOffset + size - guestOffset, target.length);
      const part = target.subarray(at, end);
      pieces.push({
        guestOffset: chunkOffset,
        size,
        fileOffset,
        storedBytes,
        skip: wanted - chunkOffset,
        target: part,
      });
      at = end;
    }
    return pieces;
  }

  async #readGroup(group: readonly Piece[]): Promise<void> {
    const [only] = group;
    if (group.length === 1 && only !== undefined && only.target.length < only.size) return this.#readPart(only);
    this.#kept.forgetDamaged();
    const start = smallest(
      group.map(({ fileOffset }) => fileOffset),
      Number.POSITIVE_INFINITY,
    );
    const end = largest(
      group.map(({ fileOffset, storedBytes }) => fileOffset + storedBytes),
      0,
    );
    const stored = await readInside(this.#storage, start, end - start);
    const decoding = group.map(async (piece) => {
      const decoded = await this.#decode(piece, stored.subarray(piece.fileOffset - start), piece.target);
      const inPlace = decoded.buffer === piece.target.buffer && decoded.byteOffset === piece.target.byteOffset;
      if (!inPlace) copyPart(decoded, piece);
    });
    await allDone(decoding);
  }

  async #readPart(piece: Piece): Promise<void> {
    copyPart(await this.#kept.get(piece, () => this.#fetch(piece)), piece);
  }

  async #fetch(piece: Piece): Promise<Uint8Array> {
    return this.#decode(piece, await readInside(this.#storage, piece.fileOffset, piece.storedBytes));
  }

  /** `room`: memory for the result if it is a whole chunk. */
  async #decode(piece: Piece, stored: Uint8Array, room?: Uint8Array): Promise<Uint8Array> {
    const { guestOffset, skip, fileOffset, storedBytes, size } = piece;
    try {
      return await this.#source.decode(stored.subarray(0, storedBytes), size, room, piece);
    } catch (error) {
      const { label, size: fileSize } = this.#storage;
      const isWhole = stored.length >= storedBytes;
      throw withContext(error, {
        path: label,
        offset: fileOffset,
        guestOffset: guestOffset + skip,
        ...(isWhole ? {} : { expected: `${storedBytes} bytes before the end of the file, ${hex(fileSize)}` }),
        hint: this.#source.hint,
      });
    }
  }
}

/** Decoded chunks by their place in the file, the one that was used last at the end. */
class DecodedChunks {
  readonly #bound: number;
  readonly #chunks = new Map<string, { readonly size: number; readonly decoded: Promise<Uint8Array> }>();
  #bytes = 0;
  #damaged: string | null = null;

  constructor(bound: number) {
    this.#bound = bound;
  }

  /**
   * The decoded chunk. One that is damaged is kept as such until another is asked for: salvage asks for each sector of it. Other
   * failures are not kept.
   */
  async get({ fileOffset, storedBytes, size }: Chunk, decode: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const key = `${fileOffset} ${storedBytes} ${size}`;
    if (this.#damaged !== key) this.forgetDamaged();
    const chunk = this.#chunks.get(key) ?? { size, decoded: decode() };
    this.#delete(key);
    this.#chunks.set(key, chunk);
    this.#bytes += size;
    for (const oldest of this.#chunks.keys()) {
      if (this.#bytes <= this.#bound || this.#chunks.size === 1) break;
      this.#delete(oldest);
    }
    try {
      return await chunk.decoded;
    } catch (error) {
      const isDamaged = isImageError(error) && error.kind === 'corrupt';
      if (this.#chunks.get(key) !== chunk) throw error;
      if (isDamaged) this.#damaged = key;
      else this.#delete(key);
      throw error;
    }
  }

  /** From now on the damaged chunk is decoded again. */
  forgetDamaged(): void {
    if (this.#damaged !== null) this.#delete(this.#damaged);
    this.#damaged = null;
  }

  clear(): void {
    this.#chunks.clear();
    this.#bytes = 0;
    this.#damaged = null;
  }

  #delete(key: string): void {
    const chunk = this.#chunks.get(key);
    if (chunk === undefined) return;
    this.#chunks.delete(key);
    this.#bytes -= chunk.size;
  }
}

/** The part of a range that the file contains. */
export async function readInside(storage: Storage, fileOffset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.max(Math.min(length, storage.size - fileOffset), 0));
  await storage.read(fileOffset, bytes);
  return bytes;
}

function copyPart(decoded: Uint8Array, { skip, target }: Piece): void {
  target.set(decoded.subarray(skip, skip + target.length));
}

/** Groups neighbours in the file, which one read fetches. */
function groupNeighbours(pieces: readonly Piece[]): Piece[][] {
  const groups: Piece[][] = [];
  let start = 0;
  let end = -1;
  for (const piece of pieces) {
    const { fileOffset, storedBytes } = piece;
    const near = fileOffset >= start && fileOffset <= end + GAP_MAX && fileOffset + storedBytes - start <= READ_MAX;
    const last = groups.at(-1);
    if (last !== undefined && near) {
      last.push(piece);
      end = Math.max(end, fileOffset + storedBytes);
    } else {
      groups.push([piece]);
      start = fileOffset;
      end = fileOffset + storedBytes;
    }
  }
  return groups;
}
