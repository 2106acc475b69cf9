/** A VHDX file from its headers to its blocks; the log is replayed on the way, in memory where the file is only read. */
import { isNullGuid } from '../../binary/guid.ts';
import { hasText } from '../../binary/look.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Bat, batEntries } from './bat.ts';
import type { VhdxBlocks } from './blocks.ts';
import type { Place } from './entries.ts';
import { fault } from './fault.ts';
import { type FoundHeaders, findHeaders, Headers, type LogPlace } from './headers.ts';
import { FILE_SIGNATURE, IDENTIFIER, MIB } from './layout.ts';
import { type ParentLocator, parseLocator } from './locator.ts';
import { readMetadata, type VhdxMetadata } from './metadata.ts';
import { VhdxReader } from './reader.ts';
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

/** Blocks that can be written, and the code of all that changes an image, which is loaded with the first such image. */
export interface Writing {
  readonly code: typeof import('./writing.ts');
  readonly blocks: VhdxBlocks;
}

/** Everything that is read again when the structure of the file has changed. */
export interface VhdxState {
  readonly regions: FoundRegions;
  readonly metadata: VhdxMetadata;
  /** Null: the image has no parent, or does not name it. */
  readonly locator: ParentLocator | null;
  readonly bat: Bat;
  readonly blocks: VhdxReader;
  /** Null: the image is only read. */
  readonly writing: Writing | null;
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
  if (isNullGuid(found.header.logGuid)) return { storage: file, found, headers, creator, replayed: null };
  const { replayLog } = await import('./replay.ts');
  return { ...(await replayLog(file, found, headers, { mode, signal })), found, headers, creator };
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

/** Parts that reading the structure of a file needs. */
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
  const parts = { storage, bat, facts, virtualSize, logicalSector, room: null, guard };
  const found = { regions, metadata, locator, bat };
  if (!write) return { ...found, blocks: new VhdxReader(parts), writing: null, obstacle: null };
  const code = await import('./writing.ts');
  const { room, obstacle } = await code.scanRoom(storage, bat, facts, { signal });
  if (obstacle !== null) return { ...found, blocks: new VhdxReader(parts), writing: null, obstacle };
  const blocks = new VhdxReader({ ...parts, room });
  return { ...found, blocks, writing: { code, blocks: new code.VhdxBlocks({ ...parts, room }, blocks) }, obstacle };
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
