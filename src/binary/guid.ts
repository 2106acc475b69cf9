/**
 * GUIDs as lower-case text `9597f2fc-336c-45c8-a028-fee4cd5172f5`, and their two stored forms: Microsoft's, with the
 * first three groups little-endian (`mixed`: VDI, VHDX), and RFC 4122's (`big`: VHD, VMDK text, Parallels).
 */
import { ImageError } from '../errors.ts';

export type GuidOrder = 'mixed' | 'big';

/** All zero: "none". */
export const NULL_GUID = '00000000-0000-0000-0000-000000000000';

const TEXT_FORM = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Stored position of each byte of the text form, for the mixed order. */
const MIXED = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] as const;

/** Lower-case text of 16 stored bytes. */
export function formatGuid(bytes: Uint8Array, order: GuidOrder): string {
  let digits = '';
  for (let index = 0; index < 16; index++) {
    const byte = bytes[order === 'mixed' ? (MIXED[index] ?? 0) : index] ?? 0;
    digits += byte.toString(16).padStart(2, '0');
  }
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join(
    '-',
  );
}

/** The 16 stored bytes of a GUID. Braces and capitals are accepted; anything else throws `invalid-argument`. */
export function parseGuid(text: string, order: GuidOrder): Uint8Array {
  const digits = normalizeGuid(text).replaceAll('-', '');
  const bytes = new Uint8Array(16);
  for (let index = 0; index < 16; index++) {
    const byte = Number.parseInt(digits.slice(index * 2, index * 2 + 2), 16);
    bytes[order === 'mixed' ? (MIXED[index] ?? 0) : index] = byte;
  }
  return bytes;
}

/** The canonical text of a GUID that a person typed. Throws `invalid-argument` for anything else. */
export function normalizeGuid(text: string): string {
  const plain = text
    .trim()
    .toLowerCase()
    .replace(/^\{(.*)\}$/, '$1');
  if (!TEXT_FORM.test(plain)) {
    throw new ImageError('invalid-argument', 'This is not a UUID', {
      found: text,
      expected: '8-4-4-4-12 hexadecimal digits',
    });
  }
  return plain;
}

/** True for the all-zero GUID, which stands for "none". */
export function isNullGuid(text: string): boolean {
  return text === NULL_GUID;
}

/** A fresh random GUID (version 4). */
export function randomGuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return formatGuid(bytes, 'big');
}
