import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkGeometry,
  clipLogical,
  clipPhysical,
  derivePhysical,
  type Geometry,
  isSet,
  logicalForSize,
  physicalForSize,
} from './geometry.ts';

const chs = (cylinders: number, heads: number, sectors: number): Geometry => ({ cylinders, heads, sectors });
const refused = expect.objectContaining({ kind: 'invalid-argument' });
const GIB = 2 ** 30;

describe('checkGeometry', () => {
  it('takes the largest heads and sectors, any cylinders, and zeroes', () => {
    checkGeometry({ physical: chs(100_000, 16, 63), logical: chs(100_000, 255, 63) });
    checkGeometry({ physical: chs(0, 0, 0), logical: null });
    checkGeometry({});
  });

  it.each([
    { physical: chs(1, 17, 63) },
    { physical: chs(1, 16, 64) },
    { logical: chs(1, 256, 63) },
    { logical: chs(1, 255, 64) },
    { physical: chs(-1, 16, 63) },
    { physical: chs(0.5, 16, 63) },
    { logical: chs(2 ** 32, 255, 63) },
  ])('refuses %j', (wanted) => {
    expect(() => checkGeometry(wanted)).toThrow(refused);
  });
});

describe('clipping', () => {
  it('keeps each part below what a drive can have', () => {
    expect(clipPhysical(chs(20_000, 255, 255))).toEqual(chs(16_383, 16, 63));
    expect(clipPhysical(chs(5, 4, 17))).toEqual(chs(5, 4, 17));
  });

  it('leaves logical cylinders alone', () => {
    expect(clipLogical(chs(5000, 300, 100))).toEqual(chs(5000, 255, 63));
  });
});

describe('derivePhysical', () => {
  it('counts whole cylinders of 16 heads and 63 sectors', () => {
    expect(derivePhysical(GIB)).toEqual(chs(2080, 16, 63));
    expect(derivePhysical(2 ** 50)).toEqual(chs(16_383, 16, 63));
    expect(isSet(derivePhysical(512))).toBe(false);
  });
});

describe('the geometry of a copy', () => {
  it('keeps a physical one that fits', () => {
    expect(physicalForSize(chs(100, 4, 17), GIB)).toEqual(chs(100, 4, 17));
  });

  it.each([chs(100, 17, 63), chs(100, 16, 64), chs(0, 16, 63), chs(2081, 16, 63)])('replaces %j', (geometry) => {
    expect(physicalForSize(geometry, GIB)).toEqual(chs(2080, 16, 63));
  });

  it('replaces one that is not there', () => {
    expect(physicalForSize(null, GIB)).toEqual(chs(2080, 16, 63));
  });

  it('never reaches beyond the disk', () => {
    const part = fc.integer({ min: 0, max: 300 });
    fc.assert(
      fc.property(part, part, part, fc.integer({ min: 0, max: 2 ** 40 }), (cylinders, heads, sectors, size) => {
        const fixed = physicalForSize(chs(cylinders, heads, sectors), size);
        expect(fixed.cylinders * fixed.heads * fixed.sectors * 512).toBeLessThanOrEqual(size);
        checkGeometry({ physical: fixed });
      }),
    );
  });

  it('lets logical cylinders follow the size and keeps heads and sectors', () => {
    expect(logicalForSize(chs(1, 255, 63), GIB)).toEqual(chs(130, 255, 63));
    expect(logicalForSize(chs(1, 16, 63), 2 ** 40)).toEqual(chs(1024, 16, 63));
  });

  it.each([null, chs(0, 255, 63), chs(5, 0, 63), chs(5, 255, 0), chs(5, 256, 63), chs(5, 255, 64)])(
    'has no logical one for %j',
    (geometry) => {
      expect(logicalForSize(geometry, GIB)).toBeNull();
    },
  );
});
