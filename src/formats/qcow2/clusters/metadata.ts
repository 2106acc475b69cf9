/** Metadata clusters of an image, from the tables on the medium. */
import { SECTOR } from '../../../binary/numbers.ts';
import { dataRuns } from '../../../codec/bytes.ts';
import type { MetadataExtent } from '../../../image/contract.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import type { Qcow2Header } from '../header/header.ts';
import { ENTRY_BYTES, OFFSET_HIGH, OFFSET_LOW } from '../layout.ts';
import { type Snapshot, snapshotTableBytes } from '../snapshots/snapshots.ts';

/** Bytes of a table in memory at one time. */
const WINDOW = 256 * 1024;
const HIGH = 2 ** 32;

/** A table in the file, and its entries. */
interface L1Table {
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly name: string;
}

/**
 * Every table, once for each pointer to it, including those of snapshots; an L1 table shared by snapshots counts once.
 * Entries past the end of the file are ignored.
 */
export async function* metadataOf(
  storage: Storage,
  header: Qcow2Header,
  snapshots: readonly Snapshot[],
  { signal }: OperationOptions = {},
): AsyncGenerator<MetadataExtent> {
  const { clusterSize } = header;
  const turns = new Turns(signal, 'Looking at the tables');
  const at = (offset: number, length: number, what: string): MetadataExtent => ({
    storage,
    fileOffset: offset,
    length,
    what,
    guestOffset: null,
  });
  yield at(0, clusterSize, 'header');
  const refcountTable = header.refcountTableClusters * clusterSize;
  yield at(header.refcountTableOffset, refcountTable, 'refcount table');
  for await (const block of pointers(storage, header.refcountTableOffset, refcountTable, turns)) {
    yield at(block, clusterSize, 'refcount block');
  }
  for (const { l1Offset, l1Entries, name } of l1Tables(header, snapshots)) {
    const length = l1Entries * ENTRY_BYTES;
    if (length > 0) yield at(l1Offset, length, `L1 table${name}`);
    const inFile = Math.min(length, Math.max(storage.size - l1Offset, 0));
    for await (const table of pointers(storage, l1Offset, inFile, turns)) {
      yield at(table, clusterSize, `L2 table${name}`);
    }
  }
  if (snapshots.length > 0) yield at(header.snapshotsOffset, snapshotTableBytes(snapshots), 'snapshot table');
}

/** L1 tables, the active one first. */
function l1Tables(header: Qcow2Header, snapshots: readonly Snapshot[]): Iterable<L1Table> {
  const tables = new Map<string, L1Table>();
  tables.set(`${header.l1Offset} ${header.l1Entries}`, { ...header, name: '' });
  for (const { id, l1Offset, l1Entries } of snapshots) {
    const key = `${l1Offset} ${l1Entries}`;
    if (!tables.has(key)) tables.set(key, { l1Offset, l1Entries, name: ` of snapshot ${id}` });
  }
  return tables.values();
}

/** Targets of a table of 64-bit entries. */
async function* pointers(storage: Storage, offset: number, length: number, turns: Turns): AsyncGenerator<number> {
  for (let start = 0; start < length; start += WINDOW) {
    const turn = turns.take(64);
    if (turn !== undefined) await turn;
    const bytes = new Uint8Array(Math.min(WINDOW, length - start));
    await readPadded(storage, offset + start, bytes);
    const view = new DataView(bytes.buffer);
    // Most of a table is empty.
    for (const run of dataRuns(bytes, SECTOR)) {
      for (let at = run.start; at < run.end; at += ENTRY_BYTES) {
        const place = (view.getUint32(at) & OFFSET_HIGH) * HIGH + ((view.getUint32(at + 4) & OFFSET_LOW) >>> 0);
        if (place !== 0) yield place;
      }
    }
  }
}
