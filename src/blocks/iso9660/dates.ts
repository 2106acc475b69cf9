/** Dates of ECMA-119, in UTC. */

/** 9.1.5: seven bytes. Years from 1900 to 2155. */
export function shortDate(ms: number): Uint8Array {
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
