/**
 * Resizing a disk.
 *
 * A longer L1 table is written into new clusters, durable, and the header switched to it, before anything else: the
 * disk has not changed then. New clusters that must hide parent data are marked in it, durable; the size in the header
 * comes last. A shrinking disk gets its new size first, then the clusters past it are freed: a cut in between only
 * leaks space.
 */
import { alignUp, divCeil, SECTOR } from '../../../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../../../errors.ts';
import type { Mapping, ResizeOptions, WriteSlot } from '../../../image/contract.ts';
import { LIMITS } from '../../../limits.ts';
import type { MaybePromise, Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { Turns } from '../../../storage/turns.ts';
import type { Qcow2Header } from '../header/header.ts';
import { ENTRY_BYTES, VERSION_2 } from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import type { RefcountStore } from './refcount-store.ts';

/** Clusters marked as zero between two flushes. */
const STEP_CLUSTERS = 65_536;
/** Small steps that freeing may take at a time. */
const STEPS_GIVEN_UP = 256;
/** Bytes of zeroes written at once. */
const ZEROES = 1024 * 1024;

/** The image, as a resize sees it. */
export interface ResizeHost {
  readonly header: Qcow2Header;
  readonly storage: Storage;
  /** External data file; null when data is in the image. */
  readonly dataFile: Storage | null;
  readonly counts: RefcountStore;
  map(offset: number, length: number): MaybePromise<Mapping>;
  prepareWrite(offset: number, length: number): MaybePromise<WriteSlot>;
  unmap(offset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void>;
  /** See `ClusterWriter.hideTail`. */
  hideTail(size: number, all: boolean): MaybePromise<void>;
  flush(): Promise<void>;
  /** Bytes waiting for a flush. */
  readonly dirtyBytes: number;
  /** Changes the first sector, durably, and reloads from the medium. */
  switchHeader(changes: Partial<Pick<Qcow2Header, 'size' | 'l1Offset' | 'l1Entries'>>): Promise<void>;
}

/** Rejects an impossible size. Touches nothing. */
export function checkQcow2Size({ header, storage }: Pick<ResizeHost, 'header' | 'storage'>, size: number): void {
  const entries = divCeil(size, header.clusterSize * header.l2Entries);
  if (entries * ENTRY_BYTES > QCOW2_LIMITS.l1Bytes) {
    throw new ImageError('limit', 'The disk size exceeds the limit for this cluster size', {
      path: storage.label,
      found: `an L1 table of ${entries * ENTRY_BYTES} bytes`,
      expected: `at most ${QCOW2_LIMITS.l1Bytes}`,
      hint: 'Convert it to an image with larger clusters.',
    });
  }
  if (header.version === VERSION_2 && header.snapshotCount > 0) {
    throw new ImageError('unsupported', 'Snapshots of QCOW2 version 2 do not store the disk size', {
      path: storage.label,
      hint: 'Delete the snapshots, or convert the image to version 3.',
    });
  }
}

/** Resizes the disk. Everything must be flushed; after a failure the medium counts. */
export async function resizeQcow2(host: ResizeHost, size: number, how: ResizeOptions): Promise<void> {
  const old = host.header.virtualSize;
  if (size > old) await grow(host, old, size, how);
  else await cut(host, old, size, how);
}

async function grow(host: ResizeHost, old: number, size: number, how: ResizeOptions): Promise<void> {
  const { clusterSize, l2Entries } = host.header;
  const entries = divCeil(size, clusterSize * l2Entries);
  if (entries > host.header.l1Entries) await lengthenL1(host, entries);
  await clearTail(host, old, how.fill === 'zero');
  const end = how.fill === 'zero' ? Math.min(how.fillEnd, size) : 0;
  const step = STEP_CLUSTERS * clusterSize;
  // Other programs may have left entries behind the end of the disk.
  await giveUp(host, alignUp(old, clusterSize), alignUp(size, clusterSize), { signal: how.signal });
  for (let at = alignUp(old, clusterSize); at < end; at += step) {
    throwIfAborted(how.signal, 'The resize');
    // Version 2 has no mark for zero: what hides the backing file is stored.
    if (host.header.version === VERSION_2) await storeZeroes(host, at, Math.min(at + step, end));
    else await host.unmap(at, Math.min(step, end - at), 'zero');
    await host.flush();
    how.onProgress?.({ operation: 'resize', done: Math.min(at + step, end) - old, total: size - old });
  }
  if (host.dataFile !== null && host.dataFile.size < size) {
    await host.dataFile.resize(size);
    await host.dataFile.flush();
  }
  await host.switchHeader({ size });
  how.onProgress?.({ operation: 'resize', done: size - old, total: size - old });
}

async function cut(host: ResizeHost, old: number, size: number, how: ResizeOptions): Promise<void> {
  const { clusterSize } = host.header;
  await host.switchHeader({ size });
  await clearTail(host, size, false);
  await giveUp(host, alignUp(size, clusterSize), alignUp(old, clusterSize), how);
  // The counts that this lowered.
  await host.flush();
  if (host.dataFile !== null) await host.dataFile.resize(size);
}

/** Makes whole clusters absent, durably. After a cancel the remaining ones are freed when the disk grows again. */
async function giveUp(
  host: ResizeHost,
  start: number,
  end: number,
  { signal, onProgress }: Pick<ResizeOptions, 'signal' | 'onProgress'>,
): Promise<void> {
  const step = STEP_CLUSTERS * host.header.clusterSize;
  const turns = new Turns(signal, 'The resize');
  for (let at = start; at < end; at += step) {
    const turn = turns.take(STEPS_GIVEN_UP);
    if (turn !== undefined) await turn;
    await host.unmap(at, Math.min(step, end - at), 'absent');
    if (host.dirtyBytes >= LIMITS.dirtyMetadataBytes) await host.flush();
    onProgress?.({ operation: 'resize', done: Math.min(at + step, end) - start, total: end - start });
  }
  await host.flush();
}

/** The same table with room for more entries. */
async function lengthenL1(host: ResizeHost, entries: number): Promise<void> {
  const { header, storage, counts } = host;
  const { clusterSize, l1Entries, l1Offset } = header;
  const clusters = divCeil(entries * ENTRY_BYTES, clusterSize);
  const old = { first: l1Offset / clusterSize, count: divCeil(l1Entries * ENTRY_BYTES, clusterSize) };
  for (let cluster = old.first; cluster < old.first + old.count; cluster++) {
    while (!counts.hold(cluster)) await counts.load(cluster);
  }
  const bytes = new Uint8Array(clusters * clusterSize);
  await readPadded(storage, l1Offset, bytes.subarray(0, l1Entries * ENTRY_BYTES));
  const first = await counts.takeTogether(clusters);
  await storage.write(first * clusterSize, bytes);
  await host.flush();
  await host.switchHeader({ l1Offset: first * clusterSize, l1Entries: entries });
  for (let cluster = old.first; cluster < old.first + old.count; cluster++) counts.release(cluster);
  await host.flush();
}

/** Allocates clusters of zeroes. */
async function storeZeroes(host: ResizeHost, start: number, end: number): Promise<void> {
  const zeroes = new Uint8Array(ZEROES);
  for (let at = start; at < end; ) {
    const slot = await host.prepareWrite(at, Math.min(end - at, ZEROES));
    try {
      // Room that reads zero by itself only needs a file that reaches so far.
      const from = slot.readsZero ? slot.length - SECTOR : 0;
      for (let done = from; done < slot.length; done += ZEROES) {
        await slot.storage.write(slot.fileOffset + done, zeroes.subarray(0, Math.min(ZEROES, slot.length - done)));
      }
    } catch (error) {
      slot.abort();
      throw error;
    }
    slot.commit();
    at = slot.guestOffset + slot.length;
  }
}

/**
 * The part of the last cluster past the old end must read as zero in a longer disk; `hides`: also hides the backing
 * file there.
 */
async function clearTail(host: ResizeHost, size: number, hides: boolean): Promise<void> {
  const { clusterSize } = host.header;
  const inside = size % clusterSize;
  if (inside === 0) return;
  await host.hideTail(size, hides);
  const mapping = await host.map(size - SECTOR, 1);
  // The disk has seen to it that what is stored there can be overwritten.
  if (mapping.kind !== 'data' || !mapping.writable) return;
  const offset = mapping.fileOffset + SECTOR;
  // An external data file ends where the disk does.
  const length = Math.min(clusterSize - inside, mapping.storage.size - offset);
  if (length <= 0) return;
  await mapping.storage.write(offset, new Uint8Array(length));
  await host.flush();
}
