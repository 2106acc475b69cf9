/**
 * The text of a cue sheet: FILE, TRACK and INDEX lines, and those about them. Lines that say nothing about the place of
 * data (titles, performers, codes) are left out. Blanks, case and quotes are taken as they are found in the wild.
 */
import { splitLines, type TextLine } from '../../blocks/text.ts';
import { ImageError } from '../../errors.ts';
import { FRAMES, TRACK_TYPES, type TrackType } from './layout.ts';
import { CUE_LIMITS } from './limits.ts';

/** A FILE line. */
export interface SheetFile {
  readonly name: string;
  /** Upper case: `BINARY`. */
  readonly type: string;
  readonly line: number;
}

/** A place in a file: the start of a gap (0), of a track (1), or of a part of one. */
export interface SheetIndex {
  readonly number: number;
  /** From the start of the file. */
  readonly frames: number;
  /** Number of the FILE line. */
  readonly file: number;
  readonly line: number;
}

/** A TRACK line with what follows it. */
export interface SheetTrack {
  readonly number: number;
  readonly type: TrackType;
  readonly line: number;
  readonly indexes: SheetIndex[];
  /** Frames of silence that no file holds. */
  pregap: number;
  postgap: number;
}

/** A sheet whose lines were understood. */
export interface Sheet {
  readonly files: readonly SheetFile[];
  readonly tracks: readonly SheetTrack[];
}

/** Bounds of the text. */
const TEXT_BOUNDS = { lines: 20_000, lineLength: 8192 } as const;
const FILE = /^(?:"(.*)"|(.*?))\s+(\S+)$/;
const TRACK = /^(\d{1,3})\s+(\S+)$/;
const INDEX = /^(\d{1,2})\s+(\d{1,6}):(\d{1,2}):(\d{1,2})$/;
const TIME = /^(\d{1,6}):(\d{1,2}):(\d{1,2})$/;
/** Lines that say nothing about the place of data. */
const OTHER = new Set(['REM', 'CATALOG', 'CDTEXTFILE', 'TITLE', 'PERFORMER', 'SONGWRITER', 'FLAGS', 'ISRC']);

/** Reads a sheet. Throws `invalid-format`, `unsupported` and `limit`, with the line. */
export function parseSheet(bytes: Uint8Array, path: string): Sheet {
  const { lines, isCut } = splitLines(decoded(bytes), TEXT_BOUNDS);
  if (isCut) {
    throw new ImageError('limit', 'The cue sheet is too long', {
      path,
      expected: `at most ${TEXT_BOUNDS.lines} lines of ${TEXT_BOUNDS.lineLength} characters`,
    });
  }
  const reader = new SheetReader(path);
  for (const line of lines) reader.take(line);
  return reader.finish();
}

