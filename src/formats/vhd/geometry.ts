/** Geometry of VHD images: the rule of the specification, which all programs follow, and the size that follows from it. */
import { SECTOR } from '../../binary/numbers.ts';
import type { Geometry } from '../../image/geometry.ts';
import { CREATOR, type Footer } from './layout.ts';

const MAX = { cylinders: 65_535, heads: 16, sectors: 255 } as const;
/** Sectors of the largest geometry, which stands for any larger disk too. */
const MAX_SECTORS = MAX.cylinders * MAX.heads * MAX.sectors;
/** Creators whose images have the size of their geometry: Virtual PC, and QEMU, which rounds the size up to one. */
const SIZED_BY_GEOMETRY: readonly number[] = [CREATOR.virtualPc, CREATOR.virtualServer, CREATOR.qemu];
/** Creators whose images have their current size for QEMU up to 9, which takes the geometry for all others. */
const SIZED_BY_NUMBER: readonly number[] = [
  CREATOR.windows,
  CREATOR.disk2vhd,
  CREATOR.xenConverter,
  CREATOR.qemuForced,
  CREATOR.xenServer,
];

/** Geometry of a disk of that many bytes. Specification 1.0, appendix "CHS Calculation". */
export function geometryFor(size: number): Geometry {
  const total = Math.min(Math.floor(size / SECTOR), MAX_SECTORS);
  if (total >= MAX.cylinders * MAX.heads * 63) return withTracks(Math.floor(total / 255), 16, 255);
  let sectors = 17;
  let tracks = Math.floor(total / sectors);
  let heads = Math.max(4, Math.ceil(tracks / 1024));
  for (const more of [31, 63]) {
    if (tracks < heads * 1024 && heads <= 16) break;
    [sectors, heads] = [more, 16];
    tracks = Math.floor(total / sectors);
  }
  return withTracks(tracks, heads, sectors);
}

function withTracks(tracks: number, heads: number, sectors: number): Geometry {
  return { cylinders: Math.floor(tracks / heads), heads, sectors };
}

/** The other size that an image may be taken to have, by its geometry. */
export interface GeometrySize {
  readonly bytes: number;
  /** Programs that take it. */
  readonly by: string;
  /** The creator meant it: see `SIZED_BY_GEOMETRY`. */
  readonly isMeant: boolean;
}

/** The smaller size that some programs take the disk to have; null: all agree. */
export function geometrySize({ creator, currentSize, cylinders, heads, sectors }: Footer): GeometrySize | null {
  const product = cylinders * heads * sectors;
  if (SIZED_BY_NUMBER.includes(creator) || product === 0 || product === MAX_SECTORS) return null;
  const isMeant = SIZED_BY_GEOMETRY.includes(creator);
  const by = isMeant ? 'Virtual PC and QEMU' : 'QEMU up to 9';
  return product * SECTOR < currentSize ? { bytes: product * SECTOR, by, isMeant } : null;
}
