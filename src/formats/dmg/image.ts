/** An open DMG: chunks of many kinds, found by their place in the disk. */
import { SECTOR } from '../../binary/numbers.ts';
import { type Chunk, ChunkReader } from '../../blocks/chunk-reader.ts';
import { ImageError } from '../../errors.ts';
import type { ImageInfo, ImagePart, Mapping, MetadataExtent } from '../../image/contract.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { allDone } from '../../storage/all-done.ts';
import type { ReadTarget, Storage } from '../../storage/contract.ts';
import { CODECS, decodeChunk, isLarge } from './decode.ts';
import type { LargeChunks } from './large-chunks.ts';
import { DMG_LIMITS, TRAILER, TYPE } from './layout.ts';
import type { DmgSource } from './source.ts';
import { type DmgChunk, sortedChunks } from './tables.ts';
import type { Trailer } from './trailer.ts';

/** Bytes of decoded chunks that are kept after a read of a part of them, at least one chunk. */
const KEPT_BYTES = 8 * 1024 * 1024;
const HINT = 'Other chunks can still be read (on the command line: convert --salvage).';
/** Names of tables that are listed. */
const NAMES_MAX = 64;

/** See the head of this file. */
export class DmgImage extends PlainImage {
  readonly info: ImageInfo;
  readonly #source: DmgSource;
  readonly #chunks: readonly DmgChunk[];
  readonly #reader: ChunkReader;
  /** Loaded when it is first used. */
  #large: Promise<LargeChunks> | null = null;

  constructor(source: DmgSource) {
    super(source.main);
    const { main, trailer, tables, data: storage } = source;
    this.#source = source;
    this.#chunks = tables.length === 0 ? plainDisk(trailer) : sortedChunks(tables, main.label);
    this.info = infoOf(source, this.#chunks);
    const decoded = this.#chunks.filter((chunk) => CODECS.has(chunk.type) && !isLarge(chunk));
    const chunkBytes = Math.min(
      decoded.reduce((most, { size }) => Math.max(most, size), SECTOR),
      DMG_LIMITS.chunkBytes,
    );
    this.#reader = new ChunkReader({
      storage,
      chunkBytes,
      keptBytes: Math.max(KEPT_BYTES, chunkBytes),
      hint: HINT,
      find: (guestOffset) => this.#find(guestOffset),
      decode: (stored, size, room, { guestOffset }) => decodeChunk(this.#find(guestOffset).type, stored, size, room),
    });
  }