/** Text in UTF-8; in an old code page, its letters one a byte, where it is not. */
function decoded(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

class SheetReader {
  readonly #path: string;
  readonly #files: SheetFile[] = [];
  readonly #tracks: SheetTrack[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  take(line: TextLine): void {
    const [word = ''] = /^\S+/.exec(line.text) ?? [];
    const rest = line.text.slice(word.length).trim();
    const keyword = word.toUpperCase();
    if (keyword === 'FILE') this.#takeFile(rest, line);
    else if (keyword === 'TRACK') this.#takeTrack(rest, line);
    else if (keyword === 'INDEX') this.#takeIndex(rest, line);
    else if (keyword === 'PREGAP' || keyword === 'POSTGAP') this.#takeGap(keyword, rest, line);
    else if (!OTHER.has(keyword)) throw this.#wrong(line, 'a line of a cue sheet');
  }

  finish(): Sheet {
    if (this.#tracks.length === 0) {
      throw new ImageError('invalid-format', 'The cue sheet has no tracks', {
        path: this.#path,
        status: 'VERR_VD_GEN_INVALID_HEADER',
        expected: 'a TRACK line',
      });
    }
    for (const { number, indexes, line } of this.#tracks) {
      if (indexes.some((index) => index.number === 1)) continue;
      throw new ImageError('invalid-format', `Track ${number} of the cue sheet has no start`, {
        path: this.#path,
        field: `line ${line}`,
        expected: 'a line INDEX 01 mm:ss:ff behind it',
      });
    }
    return { files: this.#files, tracks: this.#tracks };
  }

  #takeFile(rest: string, line: TextLine): void {
    const [, quoted, plain, type] = FILE.exec(rest) ?? [];
    const name = quoted ?? plain;
    if (name === undefined || name === '' || type === undefined) throw this.#wrong(line, 'FILE "name" BINARY');
    if (this.#files.length === CUE_LIMITS.files) {
      const expected = `at most ${CUE_LIMITS.files}`;
      throw new ImageError('limit', 'The cue sheet names too many files', { path: this.#path, expected });
    }
    this.#files.push({ name, type: type.toUpperCase(), line: line.number });
  }

  #takeTrack(rest: string, line: TextLine): void {
    const [, digits, word = ''] = TRACK.exec(rest) ?? [];
    const number = Number(digits);
    const before = this.#tracks.at(-1)?.number ?? 0;
    if (digits === undefined) throw this.#wrong(line, 'TRACK number type');
    if (number <= before || number > 99) {
      throw this.#wrong(line, before < 99 ? `a track from ${before + 1} to 99` : 'no track behind the 99th');
    }
    if (this.#files.length === 0) throw this.#wrong(line, 'a FILE line before it');
    const type = TRACK_TYPES.find((one) => one.word === word.toUpperCase());
    if (type === undefined) {
      throw new ImageError('unsupported', `Track ${number} of the cue sheet is of an unknown type`, {
        path: this.#path,
        field: `line ${line.number}`,
        found: word,
        expected: TRACK_TYPES.map((one) => one.word).join(', '),
      });
    }
    this.#tracks.push({ number, type, line: line.number, indexes: [], pregap: 0, postgap: 0 });
  }

  #takeIndex(rest: string, line: TextLine): void {
    const [, digits, ...time] = INDEX.exec(rest) ?? [];
    if (digits === undefined) throw this.#wrong(line, 'INDEX nn mm:ss:ff');
    const track = this.#trackOf(line);
    const number = Number(digits);
    const before = track.indexes.at(-1);
    if (before === undefined ? number > 1 : number !== before.number + 1) {
      throw this.#wrong(line, before === undefined ? 'INDEX 00 or 01' : `INDEX ${before.number + 1}`);
    }
    track.indexes.push({ number, frames: this.#frames(time, line), file: this.#files.length - 1, line: line.number });
  }

  #takeGap(keyword: 'PREGAP' | 'POSTGAP', rest: string, line: TextLine): void {
    const [, ...time] = TIME.exec(rest) ?? [];
    if (time.length === 0) throw this.#wrong(line, `${keyword} mm:ss:ff`);
    const track = this.#trackOf(line);
    const frames = this.#frames(time, line);
    if (keyword === 'PREGAP') track.pregap = frames;
    else track.postgap = frames;
  }

  #trackOf(line: TextLine): SheetTrack {
    const track = this.#tracks.at(-1);
    if (track === undefined) throw this.#wrong(line, 'a TRACK line before it');
    return track;
  }

  #frames(time: readonly string[], line: TextLine): number {
    const [minutes = 0, seconds = 0, frames = 0] = time.map(Number);
    if (minutes > CUE_LIMITS.minutes) {
      throw new ImageError('limit', 'A time of the cue sheet is too long', {
        path: this.#path,
        field: `line ${line.number}`,
        found: `${minutes} minutes`,
        expected: `at most ${CUE_LIMITS.minutes}`,
      });
    }
    if (seconds >= 60 || frames >= FRAMES) {
      throw this.#wrong(line, `seconds up to 59 and frames up to ${FRAMES - 1}`);
    }
    return (minutes * 60 + seconds) * FRAMES + frames;
  }

  #wrong(line: TextLine, expected: string): ImageError {
    return new ImageError('invalid-format', 'A line of the cue sheet is invalid', {
      path: this.#path,
      status: 'VERR_VD_GEN_INVALID_HEADER',
      field: `line ${line.number}`,
      found: line.text.slice(0, 80),
      expected,
    });
  }
}
