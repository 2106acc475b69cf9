/**
 * Decoding and checking of the header of a hosted sparse extent, and of the footer of a stream: after `parseSparse`
 * returns, the rest of this format may trust every number.
 */
import { alignDown, divCeil, isPowerOfTwo, SECTOR } from '../../../binary/numbers.ts';
import { type ErrorDetails, hex32, ImageError, withContext } from '../../../errors.ts';
import { LIMITS } from '../../../limits.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { COMPRESSION, FLAG, GD_AT_END, KDMV, NEWLINES, SPARSE_HEADER, type SparseHeader } from '../layout.ts';
import { VMDK_LIMITS } from '../limits.ts';

/** Largest grain that is decoded as a whole. */
const COMPRESSED_GRAIN_MAX = 2 * 1024 * 1024;
/** Bounds of the entries of a grain table; real ones have 512. */
const ENTRIES = { min: 128, max: 4096 } as const;

/** Kind of a header: where the flag of an unclean end lies in it. */
export interface HeaderForm {
  /** Type of its extents in a descriptor. */
  readonly type: 'SPARSE' | 'VMFSSPARSE';
  /** Bytes of the header. */
  readonly size: number;
  readonly uncleanOffset: number;
  putUnclean(header: Uint8Array, unclean: number): void;
  /** Largest number of sectors that it can count. */
  readonly sectorsMax: number;
  /** Puts another size, all of it in the first sector. */
  putSize(header: Uint8Array, size: SparseSize): void;
  /** All tables have their places from the beginning, not when they are first needed. */
  readonly tablesAhead: boolean;
}

/** Size of an extent, in bytes, and the places of its directories where they move. */
export interface SparseSize {
  readonly capacity: number;
  readonly directories?: { readonly first: number; readonly copy: number | null; readonly entries: number } | undefined;
}

/** Headers of hosted extents. */
export const HOSTED: HeaderForm = {
  type: 'SPARSE',
  size: SPARSE_HEADER.size,
  uncleanOffset: SPARSE_HEADER.fields.unclean.offset,
  putUnclean: (header, unclean) => SPARSE_HEADER.put(header, 'unclean', unclean),
  sectorsMax: Number.MAX_SAFE_INTEGER,
  putSize(header, { capacity, directories }) {
    SPARSE_HEADER.put(header, 'capacity', capacity / SECTOR);
    if (directories === undefined) return;
    const { first, copy } = directories;
    SPARSE_HEADER.put(header, 'directoryOffset', BigInt(first / SECTOR));
    if (copy !== null) SPARSE_HEADER.put(header, 'redundantOffset', BigInt(copy / SECTOR));
  },
  tablesAhead: true,
};

/** Count of what is in use, by which other programs find room for new grains: it must cover all grains and tables. */
export interface UsedCount {
  /** File offset up to which the header counts. */
  readonly end: number;
  readonly fieldOffset: number;
  /** The first sector of the file with another count. */
  sectorWith(end: number): Uint8Array;
}

/** Checked content of a header. Places and sizes in bytes. */
export interface SparseLayout {
  readonly version: number;
  readonly flags: number;
  /** Bytes of the extent; its line in the descriptor may claim fewer. */
  readonly capacity: number;
  readonly grainBytes: number;
  readonly tableEntries: number;
  readonly tableBytes: number;
  readonly tableCount: number;
  /** Null: at the end, as the footer says. */
  readonly directoryOffset: number | null;
  /** Null: there is one directory only. */
  readonly redundantOffset: number | null;
  /** First byte where a grain can be. */
  readonly overhead: number;
  /** Null: the extent has none. */
  readonly descriptor: { readonly fileOffset: number; readonly length: number } | null;
  readonly unclean: boolean;
  readonly compressed: boolean;
  readonly markers: boolean;
  readonly zeroGrains: boolean;
  readonly form: HeaderForm;
  /** Null: the header has none. */
  readonly used: UsedCount | null;
  /** Reason why the extent is only read, whatever its tables hold; null: there is none. */
  readonly obstacle: string | null;
}

