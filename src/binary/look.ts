/** Reads from bytes that may be too short: nothing here throws. */

/** True when `text`, one byte per letter, is at `offset`. */
export function hasText(bytes: Uint8Array, offset: number, text: string): boolean {
  if (offset < 0 || offset + text.length > bytes.length) return false;
  for (let at = 0; at < text.length; at++) if (bytes[offset + at] !== text.charCodeAt(at)) return false;
  return true;
}

/** Offsets of `text`, the last one first. One byte per letter. */
export function* lastPlacesOf(bytes: Uint8Array, text: string): Generator<number> {
  const first = text.charCodeAt(0);
  // A search of the engine's: tails are looked through for every file beside an image.
  for (let at = bytes.lastIndexOf(first); at >= 0; at = at === 0 ? -1 : bytes.lastIndexOf(first, at - 1)) {
    if (hasText(bytes, at, text)) yield at;
  }
}

/** The 16-bit number at `offset`; null past the end. */
export function u16At(bytes: Uint8Array, offset: number, order: 'little' | 'big'): number | null {
  if (offset < 0 || offset + 2 > bytes.length) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint16(offset, order === 'little');
}

/** The 32-bit number at `offset`; null past the end. */
export function u32At(bytes: Uint8Array, offset: number, order: 'little' | 'big'): number | null {
  if (offset < 0 || offset + 4 > bytes.length) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(offset, order === 'little');
}

/** The 64-bit number at `offset`; null past the end. */
export function u64At(bytes: Uint8Array, offset: number, order: 'little' | 'big'): bigint | null {
  if (offset < 0 || offset + 8 > bytes.length) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getBigUint64(offset, order === 'little');
}

/** The bytes up to the first NUL as text, a BOM left out. Bad UTF-8 is tolerated. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}

/** A field of NUL-padded text; null when it is longer than the bytes. */
export function fieldAt(bytes: Uint8Array, offset: number, size: number): string | null {
  return offset + size > bytes.length ? null : textOf(bytes.subarray(offset, offset + size));
}

/** Bytes of an XML file that are examined. */
const XML_BYTES = 20 * 1024;
/** Parts permitted before the first element, and their ends. */
const XML_PROLOGUE = [
  ['<?', '?>'],
  ['<!--', '-->'],
  ['<!', '>'],
] as const;
const XML_ROOT = /^<([\w:.-]{1,64})[\s/>]/;

/** The start of an XML file, with the name of its first element; null when it is something else. */
export function xmlOf(head: Uint8Array): { readonly root: string; readonly text: string } | null {
  if (!/^(\ufeff)?\s*</.test(textOf(head.subarray(0, 64)))) return null;
  const text = textOf(head.subarray(0, XML_BYTES));
  let rest = text.trimStart();
  for (let part = prologueOf(rest); part !== undefined; part = prologueOf(rest)) {
    const [start, end] = part;
    const at = rest.indexOf(end, start.length);
    if (at === -1) return null;
    rest = rest.slice(at + end.length).trimStart();
  }
  const root = XML_ROOT.exec(rest)?.[1];
  return root === undefined ? null : { root, text };
}

function prologueOf(text: string): (typeof XML_PROLOGUE)[number] | undefined {
  return XML_PROLOGUE.find(([start]) => text.startsWith(start));
}
