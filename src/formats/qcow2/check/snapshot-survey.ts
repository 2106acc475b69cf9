/**
 * The snapshot table as read by a check: entry by entry, tolerating errors, and without decoding names, so that a
 * rewritten table preserves every byte that is not repaired.
 */
import { alignUp } from '../../../binary/numbers.ts';
import { hex, isImageError } from '../../../errors.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Qcow2Header } from '../header/header.ts';
import {
  ENTRY_ALIGNMENT,
  SNAPSHOT,
  SNAPSHOT_EXTRA,
  SNAPSHOT_EXTRA_3,
  SNAPSHOT_EXTRA_MAX,
  VERSION_3,
} from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import type { FindingList } from './finding-list.ts';

/** Bytes of the table in memory at one time. */
const WINDOW = 256 * 1024;

/** The part of an entry that a check needs. */
export interface SurveyedSnapshot {
  readonly l1Offset: number;
  readonly l1Entries: number;
}

/** Content and correct form of the table. */
export interface SnapshotSurvey {
  readonly snapshots: readonly SurveyedSnapshot[];
  /** Bytes of the table in the file that could be read. */
  readonly tableBytes: number;
  /** Some entries could not be read: their references are unknown. */
  readonly incomplete: boolean;
  /** The corrected table; null when no correction is needed. */
  readonly rewritten: { readonly count: number; readonly bytes: Uint8Array } | null;
}

/**
 * Reads the table and reports its errors. Entries past the end of the file are lost: the clusters of their snapshots
 * stay counted, since a damaged header field may be the only error. (qemu-img turns them into empty snapshots and frees
 * the clusters.)
 */
export async function surveySnapshots(
  storage: Storage,
  header: Qcow2Header,
  list: FindingList,
): Promise<SnapshotSurvey> {
  const { snapshotCount, snapshotsOffset: start, clusterSize } = header;
  const nothing = { snapshots: [], tableBytes: 0, incomplete: false, rewritten: null };
  if (snapshotCount === 0) return nothing;
  if (start === 0 || start % clusterSize !== 0 || start + QCOW2_LIMITS.snapshotTableBytes > Number.MAX_SAFE_INTEGER) {
    const say = (): string => `The offset of the snapshot table, ${hex(start)}, is not valid.`;
    list.add('corruption', 'snapshot-table', say, { fileOffset: start, repairable: false });
    return { ...nothing, incomplete: true };
  }
  return new TableReader(storage, header, list).read();
}

class TableReader {
  readonly #storage: Storage;
  readonly #header: Qcow2Header;
  readonly #list: FindingList;
  readonly #snapshots: SurveyedSnapshot[] = [];
  readonly #entries: Uint8Array[] = [];
  readonly #window = new Uint8Array(WINDOW);
  #windowStart = -1;
  #mended = false;
  #incomplete = false;

  constructor(storage: Storage, header: Qcow2Header, list: FindingList) {
    this.#storage = storage;
    this.#header = header;
    this.#list = list;
  }

