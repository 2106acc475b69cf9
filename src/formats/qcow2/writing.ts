/** Images open for writing: checks before the first change, and the code that only they need. Loaded by open.ts. */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { hex } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Turns } from '../../storage/turns.ts';
import { survey } from './check/check.ts';
import { mendCopied } from './check/repair.ts';
import { metadataOf } from './clusters/metadata.ts';
import { openRefcounts } from './clusters/refcount-store.ts';
import { isDirty, type Qcow2Header } from './header/header.ts';
import { INCOMPATIBLE } from './layout.ts';
import { QCOW2_LIMITS } from './limits.ts';
import type { Snapshot } from './snapshots/snapshots.ts';
import type { Writing } from './state.ts';

export { Qcow2Bitmaps } from './bitmaps/bitmap-store.ts';
export { idleClusters, movableClusters, trimFile } from './clusters/pack.ts';
export { checkQcow2Size, resizeQcow2 } from './clusters/resize.ts';
export { ClusterWriter } from './clusters/writer.ts';
export { ClusterEncoder } from './compressed/encoder.ts';
export { withNames, withParent } from './header/links.ts';
export { amendHost, bitmapHost, packHost, resizeHost, snapshotHost } from './hosts.ts';
export { Qcow2Snapshots } from './snapshots/snapshot-store.ts';

/**
 * Images with up to this many bytes of tables, 64 GiB of data in 64 KiB clusters, are checked before writing. Larger
 * ones are checked where they are written, unless something is counted past the end of the file.
 */
const SURVEY_BYTES = 8 * 1024 * 1024;

/** State needed for writing, or a reason why that is forbidden. */
export async function openForWriting(
  storage: Storage,
  header: Qcow2Header,
  {
    snapshots,
    snapshot,
    checked,
    options,
  }: {
    readonly snapshots: readonly Snapshot[];
    readonly snapshot: Snapshot | null;
    readonly checked: boolean;
    readonly options: OperationOptions;
  },
): Promise<Omit<Writing, 'code'> | string> {
  if (snapshot !== null) return 'a snapshot is only read';
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0n) return 'it is marked as corrupt';
  if (isDirty(header)) return 'it was not closed cleanly, and its refcounts may be old';
  const counts = await openRefcounts(storage, header);
  if (typeof counts === 'string') return counts;
  const { clusterSize } = header;
  let bytes = 0;
  const turns = new Turns(options.signal, 'Opening');
  for await (const { fileOffset: offset, length, what } of metadataOf(storage, header, snapshots, options)) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    // Data past the end would become visible when the file grows.
    const end = what.startsWith('L2') ? offset + length : offset + Math.max(length - clusterSize, 0) + 1;
    if (offset % clusterSize !== 0 || end > storage.size) return `there can be no ${what} at ${hex(offset)}`;
    bytes += length;
    if (what.startsWith('L1') && bytes > QCOW2_LIMITS.tableBytes) return 'its tables together exceed their size limit';
    for (let at = offset; at < offset + length; at += clusterSize) counts.tables.add(at / clusterSize);
  }
  // What is counted behind the end may have been cut off, and would read zero when the file grows over it.
  const end = divCeil(storage.size, header.clusterSize);
  const looks = checked && (bytes <= SURVEY_BYTES || (await counts.countsFrom(end, turns)));
  const damage = looks ? await damageOf(storage, options) : null;
  if (damage !== null) return damage;
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  return { counts, sector };
}

/**
 * Damage to the tables that writing could make worse; null: none. Leaks are harmless, and flags left by a cut are fixed
 * immediately.
 */
async function damageOf(storage: Storage, { signal }: OperationOptions): Promise<string | null> {
  const found = await survey(storage, { signal });
  const { findings } = found;
  const damage = findings.find(({ severity, code }) => severity === 'corruption' && !code.startsWith('copied-'));
  if (damage !== undefined) return `a check finds it damaged: ${damage.message}`;
  if (findings.some(({ code }) => code.startsWith('copied-'))) await mendCopied(storage, found, { signal });
  return null;
}
