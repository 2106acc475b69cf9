/** The header of a Parallels image, decoded and checked: after it, every number can be trusted. */
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { type ErrorDetails, hex32, ImageError, printable } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { ENTRY_BYTES, HEADER, type Header, IN_USE, MAGIC, VERSION } from './layout.ts';
import { PARALLELS_LIMITS } from './limits.ts';

/** Checked content of a header. Places and sizes in bytes. */
export interface ParallelsLayout {
  readonly header: Header;
  /** Entries of the table count clusters, not sectors. */
  readonly extended: boolean;
  readonly virtualSize: number;
  readonly clusterSize: number;
  /** Entries of the table that the header counts: at least those of the disk. */
  readonly entries: number;
  /** Clusters of the disk. */
  readonly blockCount: number;
  /** Bytes that an entry counts. */
  readonly entryUnit: number;
  /** First sector behind the table. */
  readonly tableEnd: number;
  /** Clusters begin here or later. */
  readonly dataStart: number;
}

/** Reads and checks the header. Throws `invalid-format`, `unsupported`, `corrupt`, `limit`. */
export async function readHeader(storage: Storage, options: OperationOptions = {}): Promise<ParallelsLayout> {
  const bytes = new Uint8Array(HEADER.size);
  await readPadded(storage, 0, bytes, options);
  return parseHeader(bytes, storage);
}

/** The same for bytes of a header. */
export function parseHeader(bytes: Uint8Array, storage: Pick<Storage, 'size' | 'label'>): ParallelsLayout {
  const header = HEADER.decode(bytes);
  checkKind(storage, header);
  const { tracks, entries } = header;
  const extended = header.magic === MAGIC.extended;
  const clusterSize = tracks * SECTOR;
  if (clusterSize < LIMITS.blockSizeMin || clusterSize > LIMITS.blockSizeMax) {
    throw fault(storage, clusterSize === 0 ? 'corrupt' : 'limit', 'The cluster size is not supported', 'tracks', {
      found: `${tracks} sectors`,
      expected: `1 to ${LIMITS.blockSizeMax / SECTOR} sectors`,
    });
  }
  const virtualSize = sizeOf(storage, header, extended);
  const blockCount = divCeil(virtualSize, clusterSize);
  checkEntries(storage, header, blockCount);
  const tableEnd = tableEndOf(entries);
  return {
    header,
    extended,
    virtualSize,
    clusterSize,
    entries,
    blockCount,
    entryUnit: extended ? clusterSize : SECTOR,
    tableEnd,
    dataStart: dataStartOf(storage, header, tableEnd),
  };
}

/** Writes a header in front of the entries that share its sector, as they are on the medium. Not durable. */
export async function writeHeader(storage: Storage, header: Header): Promise<void> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  sector.set(HEADER.encode(header));
  await storage.write(0, sector);
}

/** End of the sectors of a table. */
export function tableEndOf(entries: number): number {
  return alignUp(HEADER.size + entries * ENTRY_BYTES, SECTOR);
}

function checkKind(storage: Pick<Storage, 'size' | 'label'>, { magic, version }: Header): void {
  if (storage.size < HEADER.size || (magic !== MAGIC.classic && magic !== MAGIC.extended)) {
    const message = 'This is not a Parallels image: the signature does not match';
    const expected = `${MAGIC.classic} or ${MAGIC.extended}`;
    throw fault(storage, 'invalid-format', message, 'magic', { found: printable(magic), expected });
  }
  if (version === VERSION) return;
  throw fault(storage, 'unsupported', 'This version of the Parallels format is not supported', 'version', {
    found: version,
    expected: VERSION,
  });
}

/** The upper half of the field counts only in images with the extended signature. */
function sizeOf(storage: Pick<Storage, 'label'>, { sectors, sectorsHigh }: Header, extended: boolean): number {
  const count = BigInt(sectors) + (extended ? BigInt(sectorsHigh) << 32n : 0n);
  const most = BigInt(LIMITS.virtualSize) / BigInt(SECTOR);
  if (count <= most) return Number(count) * SECTOR;
  throw fault(storage, 'limit', 'The disk is too large', 'sectors', {
    found: `${count} sectors`,
    expected: `at most ${most}`,
  });
}

function checkEntries(storage: Pick<Storage, 'size' | 'label'>, { entries }: Header, blockCount: number): void {
  if (entries < blockCount) {
    throw fault(storage, 'corrupt', 'The block allocation table is too short for the disk', 'entries', {
      found: entries,
      expected: `at least ${blockCount}`,
    });
  }
  if (entries > PARALLELS_LIMITS.entries) {
    throw fault(storage, 'limit', 'The block allocation table is too long', 'entries', {
      found: entries,
      expected: `at most ${PARALLELS_LIMITS.entries}`,
    });
  }
  const end = HEADER.size + entries * ENTRY_BYTES;
  if (end <= storage.size) return;
  throw fault(storage, 'corrupt', 'The file ends inside its block allocation table', 'entries', {
    found: `${storage.size} bytes`,
    expected: `at least ${end}`,
    hint: 'Copy the image again from where it came from.',
  });
}

function dataStartOf(storage: Pick<Storage, 'label'>, { dataOffset }: Header, tableEnd: number): number {
  const stored = dataOffset * SECTOR;
  if (stored === 0) return tableEnd;
  if (stored >= tableEnd) return stored;
  throw fault(storage, 'corrupt', 'The data would begin inside the block allocation table', 'dataOffset', {
    found: `sector ${dataOffset}`,
    expected: `0, or at least ${tableEnd / SECTOR}`,
  });
}

/** True for a mark of an image that was not closed. */
export function isOpenMark(inUse: number): boolean {
  return inUse === IN_USE.open;
}

/** Irregularities of a header, for people. */
export function headerWarnings({ header }: ParallelsLayout, label: string): string[] {
  const { inUse } = header;
  if (isOpenMark(inUse)) return [`${label} was not closed by the program that wrote it.`];
  if (inUse === IN_USE.closed || inUse === IN_USE.unaware) return [];
  return [`The mark of use of ${label} has an unknown value, ${hex32(inUse)}; it is ignored.`];
}

function fault(
  { label }: Pick<Storage, 'label'>,
  kind: 'invalid-format' | 'corrupt' | 'unsupported' | 'limit',
  message: string,
  field: keyof Header,
  details: ErrorDetails,
): ImageError {
  return new ImageError(kind, message, { path: label, field, offset: HEADER.fields[field].offset, ...details });
}
