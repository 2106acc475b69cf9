/** The snapshot table (section "Snapshots"): entries of variable length, as objects and as bytes. */
import { alignDown, alignUp, divCeil, SECTOR } from '../../../binary/numbers.ts';
import { equalBytes } from '../../../codec/bytes.ts';
import { hex, ImageError, printable, withContext } from '../../../errors.ts';
import type { SnapshotInfo } from '../../../image/contract.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { checkTablePlace, type Qcow2Header, refuseInHeader } from '../header/header.ts';
import { ENTRY_ALIGNMENT, ENTRY_BYTES, SNAPSHOT, SNAPSHOT_EXTRA, SNAPSHOT_EXTRA_MAX } from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';

/** One internal snapshot. */
export interface Snapshot {
  readonly id: string;
  readonly name: string;
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** Size of the disk at that time, in guest bytes. */
  readonly diskSize: number;
  /** Bytes of the saved machine state; 0 for none. */
  readonly vmStateSize: number;
  readonly seconds: number;
  readonly nanoseconds: number;
  /** Guest uptime in nanoseconds. */
  readonly guestNanoseconds: bigint;
  /** The stored extra data: a rewrite preserves unknown parts. */
  readonly extra: Uint8Array;
  /** The stored bytes, only if they are not valid UTF-8, so that a rewrite preserves them. */
  readonly idBytes?: Uint8Array;
  readonly nameBytes?: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);
const DECODER = new TextDecoder();
const ENCODER = new TextEncoder();

/** Maximum length of an entry. */
const ENTRY_MAX = SNAPSHOT.size + SNAPSHOT_EXTRA_MAX + 2 * 0xffff + ENTRY_ALIGNMENT;
/** Bytes of the table in memory at one time. */
const WINDOW = 256 * 1024;

/**
 * Reads the whole table, in pieces. Throws `limit`, `corrupt` or `invalid-format`; entries before the bad one are lost
 * then, since the position of the next one is unknown.
 */
export async function readSnapshots(storage: Storage, header: Qcow2Header): Promise<Snapshot[]> {
  const { snapshotCount: count, snapshotsOffset: start } = header;
  if (count === 0) return [];
  const details = { path: storage.label, offset: start, field: 'snapshot table' };
  if (count > QCOW2_LIMITS.snapshots) {
    throw new ImageError('limit', 'The image exceeds the maximum number of snapshots', {
      ...details,
      found: count,
      expected: `at most ${QCOW2_LIMITS.snapshots}`,
    });
  }
  checkTablePlace(start, QCOW2_LIMITS.snapshotTableBytes, header.clusterSize, details);
  const snapshots: Snapshot[] = [];
  const window = new Uint8Array(WINDOW);
  let windowStart = start;
  let at = start;
  for (let filled = 0; snapshots.length < count; ) {
    if (at + ENTRY_MAX > windowStart + filled) {
      // Bytes behind the end of the file read zero; an entry that begins there is refused.
      await readPadded(storage, at, window);
      windowStart = at;
      filled = window.length;
    }
    if (at >= storage.size) throw new ImageError('corrupt', 'The file ends inside the snapshot table', details);
    const { snapshot, length } = decodeAt(window, at - windowStart, header, at, storage.label);
    snapshots.push(snapshot);
    at += length;
    if (at - start > QCOW2_LIMITS.snapshotTableBytes) {
      throw new ImageError('limit', 'The snapshot table exceeds its size limit', {
        ...details,
        expected: `at most ${QCOW2_LIMITS.snapshotTableBytes} bytes`,
      });
    }
  }
  return snapshots;
}

