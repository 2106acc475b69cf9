/** Regions of a raw medium. */
import { SECTOR } from '../../binary/numbers.ts';
import { type RegionList, singleRegion } from '../../image/regions.ts';

/**
 * One region of whole sectors. A disc that ends inside a sector has a second one, of 512-byte sectors, with the bytes that
 * were appended.
 */
export function rawRegions(size: number, sectorSize: number): RegionList {
  const rest = size % sectorSize;
  if (rest === 0) return singleRegion(size, sectorSize);
  const whole = singleRegion(size - rest, sectorSize).regions;
  const tail = singleRegion(rest, SECTOR).regions.map((region) => ({ ...region, offset: size - rest }));
  return { unit: 'bytes', regions: [...whole.filter(({ length }) => length > 0), ...tail] };
}
