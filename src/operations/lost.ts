/** Facts of an image that a copy of its content lacks, in words for people. Nothing is read here. */
import { printable } from '../errors.ts';
import type { ImageInfo } from '../image/contract.ts';
import { derivePhysical, type Geometry, isSet } from '../image/geometry.ts';

/** Facts about a copy. */
export interface CopyFacts extends Partial<Pick<ImageInfo, 'comment' | 'config' | 'geometry' | 'variant'>> {
  /** Only one state of the disk was requested, so others are not missed. */
  readonly oneState?: boolean | undefined;
}

/** A sentence for each fact that the original has and the copy lacks. */
export function lostOf(original: ImageInfo, path: string, copy: CopyFacts): string[] {
  const { snapshots = [], bitmaps = [], comment, config = {} } = original;
  const lost: string[] = [];
  if (snapshots.length > 0 && copy.oneState !== true) {
    lost.push(`The copy lacks the internal snapshots of ${path}: ${listed(snapshots)}.`);
  }
  if (bitmaps.length > 0) lost.push(`The copy lacks the bitmaps of ${path}: ${listed(bitmaps)}.`);
  if (comment !== null && comment !== '' && (copy.comment ?? '') !== comment) {
    lost.push(`The copy lacks the comment of ${path}: "${printable(comment)}".`);
  }
  const { physical } = original.geometry;
  if (!isUsual(physical, original.virtualSize) && !isSame(physical, copy.geometry?.physical)) {
    lost.push(`The copy lacks the physical geometry of ${path}: ${numbers(physical)}.`);
  }
  const { logical } = original.geometry;
  if (copy.geometry !== undefined && isSet(logical) && !isSame(logical, copy.geometry.logical)) {
    lost.push(`The copy lacks the logical geometry of ${path}: ${numbers(logical)}.`);
  }
  for (const [key, value] of Object.entries(config)) {
    const now = copy.config?.[key];
    if (now !== undefined && now !== value) lost.push(`${path} has ${key} ${value}, the copy ${now}.`);
  }
  const words = copy.variant === undefined ? [] : original.variant.filter((word) => !copy.variant?.includes(word));
  if (words.length > 0) lost.push(`${path} is ${words.join(' and ')}, the copy is not.`);
  return lost;
}

/** Names of the first few. */
const LISTED = 10;

function listed(named: readonly { readonly name: string }[]): string {
  const names = named.slice(0, LISTED).map(({ name }) => `"${printable(name)}"`);
  const more = named.length - names.length;
  return more > 0 ? `${names.join(', ')} and ${more} more` : names.join(', ');
}

/** True for the default geometry of a disk of that size. */
function isUsual(geometry: Geometry | null, size: number): boolean {
  return !isSet(geometry) || isSame(geometry, derivePhysical(size));
}

function isSame(one: Geometry | null, other: Geometry | null | undefined): boolean {
  return one?.cylinders === other?.cylinders && one?.heads === other?.heads && one?.sectors === other?.sectors;
}

function numbers(geometry: Geometry | null): string {
  return geometry === null ? 'none' : `${geometry.cylinders}/${geometry.heads}/${geometry.sectors}`;
}
