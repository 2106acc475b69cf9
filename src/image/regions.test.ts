import { describe, expect, it } from 'vitest';
import {
  checkRegions,
  convertRegions,
  floppyType,
  type Region,
  type RegionList,
  regionListSize,
  singleRegion,
} from './regions.ts';

const region = (offset: number, length: number, blockSize: number): Region => ({
  offset,
  length,
  blockSize,
  dataForm: 'raw',
  metadataForm: 'none',
  dataBytes: blockSize,
  metadataBytes: 0,
});
const list = (unit: RegionList['unit'], ...regions: Region[]): RegionList => ({ unit, regions });
const refused = expect.objectContaining({ kind: 'invalid-argument' });

describe('singleRegion', () => {
  it('describes a plain hard disk', () => {
    expect(singleRegion(4096, 512)).toEqual(list('bytes', region(0, 4096, 512)));
    checkRegions(singleRegion(4096, 512));
  });
});

describe('convertRegions', () => {
  const bytes = list('bytes', region(0, 2048 * 3, 2048), region(2048 * 3, 2352 * 2, 2352));
  const blocks = list('blocks', region(0, 3, 2048), region(3, 2, 2352));

  it('counts blocks of each region behind those of the one before, and back', () => {
    expect(convertRegions(bytes, 'blocks')).toEqual(blocks);
    expect(convertRegions(blocks, 'bytes')).toEqual(bytes);
    expect(convertRegions(bytes, 'bytes')).toBe(bytes);
  });

  it('closes gaps', () => {
    const gaps = list('blocks', region(10, 3, 2048), region(100, 2, 2352));
    expect(convertRegions(gaps, 'bytes')).toEqual(bytes);
  });

  it('refuses parts of a sector', () => {
    expect(() => convertRegions(list('bytes', region(0, 2049, 2048)), 'blocks')).toThrow(refused);
  });

  it('sums up to the same size in both units', () => {
    expect(regionListSize(bytes)).toBe(2048 * 3 + 2352 * 2);
    expect(regionListSize(blocks)).toBe(2048 * 3 + 2352 * 2);
  });
});

describe('checkRegions', () => {
  it.each([
    ['an empty list', list('bytes')],
    ['a gap', list('bytes', region(0, 512, 512), region(1024, 512, 512))],
    ['an overlap', list('bytes', region(0, 1024, 512), region(512, 512, 512))],
    ['a list that begins late', list('bytes', region(512, 512, 512))],
    ['a part of a sector', list('bytes', region(0, 513, 512))],
    ['an empty region', list('blocks', region(0, 0, 512))],
    ['sectors without bytes', list('blocks', region(0, 1, 0))],
    ['parts that do not add up', list('bytes', { ...region(0, 2352, 2352), dataBytes: 2048 })],
  ])('refuses %s', (_name, wrong) => {
    expect(() => checkRegions(wrong)).toThrow(refused);
  });

  it('takes metadata beside the data', () => {
    checkRegions(list('blocks', { ...region(0, 1, 2448), dataBytes: 2352, metadataBytes: 96, metadataForm: 'raw' }));
  });
});

describe('floppyType', () => {
  it('knows floppies by their exact size', () => {
    expect(floppyType(1440 * 1024)).toBe('floppy-1.44');
    expect(floppyType(360 * 1024)).toBe('floppy-360');
    expect(floppyType(255 * 2 * 63 * 512)).toBe('floppy-fake-15.6');
    expect(floppyType(1440 * 1024 + 512)).toBeNull();
  });
});
