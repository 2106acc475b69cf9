/** Dates of ECMA-119, written in UTC. */

/** The last date that was asked for: a file has it in several places. */
let last: { readonly ms: number; readonly bytes: Uint8Array } | null = null;

/** 9.1.5: seven bytes, which are only read. Years from 1900 to 2155. */
export function shortDate(ms: number): Uint8Array {
  if (last?.ms !== ms) last = { ms, bytes: shortBytes(ms) };
  return last.bytes;
}

function shortBytes(ms: number): Uint8Array {
  const date = new Date(ms);
  const year = Math.min(Math.max(date.getUTCFullYear() - 1900, 0), 255);
  return Uint8Array.of(
    year,
    date.getUTCMonth() + 1,
    date.getUTCDate(),
    date.getUTCHours(),
    date.getUTCMinutes(),
    date.getUTCSeconds(),
    0,
  );
}

/** 8.4.26.1: digits up to hundredths of a second, then the zone. Null: not specified. */
export function longDate(ms: number | null): Uint8Array {
  const digits = ms === null ? '0'.repeat(16) : new Date(ms).toISOString().replace(/\D/g, '').slice(0, 16);
  return Uint8Array.from([...new TextEncoder().encode(digits.padEnd(16, '0')), 0]);
}

/** Milliseconds since 1970 of seven bytes, whose last one counts quarters of an hour east of Greenwich; 0: not a date. */
export function shortTime(bytes: Uint8Array): number {
  const [year = 0, month = 0, day = 0, hours = 0, minutes = 0, seconds = 0, zone = 0] = bytes;
  if (month === 0 || day === 0) return 0;
  return Date.UTC(1900 + year, month - 1, day, hours, minutes, seconds) - quarters(zone);
}

/** The same of seventeen bytes: digits, and a zone. */
export function longTime(bytes: Uint8Array): number {
  const digits = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\d\d/.exec(
    new TextDecoder('latin1').decode(bytes.subarray(0, 16)),
  );
  const [year = 0, month = 0, day = 0, hours = 0, minutes = 0, seconds = 0] = (digits ?? []).slice(1).map(Number);
  if (month === 0 || day === 0) return 0;
  return Date.UTC(year, month - 1, day, hours, minutes, seconds) - quarters(bytes[16] ?? 0);
}

function quarters(zone: number): number {
  return (zone > 127 ? zone - 256 : zone) * 15 * 60_000;
}
