import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytes, guid, size64, struct, text, u8, u16, u32, u64 } from './struct.ts';

const FIELDS = {
  kind: u8(0),
  flags: u8(1),
  count: u16(2),
  magic: u32(4),
  mask: u64(8),
  size: size64(16),
  name: text(24, 8),
  id: guid(32, 'mixed'),
  rest: bytes(48, 4),
};
const little = struct('little', 52, FIELDS);
const big = struct('big', 52, FIELDS);

const VALUE = {
  kind: 1,
  flags: 0xff,
  count: 0x0102,
  magic: 0xdead_beef,
  mask: 0xffff_ffff_ffff_fffen,
  size: Number.MAX_SAFE_INTEGER,
  name: 'näme',
  id: '01234567-89ab-cdef-0123-456789abcdef',
  rest: Uint8Array.of(1, 2, 3, 4),
};

describe('struct', () => {
  it.each([little, big])('decodes what it encoded', (layout) => {
    expect(layout.decode(layout.encode(VALUE))).toEqual(VALUE);
  });

  it('stores integers in its byte order', () => {
    expect([...little.encode(VALUE).subarray(2, 8)]).toEqual([0x02, 0x01, 0xef, 0xbe, 0xad, 0xde]);
    expect([...big.encode(VALUE).subarray(2, 8)]).toEqual([0x01, 0x02, 0xde, 0xad, 0xbe, 0xef]);
  });

  it('reads and writes one field and leaves every other byte alone', () => {
    const around = new Uint8Array(60).fill(0xaa);
    little.put(around, 'magic', 0x0403_0201, 3);
    expect(little.get(around, 'magic', 3)).toBe(0x0403_0201);
    const expected = new Uint8Array(60).fill(0xaa);
    expected.set([1, 2, 3, 4], 7);
    expect(around).toEqual(expected);
  });

  it('refuses bytes that end too early', () => {
    for (const length of [0, 1, 51]) {
      expect(() => little.decode(new Uint8Array(length))).toThrow(expect.objectContaining({ kind: 'invalid-format' }));
    }
    expect(() => little.decode(new Uint8Array(60), 9)).toThrow(expect.objectContaining({ kind: 'invalid-format' }));
  });

  it.each([
    ['kind', 256],
    ['kind', -1],
    ['count', 65_536],
    ['magic', 2 ** 32],
    ['magic', 0.5],
    ['mask', 2n ** 64n],
    ['size', 2 ** 53],
    ['name', 'longer than 8'],
    ['rest', new Uint8Array(3)],
    ['id', 'no guid'],
  ])('refuses a %s that does not fit', (field, wrong) => {
    const value = { ...VALUE, [field]: wrong };
    expect(() => little.encode(value as typeof VALUE)).toThrow(expect.objectContaining({ kind: 'invalid-argument' }));
  });

  it('refuses to read a size above 2^53 - 1, but not at it', () => {
    const stored = little.encode(VALUE);
    expect(little.get(stored, 'size')).toBe(Number.MAX_SAFE_INTEGER);
    stored[16 + 6] = 0x20;
    expect(() => little.decode(stored)).toThrow(expect.objectContaining({ kind: 'limit' }));
  });

  it('tolerates text without a NUL, with bytes behind it, and bad UTF-8', () => {
    const stored = little.encode({ ...VALUE, name: '12345678' });
    expect(little.get(stored, 'name')).toBe('12345678');
    stored[24] = 0xff;
    stored[26] = 0;
    expect(little.get(stored, 'name')).toBe('\ufffd2');
  });

  it('hands out copies of bytes', () => {
    const stored = little.encode(VALUE);
    little.get(stored, 'rest').fill(9);
    expect(little.get(stored, 'rest')).toEqual(VALUE.rest);
  });

  it('decodes any bytes of the right size to a value that encodes again', () => {
    const plain = struct('big', 10, { a: u8(0), b: u32(1), c: u16(5), d: bytes(7, 3) });
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 10, maxLength: 10 }), (stored) => {
        expect(plain.encode(plain.decode(stored))).toEqual(stored);
      }),
    );
  });

  it('refuses tables with holes, overlaps or a wrong end when they are made', () => {
    expect(() => struct('little', 8, { a: u32(0), b: u16(6) })).toThrow('internal');
    expect(() => struct('little', 6, { a: u32(0), b: u16(3) })).toThrow('internal');
    expect(() => struct('little', 9, { a: u32(0), b: u32(4) })).toThrow('internal');
  });
});
