/**
 * Names of files as text. Linux names are bytes; Node replaces those that are not UTF-8, so that the file cannot be
 * found by the name it lists. Here such a byte becomes a lone surrogate, U+DC00 plus the byte, which no UTF-8 text
 * contains and which becomes that byte again in a call of the system.
 */
import { isUtf8 } from 'node:buffer';
import * as fs from 'node:fs';
import { ImageError } from '../../errors.ts';
import { errorCode } from './errno.ts';

const ESCAPED = /[\udc80-\udcff]/u;
const ESCAPES = /([\udc80-\udcff])/u;
const BASE = 0xdc00;
/** Node has put this in place of bytes that are not UTF-8. */
const REPLACED = '\ufffd';

/** The text for a name from the system. */
export function decodeName(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = characterLength(bytes, at);
    text += length === 0 ? String.fromCharCode(BASE + (bytes[at] ?? 0)) : bytes.toString('utf8', at, at + length);
    at += Math.max(length, 1);
  }
  return text;
}

/** Bytes of the character at an offset; 0 when there is none. */
function characterLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] ?? 0;
  const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}

/** True for a name that is not UTF-8. */
export function isEscaped(name: string): boolean {
  return process.platform !== 'win32' && ESCAPED.test(name);
}

/** The name as calls of the system take it. */
export function encodeName(name: string): string | Buffer {
  if (!isEscaped(name)) return name;
  const parts = name.split(ESCAPES);
  return Buffer.concat(
    parts.map((part) => (ESCAPED.test(part) ? Buffer.of(part.charCodeAt(0) - BASE) : Buffer.from(part))),
  );
}

/** The working directory. Throws `not-found` when it was deleted. */
export function workingDirectory(): string {
  let known: string;
  try {
    known = process.cwd();
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    throw new ImageError('not-found', 'The working directory does not exist any more', {
      status: 'VERR_PATH_NOT_FOUND',
      hint: 'Change to another directory (cd), or name files by their full paths.',
      cause: error,
    });
  }
  if (!known.includes(REPLACED) || process.platform !== 'linux') return known;
  try {
    return decodeName(fs.readlinkSync('/proc/self/cwd', 'buffer'));
  } catch {
    // No /proc: names that are not UTF-8 cannot be told apart.
    return known;
  }
}

/** The words of the command line, with the bytes that Node has replaced. */
export function commandWords(words: readonly string[]): readonly string[] {
  if (process.platform !== 'linux' || !words.some((word) => word.includes(REPLACED))) return words;
  try {
    const bytes = fs.readFileSync('/proc/self/cmdline');
    // Each word ends with a NUL; those of Node come first.
    const found = decodeName(bytes).split('\0').slice(0, -1).slice(-words.length);
    return found.length === words.length ? found : words;
  } catch {
    return words;
  }
}
