/** Image metadata, printed for people and for programs. */
import { largest } from '../binary/numbers.ts';
import type { ImageReport } from '../disk/options.ts';
import { printable } from '../errors.ts';
import type { BitmapInfo, SnapshotInfo, TrackInfo } from '../image/contract.ts';
import type { Geometry } from '../image/geometry.ts';
import type { DetectedFormat } from '../operations/inspect.ts';
import type { LockState } from '../storage/contract.ts';
import type { Partition, PartitionTable } from '../vfs/partitions/contract.ts';
import { formatSize } from './size.ts';

/** Facts about an image, or about a file that is recognised and cannot be opened. */
export type KnownFacts = { readonly [Key in keyof ImageReport]?: ImageReport[Key] | null };

/** The keys that `info --json` prints for one image. Keys are only ever added; unknown is null. */
export function reportDocument(report: KnownFacts): Record<string, unknown> {
  return {
    file: report.file ?? null,
    format: report.format ?? null,
    wrappings: report.wrappings ?? [],
    guessed: report.guessed ?? null,
    reason: report.recognisedBy ?? null,
    type: report.type ?? null,
    variant: report.variant ?? [],
    allocation: report.allocation ?? null,
    virtualSize: report.virtualSize ?? null,
    fileSize: report.fileSize ?? null,
    allocatedSize: report.allocatedSize ?? null,
    blockSize: report.blockSize ?? null,
    sectorSize: report.sectorSize ?? null,
    version: report.version ?? null,
    uuid: report.uuid ?? null,
    modificationUuid: report.modificationUuid ?? null,
    parentUuid: report.parentUuid ?? null,
    parentModificationUuid: report.parentModificationUuid ?? null,
    parent: report.parentName ?? null,
    parentFormat: report.parentFormat ?? null,
    comment: report.comment ?? null,
    geometry: { physical: report.geometry?.physical ?? null, logical: report.geometry?.logical ?? null },
    dirty: report.dirty ?? null,
    snapshots: report.snapshots ?? null,
    bitmaps: report.bitmaps ?? null,
    encryption: report.encryption ?? null,
    details: report.details ?? null,
    tracks: report.tracks ?? null,
    lock: report.lock ?? null,
    parts: report.parts ?? [],
  };
}

/** The further keys of `info --json`: the partition table. Null: it could not be read. */
export function partitionsDocument(table: PartitionTable | null): Record<string, unknown> {
  if (table === null) return { partitionTable: null, partitions: null };
  const { kind, sectorSize, diskId, partitions } = table;
  return { partitionTable: kind === 'none' ? null : { kind, sectorSize, diskId }, partitions };
}

/** One partition in a line. */
function partitionText({ number, offset, length, type, typeName, name, flags }: Partition): string {
  const words = [typeName ?? type, ...(name === null ? [] : [`"${name}"`]), ...flags];
  return `${number}: ${formatSize(length)} at ${offset}, ${words.join(', ')}`;
}

/** Aligned `key: value` lines; unknown facts are left out. */
export function reportText(report: ImageReport, table: PartitionTable | null = null): string {
  const version = report.version === null ? '' : ` ${report.version}`;
  const rows: readonly (readonly [string, string | null])[] = [
    ['file', report.file],
    ['format', `${report.format}${version} (${report.guessed ? 'a guess: ' : ''}${report.recognisedBy})`],
    ...listRows('inside', report.wrappings, ({ format, member }) => `${format}, ${member}`),
    ['type', report.type],
    ['variant', report.variant.length === 0 ? null : report.variant.join(', ')],
    ['virtual size', bothSizes(report.virtualSize)],
    ['file size', bothSizes(report.fileSize)],
    ['allocated size', report.allocatedSize === null ? null : bothSizes(report.allocatedSize)],
    ...report.parts.map(({ role, file, fileSize }) => [role, partText(file, fileSize)] as const),
    ['block size', report.blockSize === null ? null : bothSizes(report.blockSize)],
    ['sector size', `${report.sectorSize} bytes`],
    ['UUID', report.uuid],
    ['modification UUID', report.modificationUuid],
    ['parent UUID', report.parentUuid],
    ['parent modification UUID', report.parentModificationUuid],
    ['parent', report.parentName],
    ['parent format', report.parentFormat],
    ['comment', report.comment === '' ? null : report.comment],
    ['encryption', report.encryption ?? null],
    ...Object.entries(report.details ?? {}).map(([key, value]) => [key, detailText(value)] as const),
    ['physical geometry', geometryText(report.geometry.physical)],
    ['logical geometry', geometryText(report.geometry.logical)],
    ['closed cleanly', report.dirty === null ? null : report.dirty ? 'no' : 'yes'],
    ['lock', lockText(report.lock)],
    ...listRows('track', report.tracks, trackText),
    ...listRows('snapshot', report.snapshots, snapshotText),
    ...listRows('bitmap', report.bitmaps, bitmapText),
    ['partition table', table === null || table.kind === 'none' ? null : table.kind.toUpperCase()],
    ...listRows('partition', table?.partitions, partitionText),
  ];
  return alignedText(rows);
}