/** Rejects a snapshot whose disk cannot be read: its L1 table is checked like the active one. */
export function checkSnapshot(snapshot: Snapshot, header: Qcow2Header, storage: Storage): void {
  const bytes = snapshot.l1Entries * ENTRY_BYTES;
  const details = { path: storage.label, field: `L1 table of snapshot ${snapshot.id}` };
  if (bytes > QCOW2_LIMITS.l1Bytes) {
    throw new ImageError('limit', 'The L1 table of the snapshot exceeds its size limit', {
      ...details,
      found: `${bytes} bytes`,
      expected: `at most ${QCOW2_LIMITS.l1Bytes}`,
    });
  }
  checkTablePlace(snapshot.l1Offset, bytes, header.clusterSize, details);
  refuseInHeader(snapshot.l1Offset, bytes, header.clusterSize, details);
  const needed = divCeil(snapshot.diskSize, header.clusterSize * header.l2Entries);
  if (snapshot.l1Entries >= needed && snapshot.l1Offset + needed * ENTRY_BYTES <= storage.size) return;
  throw new ImageError('corrupt', 'The L1 table of the snapshot is too short or beyond the end of the file', {
    ...details,
    found: `${snapshot.l1Entries} entries at ${hex(snapshot.l1Offset)}`,
    expected: `at least ${needed}`,
  });
}

/** The snapshot of that id, else the first one of that name; null when there is none. */
export function findSnapshot(snapshots: readonly Snapshot[], wanted: string): Snapshot | null {
  return snapshots.find(({ id }) => id === wanted) ?? snapshots.find(({ name }) => name === wanted) ?? null;
}

/** Error for a missing snapshot. */
export function noSnapshot(snapshots: readonly Snapshot[], wanted: string, path: string): ImageError {
  const some = snapshots.slice(0, 10).map(({ id, name }) => `${printable(name)} (${printable(id)})`);
  return new ImageError('not-found', `The image has no snapshot "${printable(wanted)}"`, {
    path,
    status: 'VERR_NOT_FOUND',
    hint: some.length === 0 ? 'It has none.' : `It has: ${some.join(', ')}.`,
  });
}

/** Public form of a snapshot. */
export function snapshotInfo(snapshot: Snapshot): SnapshotInfo {
  const { id, name, diskSize, vmStateSize, seconds, nanoseconds } = snapshot;
  const createdMs = seconds * 1000 + Math.floor(nanoseconds / 1_000_000);
  return { id, name, virtualSize: alignDown(diskSize, SECTOR), vmStateSize, createdMs };
}

/** Public forms by list: metadata of an image is asked for again and again, and a list can be long. */
const INFOS = new WeakMap<readonly Snapshot[], readonly SnapshotInfo[]>();

/** Public forms of a list, which never changes: a changed image has another list. */
export function snapshotInfos(snapshots: readonly Snapshot[]): readonly SnapshotInfo[] {
  const known = INFOS.get(snapshots);
  if (known !== undefined) return known;
  const infos = snapshots.map(snapshotInfo);
  INFOS.set(snapshots, infos);
  return infos;
}

/** Bytes of the table. */
export function snapshotTableBytes(snapshots: readonly Snapshot[]): number {
  return serializeSnapshots(snapshots).length;
}

/** The table as bytes. */
export function serializeSnapshots(snapshots: readonly Snapshot[]): Uint8Array {
  const entries = snapshots.map(encodeEntry);
  const bytes = new Uint8Array(entries.reduce((sum, entry) => sum + entry.length, 0));
  let at = 0;
  for (const entry of entries) {
    bytes.set(entry, at);
    at += entry.length;
  }
  return bytes;
}

function decodeAt(
  window: Uint8Array,
  at: number,
  header: Qcow2Header,
  offset: number,
  path: string,
): { readonly snapshot: Snapshot; readonly length: number } {
  try {
    return decodeEntry(window, at, header);
  } catch (error) {
    throw withContext(error, { path, field: `snapshot table entry at ${hex(offset)}` });
  }
}

