/** Looking at bytes that may be too few: nothing here throws. */

/** True when `text`, one byte a letter, stands at `offset`. */
export function hasText(bytes: Uint8Array, offset: number, text: string): boolean {
  if (offset < 0 || offset + text.length > bytes.length) return false;
  for (let at = 0; at < text.length; at++) if (bytes[offset + at] !== text.charCodeAt(at)) return false;
  return true;
}

/** The 32-bit number at `offset`; null beyond the end. */
export function u32At(bytes: Uint8Array, offset: number, order: 'little' | 'big'): number | null {
  if (offset < 0 || offset + 4 > bytes.length) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(offset, order === 'little');
}

/** The 64-bit number at `offset`; null beyond the end. */
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
