/**
 * Repair of a QCOW2 image that is not open elsewhere. In this order, each step durable before the next, so that an
 * interrupted repair can be repeated and the disk reads the same:
 *   1. a table whose unneeded end is missing gets it; invalid entries are fixed, which only removes references;
 *   2. counts are set to the number of uses, in place or in new structures;
 *   3. COPIED flags of the active tables follow the counts;
 *   4. the dirty and corrupt flags are cleared, if everything was repaired.
 *
 * Nothing is invented: entries that refer to no cluster, or past the end of the file, stay for manual recovery, and two
 * guest clusters in one place stay there, counted twice, so that the next write separates them.
 */
import { alignUp, SECTOR } from '../../../binary/numbers.ts';
import { ImageError } from '../../../errors.ts';
import { type Finding, summarize } from '../../../image/findings.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { getRefcount, refcountMax, setRefcount } from '../clusters/refcounts.ts';
import type { Qcow2Header } from '../header/header.ts';
import {
  AUTOCLEAR,
  COMPRESSED_HIGH,
  COPIED_HIGH,
  ENTRY_BYTES,
  HEADER,
  INCOMPATIBLE,
  REFCOUNT_ORDER_MAX,
  VERSION_3,
  ZERO_LOW,
} from '../layout.ts';
import { MENDED, readHeaderToCheck, type Survey, survey } from './check.ts';
import { visitClusters, visitTable } from './cluster-reader.ts';
import { type EntryRules, entryRules, hostOffset, MEND, mendOf } from './l2-scan.ts';
import { COUNT_MAX } from './paged-counts.ts';
import { countWithout, rebuild } from './rebuild.ts';
import { blocksInOrder } from './stored-counts.ts';

/** Repairs the findings of a check that can be repaired. Returns the findings; a clean image is not changed. */
export async function repairQcow2(storage: Storage, options: OperationOptions = {}): Promise<readonly Finding[]> {
  const first = await survey(storage, options);
  let found = first;
  // A table that was a refcount block as well can be set right when the structures are elsewhere.
  for (let round = 0; round < ROUNDS && found.findings.some(({ repairable }) => repairable); round++) {
    await repair(storage, found, options);
    found = await survey(storage, options);
  }
  return first.findings;
}

/** One round is enough for nearly all images. */
const ROUNDS = 3;

/**
 * Prepares an image with the dirty flag for writing: repairs counts and clears the flag, durably. Throws `corrupt` for
 * damage that cannot be repaired. Returns the new header.
 */
export async function recoverDirty(
  storage: Storage,
  header: Qcow2Header,
  { signal }: OperationOptions = {},
): Promise<Qcow2Header> {
  if ((header.incompatible & INCOMPATIBLE.dirty) === 0n) return header;
  const found = await survey(storage, { signal });
  const lost = found.findings.find(({ severity, repairable }) => severity === 'corruption' && !repairable);
  if (lost !== undefined) {
    throw new ImageError('corrupt', 'The image was not closed cleanly, and cannot be repaired', {
      path: storage.label,
      ...(lost.fileOffset === null ? {} : { offset: lost.fileOffset }),
      found: lost.message,
      status: 'VERR_VD_IMAGE_CORRUPTED',
      hint: 'List the errors (on the command line: check); the image can still be read and converted.',
    });
  }
  await repair(storage, found, { signal });
  return readHeaderToCheck(storage);
}

/** Can be cancelled, or cut off, between any two writes. */
async function repair(storage: Storage, first: Survey, options: OperationOptions): Promise<void> {
  await clearAutoclear(storage, first.header);
  await completeTable(storage, first);
  // What entries refer to when they are repaired is counted again.
  const found = (await mendTables(storage, first, options)) ? await survey(storage, options) : first;
  if (await repairCounts(storage, found, options)) await repairCopied(storage, found, options);
  const { corruptions } = summarize(found.findings.filter(({ repairable }) => !repairable));
  if (corruptions === 0) await clearMarks(storage, found.header);
}

/** Lets the file end with its last table: only zeroes are missing. */
async function completeTable(storage: Storage, { header, findings }: Survey): Promise<void> {
  if (!findings.some(({ code, repairable }) => code === 'l2-cut-off' && repairable)) return;
  await storage.resize(alignUp(storage.size, header.clusterSize));
  await storage.flush();
}

/** A writer clears unknown autoclear bits before its first write. */
async function clearAutoclear(storage: Storage, header: Qcow2Header): Promise<void> {
  const known = header.autoclear & (AUTOCLEAR.bitmaps | AUTOCLEAR.dataFileRaw);
  if (header.version !== VERSION_3 || known === header.autoclear) return;
  await putInSector(storage, (sector) => HEADER.put(sector, 'autoclear', known));
}

async function clearMarks(storage: Storage, header: Qcow2Header): Promise<void> {
  const cleared = header.incompatible & ~(INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt);
  if (header.version !== VERSION_3 || cleared === header.incompatible) return;
  await putInSector(storage, (sector) => HEADER.put(sector, 'incompatible', cleared));
}

async function putInSector(storage: Storage, put: (sector: Uint8Array) => void): Promise<void> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  put(sector);
  await storage.write(0, sector);
  await storage.flush();
}

/** True when tables were changed. */
async function mendTables(
  storage: Storage,
  { header, recount, findings }: Survey,
  { signal }: OperationOptions,
): Promise<boolean> {
  if (!findings.some(({ code, repairable }) => repairable && MENDED.has(code))) return false;
  const rules = entryRules({ storage, header });
  const changed = await visitClusters(storage, recount.l2Uses.indices(), {
    clusterSize: header.clusterSize,
    signal,
    visit: (view, cluster) => recount.isOnlyL2(cluster) && mendTable(view, rules),
  });
  if (changed) await storage.flush();
  return changed;
}

