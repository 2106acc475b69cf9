/** Tar: extended records (POSIX.1-2017, pax, "pax Extended Header"), and numbers of headers. */

/** Values by their keys. */
export type PaxRecords = Map<string, string>;

const NEWLINE = 0x0a;
const BLANK = 0x20;
/** Digits of the length of a record. */
const DIGITS = 8;

/** The records `LENGTH KEY=VALUE\n`; null when they are not of that form. */
export function paxRecords(bytes: Uint8Array): PaxRecords | null {
  const records: PaxRecords = new Map();
  for (let at = 0; at < bytes.length; ) {
    const blank = bytes.subarray(at, at + DIGITS).indexOf(BLANK);
    const digits = ascii(bytes.subarray(at, at + Math.max(blank, 0)));
    const length = /^[1-9]\d*$/.test(digits) ? Number(digits) : 0;
    const record = bytes.subarray(at, at + length);
    if (length <= blank + 1 || record.length < length || record.at(-1) !== NEWLINE) return null;
    const text = new TextDecoder().decode(record.subarray(blank + 1, -1));
    const equals = text.indexOf('=');
    if (equals < 1) return null;
    records.set(text.slice(0, equals), text.slice(equals + 1));
    at += length;
  }
  return records;
}

/** A number of a header: octal digits, or with the first bit set base 256; null when it is none, or too large. */
export function sizeIn(field: Uint8Array): number | null {
  const first = field[0] ?? 0;
  if (first < 0x80) {
    const digits = ascii(field).replace(/\0.*$/s, '').trim();
    return digits === '' ? 0 : /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : null;
  }
  // A set second bit is the sign.
  if (first >= 0xc0) return null;
  let value = first & 0x3f;
  for (const byte of field.subarray(1)) value = value * 256 + byte;
  return Number.isSafeInteger(value) ? value : null;
}

function ascii(bytes: Uint8Array): string {
  return new TextDecoder('latin1').decode(bytes);
}
