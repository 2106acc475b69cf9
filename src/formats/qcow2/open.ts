/** Opening a QCOW2 image: header, lists, data file, and the checks required for writing. */
import { divCeil } from '../../binary/numbers.ts';
import { describeError, hex, ImageError, isImageError } from '../../errors.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { LIMITS } from '../../limits.ts';
import type { OpenMode, OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Turns } from '../../storage/turns.ts';
import { readBitmaps } from './bitmaps/bitmaps.ts';
import { survey } from './check/check.ts';
import { mendCopied, recoverDirty } from './check/repair.ts';
import { metadataOf } from './clusters/metadata.ts';
import { openRefcounts } from './clusters/refcount-store.ts';
import { HEADER_START, headerClusterBytes, parseHeader, type Qcow2Header } from './header/header.ts';
import { Qcow2Image } from './image.ts';
import { CRYPT, DATA_FILE, INCOMPATIBLE } from './layout.ts';
import { checkSnapshot, findSnapshot, noSnapshot, readSnapshots, type Snapshot } from './snapshots/snapshots.ts';
import type { Writing } from './state.ts';

const SECTOR = 512;
/**
 * Images with up to this many bytes of tables, 64 GiB of data in 64 KiB clusters, are checked before writing. Larger
 * ones are checked where they are written, unless something is counted past the end of the file.
 */
const SURVEY_BYTES = 8 * 1024 * 1024;

/** Options of `openQcow2`. */
export interface Qcow2OpenOptions extends Omit<FormatOpenOptions, 'gate'> {
  /** Just created, so no check is needed. Default false. */
  readonly isNew?: boolean | undefined;
}

/** Opens the image in these files, which belong to it when this resolves. */
export async function openQcow2(files: ImageFiles, options: Qcow2OpenOptions): Promise<Qcow2Image> {
  const storage = mainFile(files);
  const found = await readHeader(storage);
  // Before anything is allocated by counts that may be old; the bit says so.
  const recovers = options.mode === 'write' && options.infoOnly !== true && found.cryptMethod === CRYPT.none;
  const header = recovers ? await recoverDirty(storage, found, options) : found;
  const warnings = [...header.warnings];
  const snapshots = await lenient(
    readSnapshots(storage, header),
    'snapshots',
    options.snapshot !== undefined,
    warnings,
  );
  const bitmaps = await lenient(readBitmaps(storage, header), 'bitmaps', false, warnings);
  const snapshot = options.snapshot === undefined ? null : chooseSnapshot(storage, header, snapshots, options.snapshot);
  const parts = { files, storage, header, snapshots, bitmaps, snapshot, warnings, writing: null, obstacle: null };
  if (options.infoOnly === true) return new Qcow2Image({ ...parts, data: null });
  refuseEncrypted(header, storage.label);
  const checked = options.isNew !== true;
  const writing =
    options.mode === 'write' ? await openForWriting(storage, header, { snapshots, snapshot, checked, options }) : null;
  const obstacle = typeof writing === 'string' ? writing : null;
  const state = typeof writing === 'string' ? null : writing;
  const external = (header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  const mode = state === null ? 'read' : 'write';
  const data = options.withoutData === true && external ? null : await openData(files, storage, header, mode);
  return new Qcow2Image({ ...parts, data, writing: state, obstacle });
}

/** State needed for writing, or a reason why that is forbidden. */
async function openForWriting(
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
): Promise<Writing | string> {
  if (snapshot !== null) return 'a snapshot is only read';
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0n) return 'it is marked as corrupt';
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0n)
    return 'it was not closed cleanly, and its refcounts may be old';
  const counts = await openRefcounts(storage, header);
  if (typeof counts === 'string') return counts;
  const { clusterSize } = header;
  let bytes = 0;
  const turns = new Turns(options.signal, 'Opening');
  for await (const { fileOffset: offset, length, what } of metadataOf(storage, header, snapshots, options)) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    // What lies behind the end would come to life when the file grows.
    const end = what.startsWith('L2') ? offset + length : offset + Math.max(length - clusterSize, 0) + 1;
    if (offset % clusterSize !== 0 || end > storage.size) return `there can be no ${what} at ${hex(offset)}`;
    bytes += length;
    if (what.startsWith('L1') && bytes > LIMITS.qcow2TableBytes)
      return 'its tables are longer than they may be together';
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

/** Reads and checks the header cluster. */
export async function readHeader(storage: Storage): Promise<Qcow2Header> {
  const start = new Uint8Array(HEADER_START);
  await readPadded(storage, 0, start);
  const cluster = new Uint8Array(headerClusterBytes(start, storage.label));
  await readPadded(storage, 0, cluster);
  return parseHeader(cluster, storage.size, storage.label);
}

/** Reads a list that may be damaged without harm to the disk. */
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

/** Storage of guest data. A data file is opened through the gate, and only read if the image is. */
async function openData(files: ImageFiles, storage: Storage, header: Qcow2Header, mode: OpenMode): Promise<Storage> {
  if ((header.incompatible & INCOMPATIBLE.dataFile) === 0n) return storage;
  const { dataFileName: name } = header;
  if (name === null) {
    throw new ImageError('not-found', 'The data is in another file, which the image does not name', {
      path: storage.label,
      field: 'external data file',
    });
  }
  return files.open({ name, role: DATA_FILE, part: true }, mode);
}
