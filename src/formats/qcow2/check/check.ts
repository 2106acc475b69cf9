/**
 * Check of a QCOW2 image that is not open elsewhere: all references are counted and compared with the stored counts.
 * Nothing is changed.
 *
 * A count that is too high is a leak: space is lost. One that is too low is a corruption: the cluster will be
 * reallocated while in use. So is a COPIED flag on a shared cluster, which would be overwritten; a missing flag is a
 * warning, since a cut during the creation or deletion of a snapshot leaves that state: opening the image for writing
 * sets the flag. References that cannot be followed (a misaligned table, a truncated list) set `incomplete`: a
 * seemingly unused cluster may be in use. Then no count is lowered, nor where a damaged entry hides its target.
 */

import { SparseBitSet } from '../../../binary/bits.ts';
import { divCeil } from '../../../binary/numbers.ts';
import type { Finding } from '../../../image/findings.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import { refcountMax } from '../clusters/refcounts.ts';
import { HEADER_START, headerClusterBytes, parseHeader, type Qcow2Header } from '../header/header.ts';
import { ENTRY_BYTES, HEADER, INCOMPATIBLE } from '../layout.ts';
import { FindingList } from './finding-list.ts';
import { PAGE_COUNTS, PagedCounts, STEPS_PAGE } from './paged-counts.ts';
import { planRebuild, type RebuildPlan } from './rebuild.ts';
import { Recount } from './recount.ts';
import { type SnapshotSurvey, surveySnapshots } from './snapshot-survey.ts';
import { readStoredCounts, type StoredCounts } from './stored-counts.ts';

/** Results of a check, and the changes needed for a repair. */
export interface Survey {
  readonly header: Qcow2Header;
  readonly findings: readonly Finding[];
  readonly stored: StoredCounts;
  readonly recount: Recount;
  readonly snapshots: SnapshotSurvey;
  /** Entries of the refcount table whose blocks have wrong counts. */
  readonly wrongBlocks: SparseBitSet;
  /** The refcount structures must be rebuilt according to `plan`; null when that is impossible. */
  readonly rebuild: boolean;
  readonly plan: RebuildPlan | null;
  /**
   * Target count of each cluster: its number of uses, and never less than stored where a reference could not be
   * followed.
   */
  readonly kept: PagedCounts;
  /** True when the flags of the active L1 table can be written. */
  readonly l1Writable: boolean;
}

/** Finds all inconsistencies. Throws only if the header is unreadable or the image exceeds a limit. */
export async function checkQcow2(storage: Storage, options: OperationOptions = {}): Promise<readonly Finding[]> {
  return (await survey(storage, options)).findings;
}

/** The header, even of an image without a refcount table, which a repair recreates. */
export async function readHeaderToCheck(storage: Storage): Promise<Qcow2Header> {
  const start = new Uint8Array(HEADER_START);
  await readPadded(storage, 0, start);
  const cluster = new Uint8Array(headerClusterBytes(start, storage.label));
  await readPadded(storage, 0, cluster);
  if (HEADER.get(start, 'refcountTableClusters') !== 0) return parseHeader(cluster, storage.size, storage.label);
  HEADER.put(cluster, 'refcountTableClusters', 1);
  HEADER.put(cluster, 'refcountTableOffset', 0);
  return { ...parseHeader(cluster, storage.size, storage.label), refcountTableClusters: 0 };
}

/** Reads all metadata. */
export async function survey(storage: Storage, options: OperationOptions): Promise<Survey> {
  const header = await readHeaderToCheck(storage);
  const list = new FindingList();
  const stored = await readStoredCounts(storage, header, list, options);
  const snapshots = await surveySnapshots(storage, header, list);
  const recount = new Recount({ storage, header, stored, snapshots, list, options });
  await recount.run();
  const l1Writable = isL1Writable(header, recount);
  const isWritable = (finding: Finding): boolean => canWriteTable(finding, { header, recount, l1Writable });
  const lowers = !recount.incomplete && !list.some((finding) => leadsNowhere(finding, isWritable));
  const turns = new Turns(options.signal, 'The check');
  const comparison = await compareCounts(storage, header, { stored, recount, list, turns });
  const rebuild = stored.broken || recount.structuresMixedUp || comparison.blockMissing || snapshots.rewritten !== null;
  // Counts that cannot be read cannot be kept.
  const builds = rebuild && !recount.incomplete && (lowers || !stored.broken);
  const kept = lowers ? recount.counts : await PagedCounts.highest(recount.counts, stored.counts, turns);
  const plan = builds ? await planRebuild({ storage, header, stored, recount, snapshots, kept }, turns) : null;
  checkMarks(header, list);
  const can = { counts: !rebuild || plan !== null, lower: lowers, plan: plan !== null, isWritable };
  const findings = judge(list, can);
  const { wrongBlocks } = comparison;
  return { header, findings, stored, recount, snapshots, wrongBlocks, rebuild, plan, kept, l1Writable };
}

