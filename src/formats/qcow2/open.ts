/** Opening a QCOW2 image: its header, its lists, its data file, and for writing what must be sound before. */
import { describeError, ImageError, isImageError } from '../../errors.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import type { Source, Storage } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { readBitmaps } from './bitmaps.ts';
import { HEADER_START, headerClusterBytes, parseHeader, type Qcow2Header } from './header.ts';
import { Qcow2Image, type Writing } from './image.ts';
import { CRYPT, INCOMPATIBLE } from './layout.ts';
import { metadataOf } from './metadata.ts';
import { openRefcounts } from './refcount-store.ts';
import { recoverDirty } from './repair.ts';
import { checkSnapshot, findSnapshot, noSnapshot, readSnapshots, type Snapshot } from './snapshots.ts';

const SECTOR = 512;

/** Opens the image in a storage, which belongs to the image when this resolves. */
export async function openQcow2(storage: Storage, source: Source, options: FormatOpenOptions): Promise<Qcow2Image> {
  const found = await readHeader(storage);
  // Before anything is allocated by counts that may be old; the bit says so.
  const recovers = options.mode === 'write' && options.infoOnly !== true && found.cryptMethod === CRYPT.none;
  const header = recovers ? await recoverDirty(storage, found) : found;
  const warnings = [...header.warnings];
  const snapshots = await lenient(
    readSnapshots(storage, header),
    'snapshots',
    options.snapshot !== undefined,
    warnings,
  );
  const bitmaps = await lenient(readBitmaps(storage, header), 'bitmaps', false, warnings);
  const snapshot = options.snapshot === undefined ? null : chooseSnapshot(storage, header, snapshots, options.snapshot);
  const parts = { source, storage, header, snapshots, bitmaps, snapshot, warnings, writing: null, obstacle: null };
  if (options.infoOnly === true) return new Qcow2Image({ ...parts, data: null });
  refuseEncrypted(header, storage.label);
  const writing = options.mode === 'write' ? await openForWriting(storage, header, snapshots, snapshot) : null;
  const obstacle = typeof writing === 'string' ? writing : null;
  const state = typeof writing === 'string' ? null : writing;
  const data = await openData(storage, header, source, { gate: options.gate, mode: state === null ? 'read' : 'write' });
  return new Qcow2Image({ ...parts, data, writing: state, obstacle });
}

/** What writing needs beside what reading does; or words why it may not be. */
async function openForWriting(
  storage: Storage,
  header: Qcow2Header,
  snapshots: readonly Snapshot[],
  snapshot: Snapshot | null,
): Promise<Writing | string> {
  if (snapshot !== null) return 'a snapshot is only read';
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0n) return 'it is marked as corrupt';
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0n)
    return 'it was not closed cleanly, and its refcounts may be old';
  const counts = await openRefcounts(storage, header);
  if (typeof counts === 'string') return counts;
  for await (const { offset, length } of metadataOf(storage, header, snapshots)) {
    for (let at = offset; at < offset + length; at += header.clusterSize)
      counts.tables.add(Math.floor(at / header.clusterSize));
  }
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  return { counts, sector };
}

/** Reads and checks the header cluster. */
export async function readHeader(storage: Storage): Promise<Qcow2Header> {
  const start = new Uint8Array(HEADER_START);
  await readPadded(storage, 0, start);
  const cluster = new Uint8Array(headerClusterBytes(start, storage.label));
  await readPadded(storage, 0, cluster);
  return parseHeader(cluster, storage.size, storage.label);
}

/** A list that may be damaged without harm to the disk. */
async function lenient<T>(reading: Promise<T[]>, what: string, needed: boolean, warnings: string[]): Promise<T[]> {
  try {
    return await reading;
  } catch (error) {
    const harmless = isImageError(error) && error.kind !== 'io' && error.kind !== 'aborted';
    if (needed || !harmless) throw error;
    warnings.push(`The list of ${what} cannot be read: ${describeError(error)}.`);
    return [];
  }
}

function chooseSnapshot(
  storage: Storage,
  header: Qcow2Header,
  snapshots: readonly Snapshot[],
  wanted: string,
): Snapshot {
  const snapshot = findSnapshot(snapshots, wanted);
  if (snapshot === null) throw noSnapshot(snapshots, wanted, storage.label);
  checkSnapshot(snapshot, header, storage);
  return snapshot;
}

function refuseEncrypted(header: Qcow2Header, path: string): void {
  if (header.cryptMethod === CRYPT.none) return;
  const how = header.cryptMethod === CRYPT.luks ? 'with LUKS' : 'in the old way of QEMU (AES)';
  throw new ImageError('unsupported', `The image is encrypted ${how}, which vdkit cannot read`, {
    path,
    hint: 'Decrypt it with qemu-img convert, or look at what it says of itself (info).',
  });
}

/** Where guest data lies. A data file is opened through the gate, and only read as long as images are. */
async function openData(
  storage: Storage,
  header: Qcow2Header,
  source: Source,
  { gate, mode }: Pick<FormatOpenOptions, 'gate' | 'mode'>,
): Promise<Storage> {
  if ((header.incompatible & INCOMPATIBLE.dataFile) === 0n) return storage;
  const { dataFileName: name } = header;
  if (name === null) {
    throw new ImageError('not-found', 'The data is in another file, which the image does not name', {
      path: storage.label,
      field: 'external data file',
    });
  }
  const { provider } = source;
  const wanted = isPlainName(name) ? provider.resolve(name, source.name) : name;
  return gate.open({ name: wanted, role: 'external data file' }, source, mode);
}
