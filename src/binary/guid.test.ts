import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatGuid, isNullGuid, NULL_GUID, normalizeGuid, parseGuid, randomGuid } from './guid.ts';

const TEXT = '01234567-89ab-cdef-0123-456789abcdef';

describe('formatGuid and parseGuid', () => {
  it('store the first three groups little-endian in the mixed order', () => {
    const stored = [0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    expect([...parseGuid(TEXT, 'mixed')]).toEqual(stored);
    expect(formatGuid(Uint8Array.from(stored), 'mixed')).toBe(TEXT);
  });

  it('store the digits as they are read in the big order', () => {
    const stored = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    expect([...parseGuid(TEXT, 'big')]).toEqual(stored);
    expect(formatGuid(Uint8Array.from(stored), 'big')).toBe(TEXT);
  });

  it('are inverse to each other', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.constantFrom('mixed', 'big'), (bytes, order) => {
        expect(parseGuid(formatGuid(bytes, order), order)).toEqual(bytes);
      }),
    );
  });
});

describe('normalizeGuid', () => {
  it('takes braces, capitals and blanks around', () => {
    expect(normalizeGuid(` {${TEXT.toUpperCase()}} `)).toBe(TEXT);
  });

  it.each(['', 'x', TEXT.slice(1), `${TEXT}0`, `{${TEXT}`, TEXT.replaceAll('-', ''), TEXT.replace('a', 'g')])(
    'refuses %j',
    (text) => {
      expect(() => normalizeGuid(text)).toThrow(expect.objectContaining({ kind: 'invalid-argument' }));
    },
  );
});

describe('randomGuid', () => {
  it('is a version 4 GUID, and another one each time', () => {
    const one = randomGuid();
    expect(one).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(randomGuid()).not.toBe(one);
  });
});

describe('isNullGuid', () => {
  it('knows the null GUID', () => {
    expect(isNullGuid(NULL_GUID)).toBe(true);
    expect(isNullGuid(TEXT)).toBe(false);
  });
});