function mendTable(view: DataView, rules: EntryRules): boolean {
  let changed = false;
  for (let at = 0; at < view.byteLength; at += rules.entryBytes) {
    const mend = mendOf(view, at, rules);
    if (mend === MEND.none) continue;
    changed = true;
    if (mend === MEND.plain) {
      view.setUint32(at, (view.getUint32(at) & ~COPIED_HIGH) >>> 0);
      if (rules.extended) view.setBigUint64(at + 8, 0n);
      continue;
    }
    view.setUint32(at, 0);
    view.setUint32(at + 4, rules.extended ? 0 : ZERO_LOW);
  }
  return changed;
}

/** False: the counts are wrong and stay so. */
async function repairCounts(storage: Storage, found: Survey, { signal }: OperationOptions): Promise<boolean> {
  const { header, stored, plan } = found;
  if (plan !== null) {
    await rebuild({ ...found, storage }, plan, signal);
    return true;
  }
  if (found.rebuild) return false;
  const { wrongBlocks } = found;
  const wrong = (block: number): boolean => wrongBlocks.has(block) || stored.blocksBeyond.has(block);
  const order = blocksInOrder(stored.blocks, header.clusterSize, wrong);
  const changed = await visitClusters(storage, order.clusters, {
    clusterSize: header.clusterSize,
    signal,
    visit: (view, cluster) => correctBlock(view, order.find(cluster) * stored.perBlock, found),
  });
  if (changed) await storage.flush();
  return true;
}

function correctBlock(view: DataView, first: number, found: Survey): boolean {
  const { refcountOrder: order } = found.header;
  let changed = false;
  for (let index = 0; index < found.stored.perBlock; index++) {
    const wanted = countAfter(first + index, found);
    // 64-bit counts may have any height.
    const count = order < REFCOUNT_ORDER_MAX ? getRefcount(view, index, order) : Number(view.getBigUint64(index * 8));
    // Counts above all that could be are only known to be that high.
    if (count === wanted || (count > wanted && wanted === COUNT_MAX)) continue;
    setRefcount(view, index, order, wanted);
    changed = true;
  }
  return changed;
}

/** Count of a cluster after a repair of the counts. */
function countAfter(cluster: number, found: Survey): number {
  const { header, kept, plan } = found;
  const count = kept.get(cluster);
  return Math.min(plan === null ? count : countWithout(found, cluster, count), refcountMax(header.refcountOrder));
}

function repairCopied(storage: Storage, found: Survey, options: OperationOptions): Promise<void> {
  return writeCopied(storage, found, (cluster) => countAfter(cluster, found), options);
}

/**
 * Sets the COPIED flags of the active tables from the stored counts, durably. For an image that is otherwise sound: a
 * cut during the creation, application or deletion of a snapshot leaves that state.
 */
export async function mendCopied(storage: Storage, found: Survey, options: OperationOptions): Promise<void> {
  const { header, stored } = found;
  // Somebody else's features may know of every byte of a table; who writes clears them first.
  if ((header.autoclear & ~(AUTOCLEAR.bitmaps | AUTOCLEAR.dataFileRaw)) !== 0n) return;
  await writeCopied(storage, found, (cluster) => stored.counts.get(cluster), options);
}

type CountOf = (cluster: number) => number;

async function writeCopied(
  storage: Storage,
  { header, recount, l1Writable }: Survey,
  countOf: CountOf,
  { signal }: OperationOptions,
): Promise<void> {
  const { clusterSize } = header;
  let changed = false;
  if (l1Writable) {
    const table = { offset: header.l1Offset, length: header.l1Entries * ENTRY_BYTES, signal };
    changed = await visitTable(storage, table, (view) => {
      let here = false;
      for (let at = 0; at < view.byteLength; at += ENTRY_BYTES) {
        const offset = hostOffset(view.getUint32(at), view.getUint32(at + 4));
        if (offset === 0 || offset % clusterSize !== 0) continue;
        if (setCopied(view, at, countOf(offset / clusterSize) === 1)) here = true;
      }
      return here;
    });
  }
  const rules = entryRules({ storage, header });
  const hasDataFile = (header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  const changedL2 = await visitClusters(storage, recount.activeL2.indices(), {
    clusterSize,
    signal,
    visit: (view, cluster) => recount.isOnlyL2(cluster) && copyFlags(view, rules, hasDataFile ? () => 1 : countOf),
  });
  if (changed || changedL2) await storage.flush();
}

function copyFlags(view: DataView, rules: EntryRules, countOf: CountOf): boolean {
  let changed = false;
  for (let at = 0; at < view.byteLength; at += rules.entryBytes) {
    const high = view.getUint32(at);
    if ((high & COMPRESSED_HIGH) !== 0) continue;
    const offset = hostOffset(high, view.getUint32(at + 4));
    if (offset === 0) continue;
    const once = countOf(Math.floor(offset / rules.clusterSize)) === 1;
    if (setCopied(view, at, once)) changed = true;
  }
  return changed;
}

/** True when the flag has changed. */
function setCopied(view: DataView, at: number, copied: boolean): boolean {
  const high = view.getUint32(at);
  const wanted = (copied ? high | COPIED_HIGH : high & ~COPIED_HIGH) >>> 0;
  if (wanted === high) return false;
  view.setUint32(at, wanted);
  return true;
}
