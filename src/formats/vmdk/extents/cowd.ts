/**
 * COWD extents, in which ESX keeps what differs from a parent (`*-delta.vmdk`), and in old versions whole disks. They are
 * sparse extents with other sizes: grains of one sector, tables of 4096 entries that get room when they are needed, one
 * directory, and no marks for zero. The header counts the sectors in use: ESX puts new grains behind them, so the count
 * is durable before an entry names a grain or a table there (staged with the tables of a flush).
 */
import { alignUp, divCeil, isPowerOfTwo, SECTOR } from '../../../binary/numbers.ts';
import { withContext } from '../../../errors.ts';
import type { Geometry } from '../../../image/geometry.ts';
import { LIMITS } from '../../../limits.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import {
  COWD,
  COWD_DIRECTORY_SECTOR,
  COWD_FLAGS,
  COWD_GEOMETRY,
  COWD_GT_ENTRIES,
  COWD_HEADER,
  COWD_SECTORS_MAX,
} from '../layout.ts';
import { VMDK_LIMITS } from '../limits.ts';
import { fault, type HeaderForm, parseSparse, type SparseLayout } from './header.ts';

const VERSION = 1;
const ENTRY_BYTES = 4;
/** Place of the geometry of a base. */
const GEOMETRY_OFFSET = COWD_HEADER.fields.parentName.offset;

const FORM: HeaderForm = {
  type: 'VMFSSPARSE',
  size: COWD_HEADER.size,
  uncleanOffset: COWD_HEADER.fields.unclean.offset,
  putUnclean: (header, unclean) => COWD_HEADER.put(header, 'unclean', unclean),
  sectorsMax: COWD_SECTORS_MAX,
  putSize(header, { capacity, directories }) {
    COWD_HEADER.put(header, 'capacity', capacity / SECTOR);
    if (directories === undefined) return;
    COWD_HEADER.put(header, 'directoryOffset', directories.first / SECTOR);
    COWD_HEADER.put(header, 'directoryEntries', directories.entries);
  },
  tablesAhead: false,
};

/** Decodes and checks the header of a sparse extent, hosted or COWD: the first bytes of its file. */
export function parseHeader(head: Uint8Array, fileSize: number, path: string): SparseLayout {
  const isCowd = head.length >= COWD_HEADER.size && COWD_HEADER.get(head, 'magic') === COWD;
  return isCowd ? parseCowd(head, fileSize, path) : parseSparse(head, fileSize, path);
}

/** The checked header of a sparse extent in a separate file. */
export async function readLayout(storage: Storage): Promise<SparseLayout> {
  const head = new Uint8Array(COWD_HEADER.size);
  await readPadded(storage, 0, head);
  return parseHeader(head, storage.size, storage.label);
}

/** True if a header is that of a whole disk, which has a geometry where a delta has the name of its parent. */
export function isCowdBase(head: Uint8Array): boolean {
  const { cylinders, heads, sectors } = COWD_GEOMETRY.decode(head, GEOMETRY_OFFSET);
  return cylinders > 0 && heads > 0 && heads <= 255 && sectors > 0 && sectors <= 63;
}

/** Decodes and checks the header of a COWD extent. Throws `unsupported`, `corrupt`, `limit`. */
export function parseCowd(head: Uint8Array, fileSize: number, path: string): SparseLayout {
  try {
    return checkHeader(head, fileSize);
  } catch (error) {
    throw withContext(error, { path });
  }
}

function checkHeader(head: Uint8Array, fileSize: number): SparseLayout {
  const header = COWD_HEADER.decode(head);
  const { version, flags, grainSize, freeSector } = header;
  if (version !== VERSION)
    throw fault('unsupported', 'The version of the extent is not known', 'version', version, String(VERSION));
  if (!isPowerOfTwo(grainSize) || grainSize * SECTOR > LIMITS.blockSizeMax) {
    const expected = 'a power of two from 1 sector to 1 GiB';
    throw fault('corrupt', 'The grain size is not possible', 'grainSize', grainSize, expected);
  }
  const capacity = header.capacity * SECTOR;
  const grainBytes = grainSize * SECTOR;
  const directory = directoryOf(header, divCeil(capacity, grainBytes * COWD_GT_ENTRIES), fileSize);
  return {
    version,
    flags,
    capacity,
    grainBytes,
    tableEntries: COWD_GT_ENTRIES,
    tableBytes: COWD_GT_ENTRIES * ENTRY_BYTES,
    tableCount: directory.tableCount,
    directoryOffset: directory.fileOffset,
    redundantOffset: null,
    overhead: firstGrain(directory, grainBytes),
    descriptor: null,
    unclean: header.unclean !== 0,
    compressed: false,
    markers: false,
    zeroGrains: false,
    form: FORM,
    used: {
      end: freeSector * SECTOR,
      fieldOffset: COWD_HEADER.fields.freeSector.offset,
      sectorWith: sectorWith(head.slice(0, SECTOR)),
    },
    obstacle: flags === COWD_FLAGS ? null : `the flags in its header are not known (${flags})`,
  };
}

