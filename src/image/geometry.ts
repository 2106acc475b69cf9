/** Disk geometry and its rules: vd.h's VDGEOMETRY. */
import { SECTOR } from '../binary/numbers.ts';
import { ImageError } from '../errors.ts';

/** Cylinders, heads, sectors per track. Zero cylinders mean "not set". */
export interface Geometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
}

/** Maximum of a drive (ATA), and of BIOS calls. */
const PHYSICAL_MAX = { cylinders: 16_383, heads: 16, sectors: 63 } as const;
const LOGICAL_MAX = { cylinders: 1024, heads: 255, sectors: 63 } as const;

/** True when a geometry is given and set. */
export function isSet(geometry: Geometry | null | undefined): geometry is Geometry {
  return geometry !== null && geometry !== undefined && geometry.cylinders !== 0;
}

/** Rejects heads and sectors impossible for any drive or BIOS. Cylinders are not checked; zeroes are allowed. */
export function checkGeometry(wanted: {
  readonly physical?: Geometry | null | undefined;
  readonly logical?: Geometry | null | undefined;
}): void {
  checkOne('physical', wanted.physical, PHYSICAL_MAX);
  checkOne('logical', wanted.logical, LOGICAL_MAX);
}

function checkOne(name: string, geometry: Geometry | null | undefined, max: Geometry): void {
  if (geometry === null || geometry === undefined) return;
  const fits = (value: number, bound: number): boolean => Number.isInteger(value) && value >= 0 && value <= bound;
  const { cylinders, heads, sectors } = geometry;
  if (fits(cylinders, 0xffff_ffff) && fits(heads, max.heads) && fits(sectors, max.sectors)) return;
  throw new ImageError('invalid-argument', `The ${name} geometry is not valid`, {
    found: `${cylinders}/${heads}/${sectors}`,
    expected: `at most ${max.heads} heads and ${max.sectors} sectors`,
  });
}

/** The physical geometry as reported by a disk, clipped to the maximum of a drive. */
export function clipPhysical(geometry: Geometry): Geometry {
  return {
    cylinders: Math.min(geometry.cylinders, PHYSICAL_MAX.cylinders),
    heads: Math.min(geometry.heads, PHYSICAL_MAX.heads),
    sectors: Math.min(geometry.sectors, PHYSICAL_MAX.sectors),
  };
}

/** The logical geometry as reported by a disk. Cylinders are not clipped. */
export function clipLogical(geometry: Geometry): Geometry {
  return {
    cylinders: geometry.cylinders,
    heads: Math.min(geometry.heads, LOGICAL_MAX.heads),
    sectors: Math.min(geometry.sectors, LOGICAL_MAX.sectors),
  };
}

/** The usual physical geometry of a disk of `size` bytes: 16 heads, 63 sectors, at most 16,383 cylinders. */
export function derivePhysical(size: number): Geometry {
  const { heads, sectors } = PHYSICAL_MAX;
  const cylinders = Math.min(Math.floor(size / SECTOR / heads / sectors), PHYSICAL_MAX.cylinders);
  return { cylinders, heads, sectors };
}

/** The physical geometry for a copy of `size` bytes: kept if it fits, otherwise the usual one. */
export function physicalForSize(geometry: Geometry | null, size: number): Geometry {
  if (!isSet(geometry)) return derivePhysical(size);
  const { cylinders, heads, sectors } = geometry;
  const fits =
    heads <= PHYSICAL_MAX.heads && sectors <= PHYSICAL_MAX.sectors && cylinders * heads * sectors * SECTOR <= size;
  return fits ? geometry : derivePhysical(size);
}

/** The logical geometry of a copy of `size` bytes: heads and sectors stay, cylinders follow the size. */
export function logicalForSize(geometry: Geometry | null, size: number): Geometry | null {
  if (!isSet(geometry)) return null;
  const { heads, sectors } = geometry;
  if (heads === 0 || heads > LOGICAL_MAX.heads || sectors === 0 || sectors > LOGICAL_MAX.sectors) return null;
  return { cylinders: Math.min(Math.floor(size / SECTOR / heads / sectors), LOGICAL_MAX.cylinders), heads, sectors };
}
