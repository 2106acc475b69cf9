/**
 * Region lists: division of a medium into stretches of one sector form (vd.h's VDREGIONLIST, vdmedia.h). A hard disk
 * has one region of raw 512-byte sectors; only discs with several tracks have more.
 */
import { checkArguments, listOf, NUMBER, OBJECT, oneOf, withFields } from '../arguments.ts';
import { isAligned } from '../binary/numbers.ts';
import { ImageError } from '../errors.ts';

/** Form of a sector's data, with its size on the medium. */
export type DataForm =
  | 'raw'
  | 'cdda'
  | 'cdda-pause'
  | 'mode1-2048'
  | 'mode1-2352'
  | 'mode1-0'
  | 'xa-2336'
  | 'xa-2352'
  | 'xa-0'
  | 'mode2-2336'
  | 'mode2-2352'
  | 'mode2-0';

/** Form of a sector's metadata. */
export type MetadataForm = 'none' | 'raw';

/** One stretch of sectors of one form. */
export interface Region {
  /** In the unit of the list. */
  readonly offset: number;
  readonly length: number;
  /** Bytes of a sector: user data and metadata. */
  readonly blockSize: number;
  readonly dataForm: DataForm;
  readonly metadataForm: MetadataForm;
  readonly dataBytes: number;
  readonly metadataBytes: number;
}

/** All regions of a medium, in order. */
export interface RegionList {
  /** Unit of offsets and lengths. */
  readonly unit: 'bytes' | 'blocks';
  readonly regions: readonly Region[];
}

const UNIT = oneOf('bytes', 'blocks');
const LIST = withFields('a list of regions', { unit: UNIT, regions: listOf(OBJECT) });

/** The list of a uniform medium. */
export function singleRegion(size: number, sectorSize: number): RegionList {
  const form = { dataForm: 'raw', metadataForm: 'none', dataBytes: sectorSize, metadataBytes: 0 } as const;
  return { unit: 'bytes', regions: [{ offset: 0, length: size, blockSize: sectorSize, ...form }] };
}

/**
 * The same list in the other unit. The order is kept, gaps are not: each region begins at the end of the one before.
 */
export function convertRegions(list: RegionList, unit: RegionList['unit']): RegionList {
  checkArguments('convertRegions', { list: [list, LIST], unit: [unit, UNIT] });
  if (list.unit === unit) return list;
  let offset = 0;
  const regions = list.regions.map((region) => {
    if (unit === 'blocks' && !isAligned(region.length, region.blockSize)) {
      throw new ImageError('invalid-argument', 'The size of a region is not a multiple of its sector size', {
        found: `${region.length} bytes`,
        expected: `a multiple of ${region.blockSize}`,
      });
    }
    const length = unit === 'blocks' ? region.length / region.blockSize : region.length * region.blockSize;
    const converted = { ...region, offset, length };
    offset += length;
    return converted;
  });
  return { unit, regions };
}

/** Size of the whole medium in bytes. */
export function regionListSize(list: RegionList): number {
  const { regions } = convertRegions(list, 'bytes');
  return regions.reduce((sum, region) => sum + region.length, 0);
}

/** Rejects an empty list, gaps, overlaps, and sectors whose parts do not add up. */
export function checkRegions(list: RegionList): void {
  let next = 0;
  for (const region of list.regions) {
    const parts = region.dataBytes + region.metadataBytes;
    const whole = list.unit === 'blocks' || isAligned(region.length, region.blockSize);
    const sized = region.blockSize > 0 && region.length > 0;
    if (region.offset === next && sized && parts === region.blockSize && whole) {
      next += region.length;
      continue;
    }
    throw new ImageError('invalid-argument', 'The regions of the medium are not contiguous', {
      offset: region.offset,
      found: `${region.length} ${list.unit} at ${region.offset}`,
      expected: `a region of whole sectors at ${next}`,
    });
  }
  if (next === 0) throw new ImageError('invalid-argument', 'A medium has at least one region');
}

/** vd.h's VDMEDIUMTYPE for floppies, by size in bytes; null for any other size. */
export function floppyType(size: number): string | null {
  checkArguments('floppyType', { size: [size, NUMBER] });
  return FLOPPIES.get(size) ?? null;
}

const FLOPPIES: ReadonlyMap<number, string> = new Map([
  [368_640, 'floppy-360'],
  [737_280, 'floppy-720'],
  [1_228_800, 'floppy-1.20'],
  [1_474_560, 'floppy-1.44'],
  [2_949_120, 'floppy-2.88'],
  [255 * 2 * 63 * 512, 'floppy-fake-15.6'],
  [255 * 2 * 255 * 512, 'floppy-fake-63.5'],
]);