/** Decodes the entry at `at`; the bytes of the longest entry there may be must be there. */
export function decodeEntry(
  bytes: Uint8Array,
  at: number,
  header: Pick<Qcow2Header, 'size'>,
): { readonly snapshot: Snapshot; readonly length: number } {
  const fixed = SNAPSHOT.decode(bytes, at);
  if (fixed.extraLength > SNAPSHOT_EXTRA_MAX) {
    throw new ImageError('limit', 'The extra data of a snapshot exceeds its size limit', {
      field: 'extraLength',
      found: fixed.extraLength,
      expected: `at most ${SNAPSHOT_EXTRA_MAX}`,
    });
  }
  const extraStart = at + SNAPSHOT.size;
  const idStart = extraStart + fixed.extraLength;
  const nameStart = idStart + fixed.idLength;
  const end = nameStart + fixed.nameLength;
  // Tables can have tens of thousands of entries: a buffer for each would cost more than all the rest.
  const extra = extraStart === idStart ? NO_BYTES : bytes.slice(extraStart, idStart);
  const known = extraOf(extra);
  const id = textOf(bytes.subarray(idStart, nameStart));
  const name = textOf(bytes.subarray(nameStart, end));
  const snapshot: Snapshot = {
    id: id.text,
    name: name.text,
    l1Offset: fixed.l1Offset,
    l1Entries: fixed.l1Entries,
    diskSize: known.diskSize ?? header.size,
    vmStateSize: known.vmStateSize ?? fixed.vmStateSize32,
    seconds: fixed.seconds,
    nanoseconds: fixed.nanoseconds,
    guestNanoseconds: fixed.guestNanoseconds,
    extra,
    ...(id.bytes === null ? {} : { idBytes: id.bytes.slice() }),
    ...(name.bytes === null ? {} : { nameBytes: name.bytes.slice() }),
  };
  return { snapshot, length: alignUp(end - at, ENTRY_ALIGNMENT) };
}

/** The text, and its bytes if the text does not represent them. */
export function textOf(bytes: Uint8Array): { readonly text: string; readonly bytes: Uint8Array | null } {
  const text = DECODER.decode(bytes);
  return { text, bytes: equalBytes(ENCODER.encode(text), bytes) ? null : bytes };
}

/** Fields that the extra data is long enough for. */
function extraOf(extra: Uint8Array): { readonly vmStateSize: number | null; readonly diskSize: number | null } {
  if (extra.length === 0) return { vmStateSize: null, diskSize: null };
  const padded = new Uint8Array(Math.max(extra.length, SNAPSHOT_EXTRA.size));
  padded.set(extra);
  const { vmStateSize, diskSize } = SNAPSHOT_EXTRA.fields;
  return {
    vmStateSize:
      extra.length >= vmStateSize.offset + vmStateSize.size ? SNAPSHOT_EXTRA.get(padded, 'vmStateSize') : null,
    diskSize: extra.length >= diskSize.offset + diskSize.size ? SNAPSHOT_EXTRA.get(padded, 'diskSize') : null,
  };
}

function encodeEntry(snapshot: Snapshot): Uint8Array {
  const encoder = new TextEncoder();
  const id = snapshot.idBytes ?? encoder.encode(snapshot.id);
  const name = snapshot.nameBytes ?? encoder.encode(snapshot.name);
  const extra = encodeExtra(snapshot);
  const end = SNAPSHOT.size + extra.length + id.length + name.length;
  const bytes = new Uint8Array(alignUp(end, ENTRY_ALIGNMENT));
  bytes.set(
    SNAPSHOT.encode({
      ...snapshot,
      idLength: id.length,
      nameLength: name.length,
      vmStateSize32: Math.min(snapshot.vmStateSize, 0xffff_ffff),
      extraLength: extra.length,
    }),
  );
  bytes.set(extra, SNAPSHOT.size);
  bytes.set(id, SNAPSHOT.size + extra.length);
  bytes.set(name, SNAPSHOT.size + extra.length + id.length);
  return bytes;
}

/** The extra data with the known fields updated. An entry without extra data stays without: version 2 has none. */
function encodeExtra(snapshot: Snapshot): Uint8Array {
  const extra = snapshot.extra.slice();
  const { vmStateSize, diskSize } = SNAPSHOT_EXTRA.fields;
  const padded = new Uint8Array(Math.max(extra.length, SNAPSHOT_EXTRA.size));
  padded.set(extra);
  SNAPSHOT_EXTRA.put(padded, 'vmStateSize', snapshot.vmStateSize);
  SNAPSHOT_EXTRA.put(padded, 'diskSize', snapshot.diskSize);
  if (extra.length >= vmStateSize.size) extra.set(padded.subarray(0, 8));
  if (extra.length >= diskSize.offset + diskSize.size) extra.set(padded.subarray(8, 16), 8);
  return extra;
}
