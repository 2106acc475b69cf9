/**
 * A DMG of several files: `disk.dmg`, `disk.002.dmgpart` and so on, each with a part of the data and a trailer of the same
 * image. Chunks count in the data of all of them, and may begin in one file and end in the next.
 */
import { hex, ImageError, isImageError } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import { allOf } from '../../storage/checks.ts';
import type { OperationOptions, ReadTarget, Storage, StorageExtent } from '../../storage/contract.ts';
import { ForwardingStorage } from '../../storage/forwarding.ts';
import { DMG_LIMITS } from './layout.ts';
import type { DmgSource } from './source.ts';
import { readTables } from './tables.ts';
import { readTrailer, type Trailer } from './trailer.ts';

/** A further file of an image. */
export interface Segment {
  /** Its name beside the first one. */
  readonly name: string;
  readonly storage: Storage;
}

/** A file with its part of the data. */
interface DataPart {
  readonly storage: Storage;
  readonly trailer: Trailer;
  /** Offset in the data of all. */
  readonly start: number;
}

/** Opens all segments of an image by its first one. Throws `not-found`, `corrupt`, `unsupported`, `limit`. */
export async function openSegments(files: ImageFiles, main: Storage, first: Trailer): Promise<DmgSource> {
  const { segment, segments: count } = first;
  if (segment !== 1) throw notFirst(main, first);
  if (count > DMG_LIMITS.segments) {
    throw new ImageError('limit', 'The DMG has too many segments', {
      path: main.label,
      field: 'segment count',
      found: count,
      expected: `at most ${DMG_LIMITS.segments}`,
    });
  }
  const segments: Segment[] = [];
  const parts: DataPart[] = [{ storage: main, trailer: first, start: 0 }];
  let end = first.dataLength;
  requirePlace(main, first, 0);
  for (let number = 2; number <= count; number++) {
    const segment = await openSegment(files, number, count);
    const trailer = await readTrailer(segment.storage);
    requireSame(segment.storage, trailer, first, number);
    requirePlace(segment.storage, trailer, end);
    segments.push(segment);
    parts.push({ storage: segment.storage, trailer, start: end });
    end += trailer.dataLength;
  }
  const data = new JoinedSegments(parts, end);
  // In the data of all, the data of the first file begins at 0.
  const trailer = { ...first, dataOffset: 0, dataLength: end };
  const owner = parts.find((part) => part.trailer.xmlLength > 0 || part.trailer.forkLength > 0) ?? parts[0];
  const tables =
    owner === undefined ? [] : await readTables(owner.storage, { ...owner.trailer, dataOffset: 0, dataLength: end });
  return { main, trailer, tables, data, dataEnd: end, segments };
}

/** Beside `disk.dmg` lies `disk.002.dmgpart`. */
function segmentName({ name }: ImageFiles, number: number): string {
  const base = /[^/\\]*$/.exec(name)?.[0] ?? name;
  return `${base.replace(/\.[^.]*$/, '')}.${String(number).padStart(3, '0')}.dmgpart`;
}

async function openSegment(files: ImageFiles, number: number, count: number): Promise<Segment> {
  const name = segmentName(files, number);
  try {
    return { name, storage: await files.open({ name, role: 'segment', part: true }, 'read') };
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'not-found') throw error;
    throw new ImageError('not-found', 'A segment of the DMG is missing', {
      path: error.context.path ?? name,
      field: `segment ${number} of ${count}`,
      cause: error,
      hint: `Put it back beside ${files.name}, with the name ${name}.`,
    });
  }
}

function notFirst({ label: path }: Storage, { segment, segments }: Trailer): ImageError {
  return new ImageError('unsupported', 'The file is not the first segment of the DMG', {
    path,
    field: 'segment',
    found: `${segment} of ${segments}`,
    expected: `1 of ${segments}`,
    hint: 'Specify the first file, whose name ends in .dmg; the others are found beside it.',
  });
}

function requireSame({ label: path }: Storage, trailer: Trailer, first: Trailer, number: number): void {
  const id = hexOf(first.segmentId);
  const wanted = `${number} of ${first.segments}, id ${id}`;
  const found = `${trailer.segment} of ${trailer.segments}, id ${hexOf(trailer.segmentId)}`;
  if (found === wanted) return;
  throw new ImageError('corrupt', 'The file is not the segment of the DMG that its name says', {
    path,
    field: 'segment',
    found,
    expected: wanted,
    hint: 'Put the segments of one image into a directory, with the names that they were made with.',
  });
}

function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The place that a segment says its data has must be where the data of those before it ends. */
function requirePlace({ label: path }: Storage, { runningOffset }: Trailer, start: number): void {
  if (runningOffset === start) return;
  throw new ImageError('corrupt', 'The data of a segment of the DMG does not follow that of the segment before it', {
    path,
    field: 'running data fork offset',
    found: hex(runningOffset),
    expected: hex(start),
    hint: 'Copy the segments again: one of them is too long or too short, or belongs to another image.',
  });
}

/** The data of all segments. */
class JoinedSegments extends ForwardingStorage {
  readonly #parts: readonly DataPart[];
  readonly #size: number;

  constructor(parts: readonly DataPart[], size: number) {
    const [first] = parts;
    if (first === undefined) throw new Error('internal: there is a first segment');
    super(first.storage, ['readNow', 'allocate', 'adviseSequential', 'place', 'attributes']);
    this.#parts = parts;
    this.#size = size;
  }

  override get size(): number {
    return this.#size;
  }

  override extentAt(offset: number): StorageExtent {
    return { start: offset, end: this.#size, data: true };
  }

  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    let at = offset;
    for (const buffer of allOf(target)) {
      for (let from = 0; from < buffer.length; ) {
        const { storage, trailer, start } = this.#partAt(at);
        const inPart = at - start;
        const length = Math.min(buffer.length - from, trailer.dataLength - inPart);
        await storage.read(trailer.dataOffset + inPart, buffer.subarray(from, from + length), options);
        from += length;
        at += length;
      }
    }
  }

  #partAt(offset: number): DataPart {
    const found = this.#parts.findLast(({ start, trailer }) => start <= offset && offset < start + trailer.dataLength);
    if (found !== undefined) return found;
    throw new ImageError('out-of-bounds', 'The range does not lie inside the data of the DMG', {
      path: this.label,
      offset,
      expected: `up to ${this.#size}`,
    });
  }
}
