/** Names of parents as headers store them: UTF-8 without a NUL, in a field or a room of limited length. */
import { ImageError, printable } from '../errors.ts';

/** Throws `unsupported` for a name that no header can store: it is not UTF-8, or has control characters. */
export function requireText(name: string): void {
  const bytes = /[\u{d800}-\u{dfff}]/u.test(name);
  if (!bytes && ![...name].some((char) => char < ' ' || char === '\x7f')) return;
  const reason = bytes ? 'is not UTF-8' : 'has control characters';
  throw new ImageError('unsupported', `The name of the other file ${reason}, so the image cannot store it`, {
    found: printable(name),
    hint: 'Give that file another name. The name of a directory does not matter if both files lie in it.',
  });
}

/** The bytes of a name. Throws `limit` for one of more than `most` bytes, `unsupported`. `path`: the image, for errors. */
export function encodeBackingName(name: string, most: number, path?: string): Uint8Array {
  requireText(name);
  const bytes = new TextEncoder().encode(name);
  if (bytes.length <= most) return bytes;
  throw new ImageError('limit', 'The name of the backing file would be too long', {
    path,
    found: `${bytes.length} bytes`,
    expected: `at most ${most}`,
    hint: 'Move the files closer together, so that the relative path is shorter.',
  });
}

/** A stored name. Throws `invalid-format` for one with control characters. `offset`: its place in the file. */
export function decodeBackingName(bytes: Uint8Array, { field, offset }: { field: string; offset: number }): string {
  const name = new TextDecoder().decode(bytes);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (!/[\u0000-\u001f\u007f]/.test(name)) return name;
  throw new ImageError('invalid-format', 'A file name in the header has control characters', {
    offset,
    field,
    found: printable(name),
  });
}
