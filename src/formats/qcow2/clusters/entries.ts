/** L2 entries: their references, and encoding. */
import { divCeil } from '../../../binary/numbers.ts';
import { wordMask } from '../../../blocks/sector-bitmap.ts';
import { KIND } from '../../../blocks/two-level-map.ts';
import type { Qcow2Header } from '../header/header.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, compressedOffsetBits, OFFSET_HIGH } from '../layout.ts';
import { type ClusterMap, offsetOf } from './cluster-map.ts';

const HIGH = 2 ** 32;
const SECTOR = 512;

type Sizes = Pick<Qcow2Header, 'clusterBits' | 'clusterSize'>;

/** Start of a compressed stream, and the clusters of the file that it touches. */
export function compressedClusters(
  { clusterBits, clusterSize }: Sizes,
  high: number,
  low: number,
): { readonly position: number; readonly first: number; readonly end: number } {
  const offsetBits = compressedOffsetBits(clusterBits) - 32;
  const position = (high % 2 ** offsetBits) * HIGH + low;
  const sectors = (high >>> offsetBits) & (2 ** (clusterBits - 8) - 1);
  const end = (Math.floor(position / SECTOR) + sectors + 1) * SECTOR;
  return { position, first: Math.floor(position / clusterSize), end: divCeil(end, clusterSize) };
}

/** Clusters of the file that an entry refers to, in an image without external data file. */
export function hostClusters(sizes: Sizes, high: number, low: number): number[] {
  if ((high & COMPRESSED_HIGH) === 0) {
    const host = offsetOf(high, low);
    return host === 0 || host % sizes.clusterSize !== 0 ? [] : [host / sizes.clusterSize];
  }
  const { first, end } = compressedClusters(sizes, high, low);
  return Array.from({ length: end - first }, (_, n) => first + n);
}

/** Halves of an entry for an unshared cluster. */
export function entryOf(host: number): { high: number; low: number } {
  return { high: ((Math.floor(host / HIGH) & OFFSET_HIGH) | COPIED_HIGH) >>> 0, low: host % HIGH };
}

/** Bits of the subclusters from byte `start` to byte `end` of a cluster, as far as they are inside. */
export function subclusterMask(start: number, end: number, unit: number): number {
  return wordMask(divCeil(start, unit), divCeil(end, unit));
}

/** The entry with those subclusters as data. */
export function withData<T extends { readonly zeroBits: number; readonly dataBits: number }>(
  entry: T,
  mask: number,
): T {
  return { ...entry, zeroBits: (entry.zeroBits & ~mask) >>> 0, dataBits: (entry.dataBits | mask) >>> 0 };
}

/** True when the last `look` found a run that may be overwritten in place. */
export function isOwn(map: ClusterMap): boolean {
  return map.kind === KIND.data && (map.high & COPIED_HIGH) !== 0;
}