/** Compares counts and reports runs of clusters with the same difference. */
async function compareCounts(
  storage: Storage,
  header: Qcow2Header,
  parts: {
    readonly stored: StoredCounts;
    readonly recount: Recount;
    readonly list: FindingList;
    readonly turns: Turns;
  },
): Promise<{ readonly wrongBlocks: SparseBitSet; readonly blockMissing: boolean }> {
  const { stored, recount, list, turns } = parts;
  const max = refcountMax(header.refcountOrder);
  const end = divCeil(storage.size, header.clusterSize);
  const runs = new Runs(list, header.clusterSize);
  const wrongBlocks = new SparseBitSet();
  let blockMissing = false;
  for (const key of new Set([...recount.counts.pages(), ...stored.counts.pages()].sort((a, b) => a - b))) {
    const turn = turns.take(STEPS_PAGE);
    if (turn !== undefined) await turn;
    const [counted, have] = [recount.counts.page(key), stored.counts.page(key)];
    for (let at = 0; at < PAGE_COUNTS; at++) {
      const uses = counted?.[at] ?? 0;
      const count = have?.[at] ?? 0;
      if (uses === count) continue;
      const cluster = key * PAGE_COUNTS + at;
      if (uses > max) tooMany(list, header, cluster, uses);
      const wanted = Math.min(uses, max);
      if (wanted === count) continue;
      const block = Math.floor(cluster / stored.perBlock);
      wrongBlocks.add(block);
      if (wanted > 0 && (stored.blocks[block] ?? 0) === 0) blockMissing = true;
      if (cluster < end || wanted > 0) runs.add(cluster, count, wanted);
      else if (!list.has('count-beyond-file')) tellBeyond(list);
    }
  }
  runs.close();
  return { wrongBlocks, blockMissing };
}

function tooMany(list: FindingList, header: Qcow2Header, cluster: number, uses: number): void {
  const max = refcountMax(header.refcountOrder);
  const say = (): string => `Cluster ${cluster} is used ${uses} times, but counts end at ${max}.`;
  list.add('corruption', 'too-many-uses', say, { fileOffset: cluster * header.clusterSize, repairable: false });
}

function tellBeyond(list: FindingList): void {
  list.add('warning', 'count-beyond-file', () => 'Clusters beyond the end of the file are counted as used.');
}

/** Joins neighbouring clusters with the same difference into one finding. */
class Runs {
  readonly #list: FindingList;
  readonly #clusterSize: number;
  #first = 0;
  #next = -1;
  #count = 0;
  #uses = 0;

  constructor(list: FindingList, clusterSize: number) {
    this.#list = list;
    this.#clusterSize = clusterSize;
  }

  add(cluster: number, count: number, uses: number): void {
    if (cluster !== this.#next || count !== this.#count || uses !== this.#uses) {
      this.close();
      this.#first = cluster;
      this.#count = count;
      this.#uses = uses;
    }
    this.#next = cluster + 1;
  }

  close(): void {
    if (this.#next < 0) return;
    const [first, last] = [this.#first, this.#next - 1];
    const which = first === last ? `Cluster ${first} is` : `Clusters ${first} to ${last} are`;
    const say = (): string => `${which} counted ${this.#count} times, and used ${this.#uses} times.`;
    const leak = this.#count > this.#uses;
    const where = { fileOffset: first * this.#clusterSize };
    this.#list.add(leak ? 'leak' : 'corruption', leak ? 'count-too-high' : 'count-too-low', say, where);
    this.#next = -1;
  }
}

function checkMarks(header: Qcow2Header, list: FindingList): void {
  const where = { fileOffset: HEADER.fields.incompatible.offset };
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0n) {
    list.add(
      'warning',
      'dirty',
      () => 'The image was not closed cleanly: its reference counts may be out of date.',
      where,
    );
  }
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0n) {
    list.add('warning', 'marked-corrupt', () => 'The image is marked as corrupt.', where);
  }
}

/** True when the L1 table overlaps nothing else: otherwise its flags may be other data. */
function isL1Writable(header: Qcow2Header, recount: Recount): boolean {
  const { l1Offset, l1Entries, clusterSize } = header;
  const end = divCeil(l1Offset + l1Entries * ENTRY_BYTES, clusterSize);
  for (let cluster = l1Offset / clusterSize; cluster < end; cluster++) {
    if (recount.counts.get(cluster) !== 1) return false;
  }
  return true;
}

/** True when the entry of a finding can be changed without changing anything else. */
function canWriteTable(
  { fileOffset: at }: Finding,
  { header, recount, l1Writable }: Pick<Survey, 'header' | 'recount' | 'l1Writable'>,
): boolean {
  if (at === null) return true;
  const { l1Offset, l1Entries, clusterSize } = header;
  const inL1 = at >= l1Offset && at < l1Offset + l1Entries * ENTRY_BYTES;
  return inL1 ? l1Writable : recount.isOnlyL2(Math.floor(at / clusterSize));
}

/** True for a damaged entry or table that stays damaged: its target is unknown. */
function leadsNowhere(finding: Finding, isWritable: (finding: Finding) => boolean): boolean {
  if (finding.severity !== 'corruption') return false;
  return !finding.repairable || (MENDED.has(finding.code) && !isWritable(finding));
}

/** Decides which kinds of finding can be repaired. */
function judge(
  list: FindingList,
  can: {
    readonly counts: boolean;
    readonly lower: boolean;
    readonly plan: boolean;
    readonly isWritable: (finding: Finding) => boolean;
  },
): Finding[] {
  const findings = list.finish((finding) => {
    const { code } = finding;
    if (code.startsWith('snapshot-') || code.startsWith('refcount-')) return can.plan;
    if (code === 'count-too-high' || code === 'count-beyond-file') return can.counts && can.lower;
    if (code === 'count-too-low') return can.counts;
    if (code.startsWith('copied-')) return can.counts && can.isWritable(finding);
    return !MENDED.has(code) || can.isWritable(finding);
  });
  const lost = findings.some(({ severity, repairable }) => severity === 'corruption' && !repairable);
  if (!lost) return findings;
  return findings.map((one) => (MARKS.has(one.code) ? { ...one, repairable: false } : one));
}

/** Repaired in the L2 entries themselves. */
export const MENDED: ReadonlySet<string> = new Set(['zero-unaligned', 'compressed-mark']);
/** Cleared when no other findings are left. */
const MARKS: ReadonlySet<string> = new Set(['dirty', 'marked-corrupt']);