function detailText(value: string | number | boolean): string {
  return typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value);
}

function partText(file: string, fileSize: number | null): string {
  return fileSize === null ? `${file} (not allowed, or not there)` : `${file}, ${bothSizes(fileSize)}`;
}

/** Lines for a recognised file that cannot be opened. */
export function unopenedText({ file, fileSize }: KnownFacts, found: DetectedFormat): string {
  return alignedText([
    ['file', file ?? null],
    ['format', `${found.format} (${found.recognisedBy})`],
    ['content', `${found.detail}; cannot be opened`],
    ['type', found.type],
    ['file size', fileSize === null || fileSize === undefined ? null : bothSizes(fileSize)],
  ]);
}

function alignedText(rows: readonly (readonly [string, string | null])[]): string {
  const known = rows.filter((row): row is readonly [string, string] => row[1] !== null);
  const width =
    largest(
      known.map(([key]) => key.length),
      0,
    ) + 2;
  return known.map(([key, value]) => `${`${key}:`.padEnd(width)}${printable(value)}`).join('\n');
}

/** One row for each entry. */
function listRows<T>(key: string, list: readonly T[] | undefined, textOf: (entry: T) => string): [string, string][] {
  return (list ?? []).map((entry) => [key, textOf(entry)]);
}

/** One track in a line. */
function trackText({ number, form, file, frames, address, gapFrames, silentFrames }: TrackInfo): string {
  const words = [form, `${frames} sectors at ${address}`, file];
  if (gapFrames > 0) words.push(`a gap of ${gapFrames} before it`);
  if (silentFrames > 0) words.push(`${silentFrames} of silence that are not stored`);
  return `${number}: ${words.join(', ')}`;
}

/** One snapshot in a line. */
export function snapshotText({ id, name, virtualSize, vmStateSize, createdMs }: SnapshotInfo): string {
  const state = vmStateSize === 0 ? '' : `, machine state of ${formatSize(vmStateSize)}`;
  return `${id} "${name}", ${formatSize(virtualSize)}, ${new Date(createdMs).toISOString()}${state}`;
}

/** One bitmap in a line. */
export function bitmapText({ name, granularity, enabled, inconsistent }: BitmapInfo): string {
  const state = inconsistent ? 'inconsistent' : enabled ? 'recording' : 'not recording';
  return `"${name}", one bit per ${formatSize(granularity)}, ${state}`;
}

function bothSizes(bytes: number): string {
  return bytes < 1024 ? formatSize(bytes) : `${formatSize(bytes)} (${bytes} bytes)`;
}

function lockText({ held, holders }: LockState): string | null {
  if (held === null || held === 'none') return held;
  const names = holders.map(({ pid, name }) => (name === null ? `process ${pid}` : `${name}, process ${pid}`));
  return `${held === 'shared' ? 'open for reading' : 'open for writing'}${names.length === 0 ? '' : ` (${names.join('; ')})`}`;
}

function geometryText(geometry: Geometry | null): string | null {
  if (geometry === null) return null;
  return `${geometry.cylinders}/${geometry.heads}/${geometry.sectors} (cylinders/heads/sectors)`;
}
