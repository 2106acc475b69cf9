/** Zip: the end record, with which reading begins, and the place of the directory. */
import { hasText, lastPlacesOf } from '../../../binary/look.ts';
import { type ErrorContext, ImageError } from '../../../errors.ts';
import type { Storage } from '../../../storage/contract.ts';
import { bytesAt } from './bytes-at.ts';
import { ELSEWHERE, END, END64, LOCATOR, SIGNATURE } from './zip-layout.ts';

/** The central directory of an archive. */
export interface ZipDirectory {
  readonly offset: number;
  readonly size: number;
  readonly entries: number;
  /** Bytes in front of the archive, which its offsets do not count. */
  readonly shift: number;
  /** Bytes behind the archive. */
  readonly behind: number;
}

/** Bytes at the end in which the end record is looked for: it may have a comment, and other bytes may follow. */
const TAIL = 1024 * 1024;
/** End records that are tried. */
const CANDIDATES = 1000;

/** Finds the directory. Throws `corrupt`, `unsupported` for archives in several volumes. */
export async function findDirectory(storage: Storage): Promise<ZipDirectory> {
  const { label: path, size } = storage;
  const tail = new Uint8Array(Math.min(TAIL, size));
  const start = size - tail.length;
  await storage.read(start, tail);
  const behind: ZipDirectory[] = [];
  const fitting: ZipDirectory[] = [];
  let tried = 0;
  for (const at of lastPlacesOf(tail, SIGNATURE.end)) {
    if (at + END.size > tail.length) continue;
    if (tried++ === CANDIDATES) throw corrupt(path, 'has too many end records');
    const found = await directoryBefore(storage, start + at, tail.subarray(at, at + END.size));
    if (found === null) continue;
    (found.behind === 0 ? fitting : behind).push(found);
  }
  // A comment may have an end record in it: programs would read different archives.
  const full = fitting.filter(({ entries }) => entries > 0);
  if (full.length > 1) throw corrupt(path, 'has two end records, each with a directory');
  const found = full[0] ?? fitting[0] ?? behind.find(({ entries }) => entries > 0);
  if (found !== undefined) return found;
  throw corrupt(path, 'has no end record: it was cut off or changed', { field: 'end of central directory' });
}

/** The directory directly in front of an end record; null: there is none. `behind` may be less than nothing. */
async function directoryBefore(storage: Storage, place: number, bytes: Uint8Array): Promise<ZipDirectory | null> {
  const end = END.decode(bytes);
  const behind = storage.size - place - END.size - end.commentLength;
  if (behind < 0) return null;
  const wide = await zip64Before(storage, place);
  const { volume, directoryVolume } = wide?.end ?? end;
  const { entries, directorySize, directoryOffset } = wide?.end ?? end;
  const limit = wide?.place ?? place;
  const offset = limit - directorySize;
  const shift = offset - directoryOffset;
  if (offset < 0 || shift < 0 || (entries === 0) !== (directorySize === 0)) return null;
  const isThere = entries === 0 || (await hasSignature(storage, offset, SIGNATURE.entry));
  if (!isThere) return null;
  if ((volume !== 0 && volume !== ELSEWHERE.u16) || (directoryVolume !== 0 && directoryVolume !== ELSEWHERE.u16)) {
    throw new ImageError('unsupported', 'The zip archive is one of several volumes', {
      path: storage.label,
      field: 'number of this disk',
      found: volume,
      expected: 0,
      hint: 'Make one file of them first (zip -s 0 IN.zip --out OUT.zip).',
    });
  }
  return { offset, size: directorySize, entries, shift, behind };
}

/** The zip64 record of an end record, and its place; null: it has none. */
async function zip64Before(
  storage: Storage,
  place: number,
): Promise<{ readonly end: ReturnType<typeof END64.decode>; readonly place: number } | null> {
  const at = place - LOCATOR.size;
  if (at < END64.size || !(await hasSignature(storage, at, SIGNATURE.locator))) return null;
  const locator = LOCATOR.decode(await bytesAt(storage, at, LOCATOR.size));
  // Directly in front, unless it has more fields: then where the locator has it, which counts from the archive's start.
  for (const one of [at - END64.size, locator.endOffset]) {
    if (one + END64.size > at || !(await hasSignature(storage, one, SIGNATURE.end64))) continue;
    return { end: END64.decode(await bytesAt(storage, one, END64.size)), place: one };
  }
  throw corrupt(storage.label, 'has no zip64 end record where its locator has it', {
    field: 'zip64 end of central directory',
    found: locator.endOffset,
  });
}

async function hasSignature(storage: Storage, offset: number, signature: string): Promise<boolean> {
  if (offset < 0 || offset + signature.length > storage.size) return false;
  return hasText(await bytesAt(storage, offset, signature.length), 0, signature);
}

function corrupt(path: string, what: string, context: ErrorContext = {}): ImageError {
  return new ImageError('corrupt', `The zip archive ${what}`, { path, ...context });
}