  map(guestOffset: number, length: number): Mapping {
    const end = guestOffset + length;
    let index = this.#indexAt(guestOffset);
    const chunk = this.#chunks[index];
    if (chunk === undefined || guestOffset >= chunk.guestOffset + chunk.size) {
      const next = this.#chunks[index + 1]?.guestOffset ?? end;
      return { kind: 'zero', length: Math.min(next, end) - guestOffset };
    }
    const kind = kindOf(chunk);
    let reached = chunk.guestOffset + chunk.size;
    this.#check(chunk, guestOffset, Math.min(reached, end) - guestOffset);
    if (kind === 'data') {
      const fileOffset = chunk.fileOffset + guestOffset - chunk.guestOffset;
      return {
        kind,
        storage: this.#source.data,
        fileOffset,
        length: Math.min(reached, end) - guestOffset,
        writable: false,
      };
    }
    for (; reached < end && !isLarge(chunk); index++) {
      const next = this.#chunks[index + 1];
      if (next?.guestOffset !== reached || kindOf(next) !== kind || this.#problem(next) !== null || isLarge(next))
        break;
      reached = next.guestOffset + next.size;
    }
    return { kind, length: Math.min(reached, end) - guestOffset };
  }

  readEncoded(guestOffset: number, target: ReadTarget): Promise<void> {
    const chunk = this.#find(guestOffset);
    if (!isLarge(chunk)) return this.#reader.read(guestOffset, target);
    this.#large ??= import('./large-chunks.ts').then(({ LargeChunks }) => new LargeChunks(this.#source.data));
    return this.#large.then((large) => large.read(chunk, guestOffset, target));
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    const { xmlOffset, xmlLength, forkOffset, forkLength, fileOffset } = this.#source.trailer;
    const parts = [
      [forkOffset, forkLength, 'resource fork'],
      [xmlOffset, xmlLength, 'property list'],
      [fileOffset, TRAILER.size, 'trailer'],
    ] as const;
    for (const [at, length, what] of parts) {
      if (length > 0) yield { storage, fileOffset: at, length, what, guestOffset: null };
    }
  }

  parts(): ImagePart[] {
    return this.#source.segments.map(({ name, storage }) => ({ name, role: 'segment', storage }));
  }

  override storages(): readonly Storage[] {
    return [this.storage, ...this.#source.segments.map(({ storage }) => storage)];
  }

  override async close(): Promise<void> {
    await (await this.#large)?.close();
    await allDone(this.storages().map((storage) => storage.close()));
  }

  /** Number of the last chunk that begins at or before the offset; -1: there is none. */
  #indexAt(guestOffset: number): number {
    let [low, high] = [-1, this.#chunks.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#chunks[middle]?.guestOffset ?? 0) <= guestOffset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #find(guestOffset: number): DmgChunk & Chunk {
    const chunk = this.#chunks[this.#indexAt(guestOffset)];
    if (chunk === undefined) throw new Error('internal: an encoded run lies in chunks');
    return chunk;
  }

  /** Throws if a chunk cannot be read. */
  #check(chunk: DmgChunk, guestOffset: number, guestLength: number): void {
    const problem = this.#problem(chunk);
    if (problem === null) return;
    throw new ImageError(problem.kind, problem.message, {
      path: this.storage.label,
      offset: chunk.fileOffset,
      guestOffset,
      guestLength,
      found: problem.found,
      expected: problem.expected,
      hint: HINT,
    });
  }

  #problem({ type, size, fileOffset, storedBytes }: DmgChunk): Problem | null {
    if (type === TYPE.zero || type === TYPE.ignore) return null;
    if (type !== TYPE.raw && !CODECS.has(type)) {
      const found = `0x${type.toString(16)}`;
      return { kind: 'corrupt', message: 'The kind of a chunk of the DMG is unknown', found, expected: 'a known kind' };
    }
    const { dataEnd } = this.#source;
    if (fileOffset + storedBytes > dataEnd) {
      const [found, expected] = [`${storedBytes} bytes`, `an end at or before ${dataEnd}`];
      return { kind: 'corrupt', message: 'A chunk of the DMG lies outside the file', found, expected };
    }
    if (type === TYPE.raw && storedBytes !== size) {
      const [found, expected] = [`${storedBytes} bytes`, `${size} bytes`];
      return {
        kind: 'corrupt',
        message: 'A chunk of the DMG has another length than its part of the disk',
        found,
        expected,
      };
    }
    const most = DMG_LIMITS.chunkBytes;
    if (type === TYPE.raw || isLarge({ type, size }) || (size <= most && storedBytes <= most)) return null;
    const [found, expected] = [`${Math.max(size, storedBytes)} bytes`, `at most ${most} bytes`];
    return { kind: 'limit', message: 'A chunk of the DMG is too long to decode', found, expected };
  }
}

interface Problem {
  readonly kind: 'corrupt' | 'unsupported' | 'limit';
  readonly message: string;
  readonly found: string;
  readonly expected: string | undefined;
}

function kindOf({ type }: DmgChunk): 'zero' | 'data' | 'encoded' {
  if (type === TYPE.zero || type === TYPE.ignore) return 'zero';
  return type === TYPE.raw ? 'data' : 'encoded';
}

/** Without tables the data fork is the disk. */
function plainDisk({ dataOffset, dataLength, sectorCount }: Trailer): DmgChunk[] {
  const size = Math.floor(dataLength / SECTOR) * SECTOR;
  const length = sectorCount === 0 ? size : Math.min(size, sectorCount * SECTOR);
  if (length === 0) return [];
  return [{ type: TYPE.raw, guestOffset: 0, size: length, fileOffset: dataOffset, storedBytes: length }];
}

function infoOf({ main: storage, trailer, tables, segments }: DmgSource, chunks: readonly DmgChunk[]): ImageInfo {
  const last = chunks.at(-1);
  const end = last === undefined ? 0 : last.guestOffset + last.size;
  const stated = trailer.sectorCount * SECTOR;
  const virtualSize = Math.max(stated, end);
  if (virtualSize === 0) {
    throw new ImageError('corrupt', 'The DMG has an empty disk', {
      path: storage.label,
      field: 'sector count',
      found: 0,
    });
  }
  const warnings: string[] = [];
  if (stated < end && stated > 0) {
    warnings.push(`The trailer says that the disk has ${stated} bytes, but its chunks reach to ${end}.`);
  }
  if (trailer.behind > 0) warnings.push(`The file has ${trailer.behind} bytes behind its trailer.`);
  const codecs = new Set(chunks.map(({ type }) => CODECS.get(type)).filter((codec) => codec !== undefined));
  const names = tables
    .slice(0, NAMES_MAX)
    .map(({ name, guestOffset, size }, index) => [
      `table ${index}`,
      `${name === '' ? 'without a name' : name}: sectors ${guestOffset / SECTOR} to ${(guestOffset + size) / SECTOR}`,
    ]);
  return plainInfo({
    format: 'dmg',
    variant: [...codecs].map((codec) => codec.toLowerCase()),
    virtualSize,
    blockSize: null,
    version: '4',
    warnings,
    details: {
      tables: tables.length,
      chunks: chunks.length,
      ...(segments.length === 0 ? {} : { segments: segments.length + 1 }),
      ...Object.fromEntries(names),
    },
  });
}