/** Places for grains begin behind the directory; behind the header if that moved, and left its place to grains. */
function firstGrain(
  { fileOffset, tableCount }: { readonly fileOffset: number; readonly tableCount: number },
  grainBytes: number,
): number {
  if (fileOffset !== COWD_DIRECTORY_SECTOR * SECTOR) return alignUp(COWD_HEADER.size, grainBytes);
  return fileOffset + alignUp(tableCount * ENTRY_BYTES, SECTOR);
}

/** Makes the first sector of a file with another count of sectors in use. */
function sectorWith(sector: Uint8Array): (end: number) => Uint8Array {
  return (end) => {
    const { offset } = COWD_HEADER.fields.freeSector;
    const bytes = sector.slice();
    new DataView(bytes.buffer).setUint32(offset, Math.min(end / SECTOR, COWD_SECTORS_MAX), true);
    return bytes;
  };
}

/** Place and length of the directory, which may have more entries than the disk needs. */
function directoryOf(
  { directoryOffset, directoryEntries }: { readonly directoryOffset: number; readonly directoryEntries: number },
  needed: number,
  fileSize: number,
): { readonly fileOffset: number; readonly tableCount: number } {
  if (directoryEntries > VMDK_LIMITS.tables) {
    const expected = `at most ${VMDK_LIMITS.tables}`;
    throw fault('limit', 'The extent has too many grain tables', 'numGDEntries', directoryEntries, expected);
  }
  if (directoryEntries < needed) {
    const message = 'The grain directory is too short for the disk';
    throw fault('corrupt', message, 'numGDEntries', directoryEntries, `at least ${needed}`);
  }
  const fileOffset = directoryOffset * SECTOR;
  if (fileOffset < COWD_HEADER.size || fileOffset + directoryEntries * ENTRY_BYTES > fileSize) {
    const expected = `behind the header, and with ${directoryEntries} entries inside the file`;
    const message = 'The grain directory cannot be where the header says';
    throw fault('corrupt', message, 'gdOffset', directoryOffset, expected);
  }
  return { fileOffset, tableCount: directoryEntries };
}

/** Sizes in a new extent. */
export interface CowdPlan {
  readonly directoryEntries: number;
  /** Sectors before the first grain. */
  readonly overhead: number;
  /** Sectors that a grain table takes: whole grains. */
  readonly tableSectors: number;
}

/** Lays out a new extent: its directory is rounded up so that grains begin at a multiple of their size. */
export function planCowd(sectors: number, grainSectors: number): CowdPlan {
  const needed = divCeil(sectors, grainSectors * COWD_GT_ENTRIES);
  const directory = divCeil(needed * ENTRY_BYTES, SECTOR);
  const overhead = alignUp(COWD_DIRECTORY_SECTOR + directory, grainSectors);
  const directoryEntries = ((overhead - COWD_DIRECTORY_SECTOR) * SECTOR) / ENTRY_BYTES;
  const tableSectors = alignUp((COWD_GT_ENTRIES * ENTRY_BYTES) / SECTOR, grainSectors);
  return { directoryEntries, overhead, tableSectors };
}

/** Header and empty directory of a new extent. `geometry`: of a base; null: it is a delta. */
export function newCowd(sectors: number, grainSectors: number, geometry: Geometry | null): Uint8Array {
  const { directoryEntries, overhead } = planCowd(sectors, grainSectors);
  const bytes = new Uint8Array(overhead * SECTOR);
  const header = COWD_HEADER.decode(bytes);
  const sizes = { capacity: sectors, grainSize: grainSectors, directoryEntries, freeSector: overhead };
  const place = { directoryOffset: COWD_DIRECTORY_SECTOR };
  bytes.set(COWD_HEADER.encode({ ...header, magic: COWD, version: VERSION, flags: COWD_FLAGS, ...sizes, ...place }));
  if (geometry !== null) bytes.set(COWD_GEOMETRY.encode(geometry), GEOMETRY_OFFSET);
  return bytes;
}
