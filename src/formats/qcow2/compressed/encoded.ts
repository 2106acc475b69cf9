/**
 * Reading compressed clusters. Streams lie packed in the file, so neighbours are fetched by one read and then decoded
 * in parallel. The stored length of a stream is rounded up to sectors: the bytes after it belong to other streams, and
 * may lie past the end of the file. A stream itself must be inside: missing bytes are never replaced, since zeroes may
 * decode to something.
 */
import { inflateRaw, zstdDecompress } from '#decompress';
import { largest, smallest } from '../../../binary/numbers.ts';
import { KIND } from '../../../blocks/two-level-map.ts';
import { assert, hex, withContext } from '../../../errors.ts';
import { allDone, markHandled } from '../../../storage/all-done.ts';
import type { ReadTarget, Storage } from '../../../storage/contract.ts';
import type { ClusterMap } from '../clusters/cluster-map.ts';
import type { Qcow2Header } from '../header/header.ts';

/** Guest bytes decoded at a time, at least a cluster. */
const WINDOW = 4 * 1024 * 1024;
/** Maximum bytes of the file per read, at least one stream. */
const READ_MAX = 2 * 1024 * 1024;
/** Gaps between streams up to this size are read along. */
const GAP_MAX = 16 * 1024;

/** One cluster, or the requested part of it. */
interface Piece {
  readonly guestOffset: number;
  /** Bytes of the cluster before the part. */
  readonly skip: number;
  readonly target: Uint8Array;
  readonly position: number;
  readonly bytes: number;
}

/** The last cluster read in part: the next request mostly needs the next part. */
interface Kept {
  readonly position: number;
  readonly bytes: number;
  readonly decoded: Promise<Uint8Array>;
}

/** Decodes the first `size` bytes of a stream; `room`: optional memory for the result. Throws `corrupt`. */
export type Decoder = (input: Uint8Array, size: number, room?: Uint8Array) => Promise<Uint8Array>;

/** The decoder for the compression of an image. */
export function decoderOf({ compression }: Pick<Qcow2Header, 'compression'>): Decoder {
  return compression === 'zstd' ? zstdDecompress : inflateRaw;
}

/** Reads compressed clusters of one image. */
export class EncodedReader {
  readonly #storage: Storage;
  readonly #map: ClusterMap;
  readonly #clusterSize: number;
  readonly #decompress: Decoder;
  #kept: Kept | null = null;

  constructor(storage: Storage, map: ClusterMap, header: Pick<Qcow2Header, 'clusterSize' | 'compression'>) {
    this.#storage = storage;
    this.#map = map;
    this.#clusterSize = header.clusterSize;
    this.#decompress = decoderOf(header);
  }

  /** Fills the target, which lies entirely in compressed clusters. */
  async read(offset: number, target: ReadTarget): Promise<void> {
    let at = offset;
    for (const buffer of target instanceof Uint8Array ? [target] : target) {
      const step = Math.max(WINDOW, this.#clusterSize);
      for (let from = 0; from < buffer.length; ) {
        // Windows end where clusters do.
        const to = Math.min(from + step - ((at + from) % this.#clusterSize), buffer.length);
        await this.#readWindow(at + from, buffer.subarray(from, to));
        from = to;
      }
      at += buffer.length;
    }
  }

  /** Drops decoded data. Called when space in the file is reused. */
  forget(): void {
    this.#kept = null;
  }

  async #readWindow(offset: number, target: Uint8Array): Promise<void> {
    const groups = grouped(await this.#pieces(offset, target));
    await allDone(groups.map((group) => markHandled(this.#readGroup(group))));
  }

  async #pieces(offset: number, target: Uint8Array): Promise<Piece[]> {
    const map = this.#map;
    const pieces: Piece[] = [];
    for (let at = 0; at < target.length; ) {
      const guestOffset = offset + at;
      while (!map.look(guestOffset)) await map.load(guestOffset);
      if (map.kind === KIND.broken) throw map.problem(guestOffset);
      assert(map.kind === KIND.encoded, 'a run of compressed clusters has nothing else in it');
      const end = Math.min(map.until - offset, target.length);
      pieces.push({
        guestOffset,
        skip: guestOffset % this.#clusterSize,
        target: target.subarray(at, end),
        position: map.position,
        bytes: map.encodedBytes,
      });
      at = end;
    }
    return pieces;
  }

  async #readGroup(group: readonly Piece[]): Promise<void> {
    const [only] = group;
    if (group.length === 1 && only !== undefined && only.target.length < this.#clusterSize) return this.#readPart(only);
    const start = smallest(
      group.map(({ position }) => position),
      Number.POSITIVE_INFINITY,
    );
    const end = largest(
      group.map(({ position, bytes }) => position + bytes),
      0,
    );
    const stored = await readInside(this.#storage, start, end - start);
    const decoding = group.map(async (piece) => {
      const decoded = await this.#decode(piece, stored.subarray(piece.position - start), piece.target);
      const inPlace = decoded.buffer === piece.target.buffer && decoded.byteOffset === piece.target.byteOffset;
      if (!inPlace) piece.target.set(decoded.subarray(piece.skip, piece.skip + piece.target.length));
    });
    await allDone(decoding);
  }

  async #readPart(piece: Piece): Promise<void> {
    let kept = this.#kept;
    if (kept === null || kept.position !== piece.position || kept.bytes !== piece.bytes) {
      kept = { position: piece.position, bytes: piece.bytes, decoded: this.#fetch(piece) };
      this.#kept = kept;
    }
    try {
      const decoded = await kept.decoded;
      piece.target.set(decoded.subarray(piece.skip, piece.skip + piece.target.length));
    } catch (error) {
      if (this.#kept === kept) this.#kept = null;
      throw error;
    }
  }

  async #fetch(piece: Piece): Promise<Uint8Array> {
    return this.#decode(piece, await readInside(this.#storage, piece.position, piece.bytes));
  }

  /**
   * `room`: memory for the result if it is a whole cluster.
   */
  async #decode({ guestOffset, position, bytes }: Piece, stored: Uint8Array, room?: Uint8Array): Promise<Uint8Array> {
    try {
      return await this.#decompress(stored.subarray(0, bytes), this.#clusterSize, room);
    } catch (error) {
      const isWhole = stored.length >= bytes;
      throw withContext(error, {
        path: this.#storage.label,
        offset: position,
        guestOffset,
        ...(isWhole ? {} : { expected: `${bytes} bytes before the end of the file, ${hex(this.#storage.size)}` }),
        hint: 'Other clusters can still be read.',
      });
    }
  }
}

/** The part of a range that the file contains. */
export async function readInside(storage: Storage, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.max(Math.min(length, storage.size - offset), 0));
  await storage.read(offset, bytes);
  return bytes;
}

/** Groups neighbours in the file, which one read fetches. */
function grouped(pieces: readonly Piece[]): Piece[][] {
  const groups: Piece[][] = [];
  let start = 0;
  let end = -1;
  for (const piece of pieces) {
    const { position, bytes } = piece;
    const near = position >= start && position <= end + GAP_MAX && position + bytes - start <= READ_MAX;
    const last = groups.at(-1);
    if (last !== undefined && near) {
      last.push(piece);
      end = Math.max(end, position + bytes);
    } else {
      groups.push([piece]);
      start = position;
      end = position + bytes;
    }
  }
  return groups;
}
