/** Text form of a disk in VirtualBox's file system chains: `vd(base.vdi,diff.vdi,ro)`. */

import { checkArguments, TEXT } from '../arguments.ts';
import type { DiskOpenOptions } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import { detectFormat } from '../operations/inspect.ts';
import { openDisk } from '../operations/open.ts';
import { OPTIONS } from '../operations/option-kinds.ts';
import type { OpenMode } from '../storage/contract.ts';
import { diskFile, type FileObject } from './file.ts';

/** Parsed form of the text. */
export interface ChainSpec {
  /** Names of the images, base first. At least one. */
  readonly images: readonly string[];
  /** Access mode; null if the text does not give one. */
  readonly mode: OpenMode | null;
}

const MODES: Readonly<Record<string, OpenMode>> = { ro: 'read', r: 'read', rw: 'write' };
/** A last argument of at most this length that is not a mode is an error, not a name. */
const SHORT = 4;

/**
 * Parses `vd(path[,path…][,ro|rw])`: names of images, base first, and the access mode. `\` before a comma, a
 * parenthesis or itself makes it part of a name. An empty last argument is ignored if there are several, and a last
 * argument of at most 4 characters must be `ro`, `r` or `rw`. Throws `invalid-argument`.
 */
export function parseChainSpec(text: string): ChainSpec {
  checkArguments('parseChainSpec', { text: [text, TEXT] });
  const [, element, inner] = /^\s*([\w-]+)\s*\(([\s\S]*)\)\s*$/.exec(text) ?? [];
  if (element === undefined || inner === undefined)
    throw wrong(text, 'The text is not a file system chain', 'vd(path)');
  if (element !== 'vd') throw wrong(text, `The chain element "${element}" is not supported`, 'vd');
  const args = argumentsOf(text, inner);
  const last = args.at(-1) ?? '';
  const said = args.length > 1 ? modeOf(text, last) : undefined;
  const images = said === undefined ? args : args.slice(0, -1);
  if (images.some((name) => name === '')) throw wrong(text, 'The name of an image is empty', 'vd(path)');
  return { images, mode: said ?? null };
}

/** Null: no mode given. Undefined: a name. */
function modeOf(text: string, last: string): OpenMode | null | undefined {
  if (last === '') return null;
  if (Object.hasOwn(MODES, last)) return MODES[last];
  if (last.length > SHORT) return undefined;
  throw wrong(text, `"${last}" is not an open mode`, 'ro or rw, or a longer name');
}

function argumentsOf(text: string, inner: string): string[] {
  const args = [''];
  for (let at = 0; at < inner.length; at++) {
    const char = inner[at] ?? '';
    const next = inner[at + 1] ?? '';
    if (char === '\\' && /[(),\\]/.test(next)) {
      args.push((args.pop() ?? '') + next);
      at++;
    } else if (char === ',') {
      args.push('');
    } else if (char === '(' || char === ')') {
      throw wrong(text, 'Unexpected parenthesis: a chain has one disk only', 'vd(path)');
    } else {
      args.push((args.pop() ?? '') + char);
    }
  }
  return args;
}

function wrong(found: string, message: string, expected: string): ImageError {
  return new ImageError('invalid-argument', message, { status: 'VERR_VFS_CHAIN_INVALID_ARGUMENT', found, expected });
}

/** Options for opening the disk; `mode` is used if the text does not give one. */
export type ChainSpecOptions = Omit<DiskOpenOptions, 'parent' | 'parentFormat'>;

/**
 * Opens the disk that a text names, as a file; closing the file closes the disk. All images but the last are opened for
 * reading. The format defaults to that of the first image. Throws the errors of `parseChainSpec` and `Disk.open`.
 */
export async function openChainSpec(text: string, options: ChainSpecOptions = {}): Promise<FileObject> {
  checkArguments('openChainSpec', { text: [text, TEXT], options: [options, OPTIONS] });
  const { images, mode } = parseChainSpec(text);
  const format = options.format ?? (await formatOf(images[0] ?? '', options));
  const said = format === undefined ? {} : { format };
  const disk = await openDisk(
    images.map((image) => ({ image, ...said })),
    { ...options, mode: mode ?? options.mode ?? 'read' },
  );
  return diskFile(disk, { closeDisk: true });
}

/** A guessed raw format must never be written, so a guess is not passed on. */
async function formatOf(image: string, options: ChainSpecOptions): Promise<string | undefined> {
  const { format, guessed } = await detectFormat(image, options);
  return guessed ? undefined : format;
}
