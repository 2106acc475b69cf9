/** Reading a whole disk: what it says of itself, what it reads, and whether that is what it read before. */
import { crc32 } from 'node:zlib';
import { isZero } from '../../src/codec/bytes.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { isImageError } from '../../src/errors.ts';
import type { Notes } from './notes.ts';
import { ContentView } from './pieces.ts';
import type { BaseFile, Expectation } from './protocol.ts';

/** Content of a disk, piece by piece: a checksum, `zero`, or `!` and the kind of a refusal. */
export type Digests = ReadonlyMap<number, string>;

export interface ReadThrough {
  readonly disk: ChainDisk;
  readonly notes: Notes;
  readonly title: string;
  readonly content: BaseFile | null;
  readonly expect: Expectation;
  readonly mustRead: boolean;
}

/** Bytes read of one disk at most. */
const BUDGET = 64 * 1024 * 1024;
/** The start of a disk is read in small pieces, so that one refusal hides little. */
const SMALL = 4096;
const SMALL_PART = 256 * 1024;
const LARGE = 1024 * 1024;
/** Runs asked for at most: a disk of petabytes may have one for each entry of its map. */
const RUNS = 4096;

/** Reads the disk as far as the budget goes, data first, and compares it with what it must hold. */
export async function readThrough(reading: ReadThrough): Promise<Digests> {
  const { disk, notes, title, content, expect } = reading;
  if (content !== null && expect.sameSize && disk.size !== content.size) {
    notes.finding(`${title}: the disk has ${disk.size} bytes instead of ${content.size}`);
  }
  const view = content === null ? null : new ContentView(content);
  const digests = new Map<number, string>();
  for (const [start, end] of await piecesToRead(reading)) {
    const bytes = new Uint8Array(end - start);
    try {
      await disk.read(start, bytes);
    } catch (error) {
      digests.set(start, `!${notes.kindOf(`${title} read`, error)}`);
      if (reading.mustRead) notes.finding(`${title}: ${end - start} bytes at ${start} were refused: ${String(error)}`);
      continue;
    }
    digests.set(start, digestOf(bytes));
    const wrong = view?.firstDifference(start, bytes, expect.unchanged) ?? null;
    if (wrong !== null) notes.finding(`${title}: wrong data at guest offset ${wrong}`);
  }
  const refused = [...digests.values()].some((digest) => digest.startsWith('!'));
  notes.steps.push(`${title} read:${refused ? 'part' : 'ok'}`);
  return digests;
}

/** Reads a disk of which nothing is known. */
export function readAgain(disk: ChainDisk, notes: Notes, title: string): Promise<Digests> {
  const expect = { opens: false, unchanged: [], sameSize: false };
  return readThrough({ disk, notes, title, content: null, expect, mustRead: false });
}

/**
 * Start of the first piece that was readable before and reads differently now; null for none. Pieces that overlap
 * `[start, end)`, and those not read again, do not count.
 */
export function firstChange(
  before: Digests,
  after: Digests,
  [start, end]: readonly [number, number] = [0, 0],
): number | null {
  const pieces = [...before.keys()];
  for (const [index, piece] of pieces.entries()) {
    const now = after.get(piece);
    const was = before.get(piece);
    const next = pieces[index + 1] ?? Number.POSITIVE_INFINITY;
    if (now === undefined || was === undefined || was.startsWith('!')) continue;
    if (piece < end && next > start) continue;
    if (now !== was) return piece;
  }
  return null;
}

/** Ranges in ascending order: the start of the disk, where it says that it has data, and where it once had some. */
async function piecesToRead({ disk, notes, title, content }: ReadThrough): Promise<[number, number][]> {
  const starts = new Set<number>();
  for (let at = 0; at < Math.min(disk.size, SMALL_PART); at += SMALL) starts.add(at);
  for (const { offset } of content?.pieces ?? []) addLarge(starts, offset, Math.min(offset + 1, disk.size));
  await eachDataRun(disk, notes, title, (start, end) => {
    addLarge(starts, start, Math.min(end, start + BUDGET));
    return starts.size * LARGE < BUDGET;
  });
  const last = Math.max(disk.size - SMALL, 0);
  if (last >= SMALL_PART) addLarge(starts, last, disk.size);
  return [...starts]
    .sort((a, b) => a - b)
    .map((start) => [start, Math.min(start < SMALL_PART ? start + SMALL : start - (start % LARGE) + LARGE, disk.size)]);
}

/** Large pieces that cover `[start, end)`; the first one of a disk begins where the small ones end. */
function addLarge(starts: Set<number>, start: number, end: number): void {
  for (let at = start - (start % LARGE); at < end && starts.size < 2 * (BUDGET / LARGE); at += LARGE) {
    if (at > 0) starts.add(at);
    else if (end > SMALL_PART) starts.add(SMALL_PART);
  }
}

/** Walks the allocation map, over refusals too, until `visit` has enough. */
async function eachDataRun(
  disk: ChainDisk,
  notes: Notes,
  title: string,
  visit: (start: number, end: number) => boolean,
): Promise<void> {
  const unit = Math.max(disk.images.at(-1)?.info.blockSize ?? SMALL, 512);
  let at = 0;
  for (let run = 0; at < disk.size && run < RUNS; run++) {
    try {
      const { length, state, offset } = await disk.extentAt(at, disk.size);
      if (!(length > 0) || offset !== at || at + length > disk.size) {
        notes.finding(`${title}: the run at ${at} is said to be ${length} bytes from ${offset}`);
        return;
      }
      at += length;
      if (state === 'data' && !visit(offset, at)) return;
    } catch (error) {
      if (!isImageError(error)) {
        notes.kindOf(`${title} map`, error);
        return;
      }
      at = (Math.floor(at / unit) + 1) * unit;
    }
  }
}

/** Short text that stands for the bytes. */
function digestOf(bytes: Uint8Array): string {
  return isZero(bytes) ? 'zero' : `${bytes.length} ${crc32(bytes)}`;
}