/** Sets or clears the flag of an unclean end. */
export async function markUnclean(storage: Storage, form: HeaderForm, unclean: 0 | 1): Promise<void> {
  const header = new Uint8Array(form.size);
  await readPadded(storage, 0, header);
  form.putUnclean(header, unclean);
  const sector = alignDown(form.uncleanOffset, SECTOR);
  await storage.write(sector, header.slice(sector, sector + SECTOR));
}

/** Decodes and checks the 512 bytes of a header. Throws `invalid-format`, `unsupported`, `corrupt`, `limit`. */
export function parseSparse(sector: Uint8Array, fileSize: number, path: string): SparseLayout {
  try {
    checkMagic(SPARSE_HEADER.get(sector, 'magic'));
    return checkHeader(SPARSE_HEADER.decode(sector), fileSize);
  } catch (error) {
    throw withContext(error, { path });
  }
}

/** First: in any other file the numbers behind it mean nothing. */
function checkMagic(magic: number): void {
  if (magic === KDMV) return;
  throw fault('invalid-format', 'This is not a sparse extent of VMDK', 'magic', hex32(magic), hex32(KDMV));
}

function checkHeader(header: SparseHeader, fileSize: number): SparseLayout {
  const { version, flags, grainSize, entriesPerTable } = header;
  if (version < 1 || version > 3)
    throw fault('unsupported', 'The version of the extent is not known', 'version', version, '1, 2 or 3');
  checkNewlines(header);
  const compressed = isCompressed(header);
  if (!isPowerOfTwo(grainSize) || grainSize < 8 || grainSize * SECTOR > LIMITS.blockSizeMax) {
    throw fault(
      'corrupt',
      'The grain size is not possible',
      'grainSize',
      grainSize,
      'a power of two from 8 sectors to 1 GiB',
    );
  }
  if (compressed && grainSize * SECTOR > COMPRESSED_GRAIN_MAX) {
    throw fault(
      'limit',
      'The compressed grains are too large',
      'grainSize',
      grainSize,
      `at most ${COMPRESSED_GRAIN_MAX / SECTOR}`,
    );
  }
  if (!isPowerOfTwo(entriesPerTable) || entriesPerTable < ENTRIES.min || entriesPerTable > ENTRIES.max) {
    throw fault(
      'corrupt',
      'The length of the grain tables is not possible',
      'numGTEsPerGT',
      entriesPerTable,
      `a power of two from ${ENTRIES.min} to ${ENTRIES.max}`,
    );
  }
  const capacity = bytesOf('capacity', header.capacity);
  const grainBytes = grainSize * SECTOR;
  const tableCount = divCeil(capacity, grainBytes * entriesPerTable);
  if (tableCount > VMDK_LIMITS.tables) {
    throw fault(
      'limit',
      'The extent has too many grain tables',
      'capacity',
      header.capacity,
      `at most ${VMDK_LIMITS.tables} tables`,
    );
  }
  const redundant = (flags & FLAG.redundant) !== 0;
  return {
    version,
    flags,
    capacity,
    grainBytes,
    tableEntries: entriesPerTable,
    tableBytes: entriesPerTable * 4,
    tableCount,
    directoryOffset: directoryOf(header, tableCount, fileSize),
    redundantOffset: redundant ? placeOrNull(header.redundantOffset, tableCount * 4, fileSize) : null,
    overhead: bytesOf('overHead', header.overhead),
    descriptor: descriptorOf(header, fileSize),
    unclean: header.unclean !== 0,
    compressed,
    markers: (flags & FLAG.markers) !== 0,
    zeroGrains: (flags & FLAG.zeroGrains) !== 0,
    form: HOSTED,
    used: null,
    obstacle: null,
  };
}

