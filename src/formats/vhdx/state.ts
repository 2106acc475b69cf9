/** A VHDX file from its headers to its blocks; the log is replayed on the way, in memory where the file is only read. */
import { isNullGuid, NULL_GUID, randomGuid } from '../../binary/guid.ts';
import { hasText } from '../../binary/look.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { OverlayStorage } from '../../storage/overlay.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Bat, batEntries } from './bat.ts';
import { VhdxBlocks } from './blocks.ts';
import { type Place, scanRoom } from './entries.ts';
import { fault } from './fault.ts';
import { type FoundHeaders, findHeaders, Headers, type LogPlace } from './headers.ts';
import { FILE_SIGNATURE, IDENTIFIER, MIB } from './layout.ts';
import { type ParentLocator, parseLocator } from './locator.ts';
import { checkSequence, findSequence, type LogSequence, replay } from './log-reader.ts';
import { readMetadata, type VhdxMetadata } from './metadata.ts';
import { type FoundRegions, findRegions } from './regions.ts';

/** An image whose log has been replayed. */
export interface OpenedFile {
  /** The file, or what it is with its log, where it is only read. */
  readonly storage: Storage;
  readonly found: FoundHeaders;
  readonly headers: Headers;
  readonly creator: string;
  /** Entries of the log that were replayed; null: it was empty. */
  readonly replayed: number | null;
}

/** Everything that is read again when the structure of the file has changed. */
export interface VhdxState {
  readonly regions: FoundRegions;
  readonly metadata: VhdxMetadata;
  /** Null: the image has no parent, or does not name it. */
  readonly locator: ParentLocator | null;
  readonly bat: Bat;
  readonly blocks: VhdxBlocks;
  /** Reason why the image must not be written, or null. */
  readonly obstacle: string | null;
}

/** Finds the headers and replays the log. */
export async function openFile(
  file: Storage,
  { mode, signal }: Pick<FormatOpenOptions, 'mode' | 'signal'>,
): Promise<OpenedFile> {
  const creator = await creatorOf(file, { signal });
  const found = await findHeaders(file, { signal });
  const headers = new Headers(file, found);
  const sequence = await sequenceOf(file, found, { signal });
  if (sequence === null) return { storage: file, found, headers, creator, replayed: null };
  const size = checkSequence(sequence, file, found.log);
  if (mode === 'read') {
    const storage = new OverlayStorage(file);
    await replay(storage, sequence, size);
    return { storage, found, headers, creator, replayed: sequence.length };
  }
  await replay(file, sequence, size);
  await headers.change({ logGuid: NULL_GUID, fileWriteGuid: randomGuid() });
  return { storage: file, found, headers, creator, replayed: sequence.length };
}

/** The entries of a log that is not empty; null: it is. Throws `corrupt`. */
export async function sequenceOf(
  file: Storage,
  { header, log }: FoundHeaders,
  options: OperationOptions,
): Promise<LogSequence | null> {
  if (isNullGuid(header.logGuid)) return null;
  const sequence = await findSequence(file, log, header.logGuid, options);
  if (sequence !== null) return sequence;
  throw fault('corrupt', 'The log of the image is damaged: changes that were under way cannot be completed', {
    path: file.label,
    offset: log.fileOffset,
    field: 'log',
    found: 'no valid entry',
    hint: 'To go on without them: "vdkit repair IMAGE". Copy the file first.',
  });
}

async function creatorOf(file: Storage, options: OperationOptions): Promise<string> {
  const bytes = new Uint8Array(IDENTIFIER.size);
  await readPadded(file, 0, bytes, options);
  if (!hasText(bytes, 0, FILE_SIGNATURE)) {
    throw fault('invalid-format', 'The file is not a VHDX image', {
      path: file.label,
      field: 'signature',
      expected: `"${FILE_SIGNATURE}"`,
    });
  }
  const stored = IDENTIFIER.get(bytes, 'creator');
  const view = new DataView(stored.buffer);
  let text = '';
  for (let at = 0; at < stored.length && view.getUint16(at, true) !== 0; at += 2) {
    text += String.fromCharCode(view.getUint16(at, true));
  }
  return text;
}

/** What reading the structure of a file needs. */
export interface StateOptions extends OperationOptions {
  readonly write: boolean;
  readonly guard: ChangeGuard;
}

/** Reads regions, metadata, and for writing the whole table. */
export async function readState(
  storage: Storage,
  log: LogPlace,
  { write, guard, signal }: StateOptions,
): Promise<VhdxState> {
  const regions = await findRegions(storage, log, { signal });
  const metadata = await readMetadata(storage, regions.metadata, { signal });
  checkTable(storage, regions, metadata);
  const { locator: bytes, blockSize, hasParent, virtualSize, logicalSector } = metadata;
  const locator = bytes === null ? null : parseLocator(bytes, storage.label);
  const bat = new Bat(storage, regions.bat.fileOffset, metadata);
  const facts = { blockSize, hasParent, taken: takenPlaces(regions, log) };
  const scan = write ? await scanRoom(storage, bat, facts, { signal }) : null;
  const room = scan === null || scan.obstacle !== null ? null : scan.room;
  const blocks = new VhdxBlocks({ storage, bat, facts, virtualSize, logicalSector, room, guard });
  return { regions, metadata, locator, bat, blocks, obstacle: scan?.obstacle ?? null };
}

/** Throws `corrupt` for a table that is too short for the disk. */
function checkTable(storage: Storage, { bat }: FoundRegions, metadata: VhdxMetadata): void {
  const needed = batEntries(metadata) * 8;
  if (needed <= bat.length) return;
  throw fault('corrupt', 'The block allocation table is too short for the disk', {
    path: storage.label,
    field: 'BAT region',
    found: `${bat.length} bytes`,
    expected: `at least ${needed}`,
  });
}

/** Places that no block may take. */
export function takenPlaces({ all }: FoundRegions, log: LogPlace): Place[] {
  return [{ fileOffset: 0, length: MIB }, ...(log.length > 0 ? [log] : []), ...all];
}
