/** Opening QCOW2 images. Code for writing is loaded with the first image that is written. */
import { describeError, ImageError, isImageError } from '../../errors.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { OpenMode, OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { readBitmaps } from './bitmaps/bitmaps.ts';
import { encryptionOf } from './header/details.ts';
import { HEADER_START, headerClusterBytes, isDirty, parseHeader, type Qcow2Header } from './header/header.ts';
import { Qcow2Image } from './image.ts';
import { CRYPT, DATA_FILE, INCOMPATIBLE } from './layout.ts';
import { checkSnapshot, findSnapshot, noSnapshot, readSnapshots, type Snapshot } from './snapshots/snapshots.ts';
import type { Writing, WritingCode } from './state.ts';

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
  const header = recovers && isDirty(found) ? await recovered(storage, found, options) : found;
  const warnings = [...header.warnings];
  const snapshots = await lenient(
    readSnapshots(storage, header),
    'snapshots',
    options.snapshot !== undefined,
    warnings,
  );
  const bitmaps = await lenient(readBitmaps(storage, header), 'bitmaps', false, warnings);
  const snapshot = options.snapshot === undefined ? null : chooseSnapshot(storage, header, snapshots, options.snapshot);
  const encryption = await encryptionOf(storage, header);
  const lists = { snapshots, bitmaps, snapshot, warnings, encryption };
  const parts = { files, storage, header, ...lists, writing: null, obstacle: null };
  if (options.infoOnly === true) return new Qcow2Image({ ...parts, data: null });
  refuseEncrypted(header, storage.label);
  const checked = options.isNew !== true;
  const writing =
    options.mode === 'write' ? await stateForWriting(storage, header, { snapshots, snapshot, checked, options }) : null;
  const obstacle = typeof writing === 'string' ? writing : null;
  const state = typeof writing === 'string' ? null : writing;
  const external = (header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  const mode = state === null ? 'read' : 'write';
  const data = options.withoutData === true && external ? null : await openData(files, storage, header, mode);
  return new Qcow2Image({ ...parts, data, writing: state, obstacle });
}

/** Code that only writing needs is loaded for it. */
async function stateForWriting(...args: Parameters<WritingCode['openForWriting']>): Promise<Writing | string> {
  const code = await import('./writing.ts');
  const opened = await code.openForWriting(...args);
  return typeof opened === 'string' ? opened : { ...opened, code };
}

/** The header of an image that was not closed cleanly, after a repair. */
async function recovered(storage: Storage, header: Qcow2Header, options: OperationOptions): Promise<Qcow2Header> {
  const { recoverDirty } = await import('./check/repair.ts');
  return recoverDirty(storage, header, options);
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