/** A transfer in text mode changes these bytes, and others everywhere in the file. */
function checkNewlines({ flags, singleEndLine, nonEndLine, doubleEndLine1, doubleEndLine2 }: SparseHeader): void {
  if ((flags & FLAG.newlines) === 0) return;
  const { single, other, first, second } = NEWLINES;
  if (singleEndLine === single && nonEndLine === other && doubleEndLine1 === first && doubleEndLine2 === second) return;
  throw new ImageError('corrupt', 'The file was changed by a transfer in text mode', {
    status: STATUS.corrupt,
    field: 'line end characters',
    found: [singleEndLine, nonEndLine, doubleEndLine1, doubleEndLine2].join(' '),
    expected: [single, other, first, second].join(' '),
    hint: 'Copy the image again from where it came from, as binary data.',
  });
}

function isCompressed({ flags, compression }: SparseHeader): boolean {
  if ((flags & FLAG.compressed) === 0) return false;
  if (compression === COMPRESSION.deflate) return true;
  throw fault(
    'unsupported',
    'The compression of the grains is not known',
    'compressAlgorithm',
    compression,
    '1 (deflate)',
  );
}

function descriptorOf(
  { descriptorOffset, descriptorSize }: SparseHeader,
  fileSize: number,
): SparseLayout['descriptor'] {
  if (descriptorOffset === 0 || descriptorSize === 0) return null;
  const fileOffset = bytesOf('descriptorOffset', descriptorOffset);
  const length = bytesOf('descriptorSize', descriptorSize);
  if (fileOffset >= fileSize || length > VMDK_LIMITS.descriptorBytes) {
    throw fault(
      'corrupt',
      'The descriptor cannot be where the header says',
      'descriptorOffset',
      `${descriptorOffset}, ${descriptorSize} sectors`,
      `inside the file, at most ${VMDK_LIMITS.descriptorBytes} bytes`,
    );
  }
  return { fileOffset, length: Math.min(length, fileSize - fileOffset) };
}

function directoryOf({ directoryOffset, flags }: SparseHeader, tableCount: number, fileSize: number): number | null {
  if (directoryOffset === GD_AT_END) {
    if ((flags & FLAG.markers) !== 0) return null;
    throw fault(
      'corrupt',
      'The grain directory is said to follow the grains, but the extent has no markers',
      'gdOffset',
      'at the end',
      'a sector',
    );
  }
  // Without tables there is nothing to find.
  return tableCount === 0 ? 0 : (placeOrNull(directoryOffset, tableCount * 4, fileSize) ?? 0);
}

/** A place inside the file, in bytes; null for any other. */
function placeOrNull(sector: bigint, length: number, fileSize: number): number | null {
  if (sector === 0n || sector > BigInt(fileSize)) return null;
  const fileOffset = Number(sector) * SECTOR;
  return fileOffset + length <= fileSize ? fileOffset : null;
}

function bytesOf(field: string, sectors: number): number {
  if (sectors <= LIMITS.virtualSize / SECTOR) return sectors * SECTOR;
  throw fault(
    'limit',
    'A place or a size lies beyond what can be addressed',
    field,
    sectors,
    `at most ${Math.floor(LIMITS.virtualSize / SECTOR)} sectors`,
  );
}

/** Codes of vd.h for a header that cannot be used. */
const STATUS = {
  'invalid-format': 'VERR_VD_VMDK_INVALID_HEADER',
  corrupt: 'VERR_VD_VMDK_INVALID_HEADER',
  unsupported: 'VERR_VD_VMDK_UNSUPPORTED_VERSION',
  limit: undefined,
} as const;

/** An error about a field of a header. */
export function fault(
  kind: keyof typeof STATUS,
  message: string,
  field: string,
  found: ErrorDetails['found'],
  expected: string,
): ImageError {
  return new ImageError(kind, message, { field, found, expected, status: STATUS[kind] });
}
