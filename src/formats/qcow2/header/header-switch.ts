/**
 * Changes of header extensions that leave the old header or the new one after a power cut. Only the first sector
 * changes atomically; the rest of the new header must be written before, into bytes unused by the old one. If there are
 * none, the feature names, which are only for messages, are removed temporarily and restored in a second step; or
 * permanently, if there is no room.
 */
import { alignUp, SECTOR } from '../../../binary/numbers.ts';
import { ImageError } from '../../../errors.ts';
import { EXTENSION, EXTENSION_ALIGNMENT, EXTENSION_TYPE, HEADER } from '../layout.ts';
import { encodeExtensions } from './extensions.ts';
import { type Qcow2Header, serializeHeader } from './header.ts';

/** Whole sectors, which are durable before the next step. */
export interface HeaderStep {
  /** Written first, and durable before the first sector. */
  readonly rest: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  readonly firstSector: Uint8Array;
}

/** A header cluster, and the bytes in use. */
interface Layout {
  readonly cluster: Uint8Array;
  readonly used: Uint8Array;
}

/** Steps from the cluster on the medium to another header. Throws `unsupported` when there is no safe way. */
export function headerSteps(cluster: Uint8Array, before: Qcow2Header, wanted: Qcow2Header): HeaderStep[] {
  const now = layoutOf(cluster, before);
  const direct = step(now, wanted);
  if (direct !== null) return [direct.step];
  const extensions = wanted.extensions.filter(({ type }) => type !== EXTENSION_TYPE.featureNames);
  // The backing file name keeps clear of what the second step needs.
  const bare = step(now, { ...wanted, extensions }, extensionsEnd(wanted));
  const full = bare === null ? null : step(bare.next, wanted);
  if (bare !== null && full !== null) return [bare.step, full.step];
  const least = bare ?? step(now, { ...wanted, extensions });
  if (least !== null) return [least.step];
  throw new ImageError('unsupported', 'The header has no free space for a safe update', {
    hint: 'Convert the image.',
  });
}

function layoutOf(cluster: Uint8Array, { headerLength, extensions, backingName }: Qcow2Header): Layout {
  const used = new Uint8Array(cluster.length);
  const lengths = extensions.map(({ data }) => EXTENSION.size + alignUp(data.length, EXTENSION_ALIGNMENT));
  used.fill(
    1,
    0,
    lengths.reduce((sum, length) => sum + length, headerLength + EXTENSION.size),
  );
  if (backingName !== null) {
    const offset = HEADER.get(cluster, 'backingOffset');
    used.fill(1, offset, offset + HEADER.get(cluster, 'backingLength'));
  }
  return { cluster, used };
}

/** Null: bytes in use past the first sector would have to change. */
function step(
  now: Layout,
  wanted: Qcow2Header,
  nameFrom = 0,
): { readonly step: HeaderStep; readonly next: Layout } | null {
  const made = serializeHeader(wanted);
  const name = new TextEncoder().encode(wanted.backingName ?? '');
  const end = extensionsEnd(wanted);
  if (conflicts(now, made, SECTOR, end)) return null;
  for (let offset = Math.max(end, nameFrom); offset + name.length <= made.length; offset++) {
    const cluster = made.slice().fill(0, end);
    cluster.set(name, offset);
    if (conflicts(now, cluster, Math.max(offset, SECTOR), offset + name.length)) continue;
    if (name.length > 0) HEADER.put(cluster, 'backingOffset', offset);
    const next = layoutOf(cluster, wanted);
    return { step: sectorsOf(now, next), next: { cluster: joined(now, next), used: next.used } };
  }
  return null;
}

function extensionsEnd({ headerLength, extensions }: Qcow2Header): number {
  return headerLength + encodeExtensions(extensions).length;
}

/** True when bytes in use between these offsets differ in the new header. */
function conflicts(now: Layout, cluster: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (now.used[at] === 1 && now.cluster[at] !== cluster[at]) return true;
  return false;
}

/** Bytes unused by the old header, taken from the new one. */
function joined(now: Layout, next: Layout): Uint8Array {
  const cluster = now.cluster.slice();
  for (let at = next.used.lastIndexOf(1); at >= 0; at--) {
    if (next.used[at] === 1) cluster[at] = next.cluster[at] ?? 0;
  }
  cluster.set(next.cluster.subarray(0, SECTOR));
  return cluster;
}

function sectorsOf(now: Layout, next: Layout): HeaderStep {
  const cluster = joined(now, next);
  const rest: { offset: number; bytes: Uint8Array }[] = [];
  // Behind that nothing changes.
  const end = next.used.lastIndexOf(1) + 1;
  for (let offset = SECTOR; offset < end; offset += SECTOR) {
    const bytes = cluster.slice(offset, offset + SECTOR);
    if (bytes.some((byte, at) => byte !== now.cluster[offset + at])) rest.push({ offset, bytes });
  }
  return { rest, firstSector: cluster.slice(0, SECTOR) };
}
