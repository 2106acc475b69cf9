/** Cue sheets: the methods of the format, loaded when they are first used. */
import { ImageError, withContext } from '../../errors.ts';
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { someAtATime } from '../../storage/all-done.ts';
import type { Storage } from '../../storage/contract.ts';
import { CueImage, type SectorForm } from './image.ts';
import { isAudio } from './layout.ts';
import { CUE_LIMITS } from './limits.ts';
import { stretchesOf } from './places.ts';
import { parseSheet, type Sheet, type SheetFile } from './sheet.ts';

/** Bytes that tell a text from a disk. */
const HEAD = 512;

/** Files that are opened together. */
const OPENED_TOGETHER = 8;

/** Opens a sheet with the files that it names. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  const storage = mainFile(files);
  requireOptical(options, storage.label);
  const sheet = parseSheet(await readSheet(storage), storage.label);
  const track = trackOf(sheet, options.config?.['track'], storage.label);
  const opened = new Map<string, Promise<Storage>>();
  const storages = await someAtATime(sheet.files, OPENED_TOGETHER, async (file, number) => {
    const isUsed = sheet.tracks.some(({ indexes }) => indexes.some((index) => index.file === number));
    return isUsed ? openFile(file, files, opened) : null;
  });
  const sizes = storages.map((one) => one?.size ?? 0);
  const stretches = stretchesOf(sheet, sizes, storage.label);
  if (!stretches.some((one) => track === null || (one.track === track && !one.isGap))) {
    throw new ImageError('corrupt', track === null ? 'The tracks of the cue sheet are empty' : 'The track is empty', {
      path: storage.label,
    });
  }
  const asked = options.config?.['sectors'];
  const form: SectorForm = asked === undefined ? (track === null ? 'raw' : 'data') : asked === 'data' ? 'data' : 'raw';
  return new CueImage({ storage, sheet, files: storages, stretches, track, form });
}

function requireOptical({ type }: FormatOpenOptions, path: string): void {
  if (type === undefined || type === 'optical') return;
  throw new ImageError('unsupported', 'A cue sheet describes an optical disc', {
    path,
    status: 'VERR_NOT_SUPPORTED',
    found: type,
    expected: 'optical',
  });
}

async function readSheet(storage: Storage): Promise<Uint8Array> {
  const head = new Uint8Array(Math.min(storage.size, HEAD));
  if (head.length > 0) await storage.read(0, head);
  if (head.includes(0)) {
    throw new ImageError('invalid-format', 'The file is not a cue sheet', {
      path: storage.label,
      found: 'NUL bytes',
      expected: 'text',
    });
  }
  if (storage.size > CUE_LIMITS.sheetBytes) {
    throw new ImageError('limit', 'The cue sheet is too long', {
      path: storage.label,
      found: `${storage.size} bytes`,
      expected: `at most ${CUE_LIMITS.sheetBytes}`,
    });
  }
  const bytes = new Uint8Array(storage.size);
  if (bytes.length > 0) await storage.read(0, bytes);
  return bytes;
}

/** Number in the list; null: none was asked for. */
function trackOf({ tracks }: Sheet, wanted: unknown, path: string): number | null {
  if (wanted === undefined) return null;
  const track = tracks.findIndex(({ number }) => number === Number(wanted));
  if (track >= 0) return track;
  throw new ImageError('not-found', 'The cue sheet has no such track', {
    path,
    field: 'track',
    found: String(wanted),
    expected: tracks.map(({ number, type }) => `${number}${isAudio(type) ? ' (audio)' : ''}`).join(', '),
  });
}

/** The file of a line. Several lines may name one. */
function openFile(file: SheetFile, files: ImageFiles, opened: Map<string, Promise<Storage>>): Promise<Storage> {
  const { name, type, line } = file;
  if (type !== 'BINARY' && type !== 'MOTOROLA') {
    throw new ImageError('unsupported', 'A file of the cue sheet is compressed, or has a header', {
      path: files.name,
      field: `line ${line}`,
      found: `${name} (${type})`,
      expected: 'BINARY or MOTOROLA',
      hint: 'Convert the file to plain samples with an audio program, and name it as BINARY.',
    });
  }
  const known = opened.get(name);
  if (known !== undefined) return known;
  const opening = files.open({ name, role: 'track file', part: true }, 'read').catch((error: unknown) => {
    throw withContext(error, { hint: `Line ${line} of ${files.name} names it: put it back beside the sheet.` });
  });
  opened.set(name, opening);
  return opening;
}
