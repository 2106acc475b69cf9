/** Sizes of disks in Parallels images. */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { firstPlace } from './clusters.ts';
import { tableEndOf } from './header.ts';
import { HEADS, type Header, TRACK_SECTORS } from './layout.ts';
import { PARALLELS_LIMITS } from './limits.ts';

const HIGH = 2 ** 32;

/** Kind and unit of an image, as far as they bound the size. */
export interface SizedKind {
  readonly clusterSize: number;
  readonly extended: boolean;
}

/** The largest disk that such an image can have, in bytes. */
export function largestDisk({ clusterSize, extended }: SizedKind): number {
  const covered = PARALLELS_LIMITS.entries * clusterSize;
  // Classic images count sectors in 32 bits; so do their entries, which name places behind the table.
  return Math.min(covered, extended ? LIMITS.virtualSize - (SECTOR - 1) : (HIGH - 1) * SECTOR);
}

/** Throws `limit` for a disk that is too large for the image. */
export function checkDiskSize(size: number, kind: SizedKind, path: string): void {
  const most = largestDisk(kind);
  if (size <= most) return;
  throw new ImageError('limit', 'A Parallels image of this kind cannot be that large', {
    path,
    found: `${size} bytes`,
    expected: `at most ${most}`,
    hint: kind.extended
      ? 'Convert it into an image with larger clusters.'
      : 'Convert it into one with the extended signature (on the command line: convert --variant ext).',
  });
}

/** True when entries that count sectors can name a place for every cluster of a new image. */
export function fitsClassic(size: number, clusterSize: number): boolean {
  if (size > largestDisk({ clusterSize, extended: false })) return false;
  const clusters = divCeil(size, clusterSize);
  const dataOffset = dataOffsetFor(clusters, clusterSize);
  return (dataOffset + Math.max(clusters - 1, 0) * clusterSize) / SECTOR < HIGH;
}

/** File offset of the first cluster of a new image: whole clusters, which leave room for a longer table. */
export function dataOffsetFor(entries: number, clusterSize: number): number {
  const tableEnd = tableEndOf(entries);
  return firstPlace({ dataStart: tableEnd, clusterSize }, 0);
}

/** Fields of the header for a size of the disk. */
export function sizeFields(size: number): Pick<Header, 'sectors' | 'sectorsHigh' | 'cylinders'> {
  const sectors = size / SECTOR;
  const cylinders = Math.min(Math.floor(sectors / (HEADS * TRACK_SECTORS)), HIGH - 1);
  return { sectors: sectors % HIGH, sectorsHigh: Math.floor(sectors / HIGH), cylinders };
}