  async read(): Promise<SnapshotSurvey> {
    const { snapshotCount, snapshotsOffset: start } = this.#header;
    const count = Math.min(snapshotCount, QCOW2_LIMITS.snapshots);
    if (count < snapshotCount) {
      this.#lost('snapshot-count', start, `${snapshotCount - count} snapshots exceed the limit.`);
    }
    let at = start;
    while (this.#snapshots.length < count) {
      if (at >= this.#storage.size) {
        const left = count - this.#snapshots.length;
        this.#lost('snapshot-lost', at, `The file ends before ${left} of its snapshots.`);
        break;
      }
      const end = await this.#entry(at);
      if (end === null) break;
      if (end - start > QCOW2_LIMITS.snapshotTableBytes) {
        this.#snapshots.pop();
        this.#lost('snapshot-count', at, 'The snapshot table exceeds its size limit.');
        break;
      }
      at = end;
    }
    const mended = this.#mended && !this.#incomplete;
    return {
      snapshots: this.#snapshots,
      tableBytes: at - start,
      incomplete: this.#incomplete,
      rewritten: mended ? { count: this.#entries.length, bytes: joined(this.#entries) } : null,
    };
  }

  /** Reads one entry; returns the offset of the next, or null when it cannot be determined. */
  async #entry(at: number): Promise<number | null> {
    const fixed = (await this.#bytes(at, SNAPSHOT.size)).slice();
    let entry: ReturnType<typeof SNAPSHOT.decode>;
    try {
      entry = SNAPSHOT.decode(fixed);
    } catch (error) {
      if (!isImageError(error)) throw error;
      this.#lost('snapshot-table', at, 'The L1 table of a snapshot is beyond the addressable range.');
      return null;
    }
    const { extraLength, idLength, nameLength, l1Offset, l1Entries, vmStateSize32 } = entry;
    const extra = (await this.#bytes(at + SNAPSHOT.size, Math.min(extraLength, SNAPSHOT_EXTRA_MAX))).slice();
    const namesAt = at + SNAPSHOT.size + extraLength;
    if (namesAt + idLength + nameLength > this.#storage.size) {
      this.#snapshots.push({ l1Offset, l1Entries });
      this.#lost('snapshot-lost', at, 'The file ends inside the entry of a snapshot.');
      return null;
    }
    const names = (await this.#bytes(namesAt, idLength + nameLength)).slice();
    const wanted = this.#extraOf(extra, extraLength, vmStateSize32, at);
    SNAPSHOT.put(fixed, 'extraLength', wanted.length);
    const length = SNAPSHOT.size + wanted.length + names.length;
    const rewritten = new Uint8Array(alignUp(length, ENTRY_ALIGNMENT));
    rewritten.set(fixed);
    rewritten.set(wanted, SNAPSHOT.size);
    rewritten.set(names, SNAPSHOT.size + wanted.length);
    this.#entries.push(rewritten);
    this.#snapshots.push({ l1Offset, l1Entries });
    return at + alignUp(SNAPSHOT.size + extraLength + names.length, ENTRY_ALIGNMENT);
  }

  /** The corrected extra data. */
  #extraOf(extra: Uint8Array, extraLength: number, vmStateSize32: number, at: number): Uint8Array {
    if (extraLength > SNAPSHOT_EXTRA_MAX) {
      this.#mend('snapshot-extra', at, () => `${extraLength} bytes of extra data exceed the limit of a snapshot.`);
      return extra.slice(0, SNAPSHOT_EXTRA.size);
    }
    if (this.#header.version !== VERSION_3 || extraLength >= SNAPSHOT_EXTRA_3) return extra;
    this.#mend('snapshot-extra', at, () => 'The extra data of a snapshot is shorter than version 3 requires.');
    const complete = new Uint8Array(SNAPSHOT_EXTRA_3);
    const known = new Uint8Array(SNAPSHOT_EXTRA.size);
    SNAPSHOT_EXTRA.put(known, 'vmStateSize', vmStateSize32);
    SNAPSHOT_EXTRA.put(known, 'diskSize', this.#header.size);
    complete.set(known.subarray(0, SNAPSHOT_EXTRA_3));
    const whole = SNAPSHOT_EXTRA.fields.vmStateSize.size;
    if (extra.length >= whole) complete.set(extra.subarray(0, whole));
    return complete;
  }

  #mend(code: string, fileOffset: number, say: () => string): void {
    this.#mended = true;
    this.#list.add('corruption', code, say, { fileOffset });
  }

  #lost(code: string, fileOffset: number, message: string): void {
    this.#incomplete = true;
    this.#list.add('corruption', code, () => message, { fileOffset, repairable: false });
  }

  async #bytes(at: number, length: number): Promise<Uint8Array> {
    if (this.#windowStart < 0 || at < this.#windowStart || at + length > this.#windowStart + WINDOW) {
      await readPadded(this.#storage, at, this.#window);
      this.#windowStart = at;
    }
    return this.#window.subarray(at - this.#windowStart, at - this.#windowStart + length);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
