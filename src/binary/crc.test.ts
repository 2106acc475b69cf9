import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32 } from './crc32.ts';
import { crc32c } from './crc32c.ts';

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Bit by bit, as the definition says. */
function plain(polynomial: number, bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ polynomial;
  }
  return ~crc >>> 0;
}

describe.each([
  { name: 'CRC-32', crc: crc32, polynomial: 0xedb8_8320, check: 0xcbf4_3926 },
  { name: 'CRC-32C', crc: crc32c, polynomial: 0x82f6_3b78, check: 0xe306_9283 },
])('$name', ({ crc, polynomial, check }) => {
  it('meets the published check value', () => {
    expect(crc(ascii('123456789'))).toBe(check);
    expect(crc(new Uint8Array(0))).toBe(0);
  });

  it('equals the definition for any length and place in memory', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), fc.integer({ min: 0, max: 8 }), (bytes, lead) => {
        const moved = new Uint8Array(lead + bytes.length).subarray(lead);
        moved.set(bytes);
        expect(crc(moved)).toBe(plain(polynomial, bytes));
      }),
    );
  });

  it('goes on where an earlier piece ended', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 40 }), (a, b) => {
        expect(crc(b, crc(a))).toBe(crc(Uint8Array.from([...a, ...b])));
      }),
    );
  });
});

describe('CRC-32C', () => {
  it('meets the vectors of RFC 3720, B.4', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a91_36aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8_ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index))).toBe(0x46dd_794e);
  });
});
