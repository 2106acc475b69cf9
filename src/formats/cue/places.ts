/**
 * Places of the tracks in their files. The times of a sheet count frames from the start of a file, and a frame takes what
 * a sector of its track takes: so places follow one from the other, through all sectors of a file.
 */
import { ImageError } from '../../errors.ts';
import { isAudio, type TrackType } from './layout.ts';
import type { Sheet, SheetFile, SheetIndex, SheetTrack } from './sheet.ts';

/** A range of sectors of one kind in one file. */
export interface Stretch {
  /** Its number in the list of tracks. */
  readonly track: number;
  /** Before INDEX 01 of that track. */
  readonly isGap: boolean;
  /** Kind of its sectors. Of a gap that shares a file with the track before, that of this track. */
  readonly type: TrackType;
  /** Number of the FILE line. */
  readonly file: number;
  readonly fileOffset: number;
  readonly frames: number;
}

/** Place where another stretch begins. */
interface Mark {
  readonly track: number;
  readonly isGap: boolean;
  readonly index: SheetIndex;
}

/** All sectors of all files, in the order of the sheet. Throws `corrupt` where a sheet and its files disagree. */
export function stretchesOf(sheet: Sheet, sizes: readonly number[], path: string): Stretch[] {
  const marks = marksOf(sheet.tracks);
  return sheet.files.flatMap((file, number) => {
    const own = marks.filter(({ index }) => index.file === number);
    return own.length === 0 ? [] : stretchesIn({ sheet, file, number, size: sizes[number] ?? 0, path }, own);
  });
}

function marksOf(tracks: readonly SheetTrack[]): Mark[] {
  return tracks.flatMap(({ indexes }, track) => indexes.map((index) => ({ track, isGap: index.number === 0, index })));
}

interface InFile {
  readonly sheet: Sheet;
  readonly file: SheetFile;
  readonly number: number;
  readonly size: number;
  readonly path: string;
}

function stretchesIn(place: InFile, marks: readonly Mark[]): Stretch[] {
  const { sheet, number, size } = place;
  checkOrder(place);
  const stretches: Stretch[] = [];
  let [fileOffset, frames] = [0, 0];
  let before: TrackType | null = null;
  const add = (mark: Mark, isGap: boolean, end: number | null): void => {
    const own = typeOf(sheet, mark);
    const type: TrackType = isGap && before !== null ? before : own;
    const count: number = end === null ? lastFrames(place, mark, type, fileOffset) : end - frames;
    if (count > 0) stretches.push({ track: mark.track, isGap, type, file: number, fileOffset, frames: count });
    fileOffset += count * type.stored;
    frames += count;
    if (fileOffset > size) throw beyond(place, mark, fileOffset);
    if (!isGap) before = type;
  };
  const [first] = marks;
  // What stands before the first index is stored, too: a gap, or a hidden track.
  if (first !== undefined) add(first, true, first.index.frames);
  for (const [at, mark] of marks.entries()) add(mark, mark.isGap, marks[at + 1]?.index.frames ?? null);
  return stretches;
}

function typeOf({ tracks }: Sheet, { track }: Mark): TrackType {
  const found = tracks[track];
  if (found === undefined) throw new Error('internal: a mark belongs to a track');
  return found.type;
}

/** Whole sectors up to the end of the file. */
function lastFrames({ file, size, path }: InFile, { index }: Mark, type: TrackType, fileOffset: number): number {
  const rest = size - fileOffset;
  if (rest >= 0 && rest % type.stored === 0) return rest / type.stored;
  throw new ImageError('corrupt', 'The last track of a file of the cue sheet does not end with a whole sector', {
    path,
    field: `line ${index.line}`,
    found: `${file.name} of ${size} bytes, the track from ${fileOffset} on`,
    expected: `whole sectors of ${type.stored} bytes (${type.word})`,
    hint: 'The file was cut off, or it belongs to another sheet: copy it again from where it came from.',
  });
}

function checkOrder({ sheet, number, path }: InFile): void {
  let before = 0;
  for (const index of sheet.tracks.flatMap(({ indexes }) => indexes)) {
    if (index.file !== number) continue;
    if (index.frames < before) {
      throw new ImageError('invalid-format', 'The times of the cue sheet do not ascend', {
        path,
        field: `line ${index.line}`,
        found: `frame ${index.frames}`,
        expected: `at least ${before}`,
      });
    }
    before = index.frames;
  }
}

function beyond({ file, size, path }: InFile, { index }: Mark, needed: number): ImageError {
  return new ImageError('corrupt', 'An index of the cue sheet lies beyond the end of its file', {
    path,
    field: `line ${index.line}`,
    found: `${file.name} of ${size} bytes`,
    expected: `at least ${needed} bytes`,
    hint: 'The file was cut off, or it belongs to another sheet: copy it again from where it came from.',
  });
}

/** Frames of a track: from INDEX 01 on, and before it. */
export function framesOf(stretches: readonly Stretch[], track: number): { readonly own: number; readonly gap: number } {
  const sum = (isGap: boolean): number =>
    stretches.filter((one) => one.track === track && one.isGap === isGap).reduce((all, { frames }) => all + frames, 0);
  return { own: sum(false), gap: sum(true) };
}

/** The form of a stretch in the list of regions. */
export function regionForm({ type, isGap }: Stretch): 'cdda-pause' | TrackType['form'] {
  return isGap && isAudio(type) ? 'cdda-pause' : type.form;
}
