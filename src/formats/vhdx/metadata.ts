/** The metadata region of a VHDX file: a table of items, and the items. */

import { formatGuid } from '../../binary/guid.ts';
import { isPowerOfTwo } from '../../binary/numbers.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { fault } from './fault.ts';
import {
  ITEM_FLAGS,
  ITEM_IDS,
  METADATA_ENTRY,
  METADATA_SIGNATURE,
  METADATA_TABLE,
  METADATA_TABLE_BYTES,
  MIB,
  PARAMETER_FLAGS,
  PARAMETERS,
} from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';
import type { Region } from './regions.ts';

/** Largest block: 256 MiB. */
export const MOST_BLOCK_BYTES = 256 * MIB;
/** Items that users may add. */
const MOST_USER_ITEMS = 1024;

/** An item of the table. */
export interface MetadataItem {
  readonly id: string;
  /** From the start of the region. */
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
}

/** The facts that the items state, checked. */
export interface VhdxMetadata {
  readonly items: readonly MetadataItem[];
  readonly blockSize: number;
  readonly leaveAllocated: boolean;
  readonly hasParent: boolean;
  readonly virtualSize: number;
  /** SCSI page 83; null: the image has none. */
  readonly diskId: string | null;
  readonly logicalSector: number;
  /** Null: the image does not say. */
  readonly physicalSector: number | null;
  /** The parent locator; null: there is none. */
  readonly locator: Uint8Array | null;
}

/** Reads the metadata. Throws `corrupt`, `unsupported`, `limit`. */
export async function readMetadata(
  storage: Storage,
  region: Region,
  options: OperationOptions = {},
): Promise<VhdxMetadata> {
  const table = new Uint8Array(METADATA_TABLE_BYTES);
  await readPadded(storage, region.fileOffset, table, options);
  const items = itemsIn(table, region, storage.label);
  const read = async (id: string): Promise<Uint8Array | null> => {
    const item = items.find((one) => one.id === id && (one.flags & ITEM_FLAGS.user) === 0);
    if (item === undefined) return null;
    const bytes = new Uint8Array(item.length);
    await readPadded(storage, region.fileOffset + item.offset, bytes, options);
    return bytes;
  };
  const { label: path } = storage;
  const parameters = sized(await read(ITEM_IDS.parameters), PARAMETERS.size, 'file parameters', path);
  const blockSize = PARAMETERS.get(parameters, 'blockSize');
  const flags = PARAMETERS.get(parameters, 'flags');
  if (!isPowerOfTwo(blockSize) || blockSize < MIB || blockSize > MOST_BLOCK_BYTES) {
    throw impossible('block size', blockSize, `a power of two from ${MIB} to ${MOST_BLOCK_BYTES}`, path);
  }
  const logicalSector = sectorIn(await read(ITEM_IDS.logicalSector), 'logical sector size', path);
  const size = sized(await read(ITEM_IDS.diskSize), 8, 'virtual disk size', path);
  const diskId = await read(ITEM_IDS.diskId);
  const physical = await read(ITEM_IDS.physicalSector);
  const hasParent = (flags & PARAMETER_FLAGS.hasParent) !== 0;
  return {
    items,
    blockSize,
    leaveAllocated: (flags & PARAMETER_FLAGS.leaveAllocated) !== 0,
    hasParent,
    virtualSize: diskSizeIn(size, logicalSector, path),
    diskId: diskId === null ? null : formatGuid(sized(diskId, 16, 'virtual disk id', path), 'mixed'),
    logicalSector,
    physicalSector: physical === null ? null : sectorIn(physical, 'physical sector size', path),
    locator: hasParent ? await read(ITEM_IDS.parentLocator) : null,
  };
}

function itemsIn(table: Uint8Array, region: Region, path: string): MetadataItem[] {
  if (METADATA_TABLE.get(table, 'signature') !== METADATA_SIGNATURE) {
    throw fault('corrupt', 'The metadata table of the image is damaged', {
      path,
      offset: region.fileOffset,
      field: 'signature',
      expected: '"metadata"',
    });
  }
  const count = METADATA_TABLE.get(table, 'count');
  if (count > VHDX_LIMITS.tableEntries) {
    const expected = `at most ${VHDX_LIMITS.tableEntries}`;
    throw fault('limit', 'The metadata table has too many entries', {
      path,
      field: 'entry count',
      found: count,
      expected,
    });
  }
  const items = Array.from({ length: count }, (_, index) => itemAt(table, index, region, path));
  checkItems(items, path);
  return items;
}

function itemAt(table: Uint8Array, index: number, region: Region, path: string): MetadataItem {
  const item = METADATA_ENTRY.decode(table, METADATA_TABLE.size + index * METADATA_ENTRY.size);
  const { id, offset, length, flags } = item;
  const known: readonly string[] = Object.values(ITEM_IDS);
  const isKnown = (flags & ITEM_FLAGS.user) === 0 && known.includes(id);
  if (!isKnown && (flags & ITEM_FLAGS.required) !== 0) {
    throw fault('unsupported', 'The image needs metadata that is not known', {
      path,
      field: 'metadata item',
      found: id,
      hint: 'Open it with the program that made it.',
    });
  }
  const isEmpty = offset === 0 && length === 0;
  const fits = offset >= METADATA_TABLE_BYTES && length <= MIB && offset + length <= region.length;
  if (isEmpty || fits) return { id, offset, length, flags };
  throw fault('corrupt', 'A metadata item cannot be where the table says', {
    path,
    field: `metadata item ${id}`,
    found: `${length} bytes at ${offset}`,
    expected: `at most ${MIB} bytes inside the region, behind the table`,
  });
}

function checkItems(items: readonly MetadataItem[], path: string): void {
  const keys = items.map(({ id, flags }) => `${id} ${flags & ITEM_FLAGS.user}`);
  const twice = new Set(keys).size < keys.length;
  const user = items.filter(({ flags }) => (flags & ITEM_FLAGS.user) !== 0).length;
  const sorted = items.filter(({ length }) => length > 0).sort((one, other) => one.offset - other.offset);
  const overlap = sorted.find(({ offset }, at) => {
    const before = sorted[at - 1];
    return before !== undefined && before.offset + before.length > offset;
  });
  const problem = twice
    ? 'An item is listed twice in the metadata table'
    : user > MOST_USER_ITEMS
      ? 'The metadata table has too many items of users'
      : overlap !== undefined
        ? 'Two metadata items lie over each other'
        : null;
  if (problem !== null) throw fault('corrupt', problem, { path, field: 'metadata table' });
}

function sized(bytes: Uint8Array | null, length: number, field: string, path: string): Uint8Array {
  if (bytes?.length === length) return bytes;
  const message = bytes === null ? 'A metadata item is missing' : 'A metadata item has the wrong length';
  throw fault('corrupt', message, { path, field, found: bytes?.length, expected: `${length} bytes` });
}

function sectorIn(bytes: Uint8Array | null, field: string, path: string): number {
  const stored = sized(bytes, 4, field, path);
  const value = new DataView(stored.buffer).getUint32(0, true);
  if (value === 512 || value === 4096) return value;
  throw impossible(field, value, '512 or 4096', path);
}

function diskSizeIn(bytes: Uint8Array, sector: number, path: string): number {
  const size = new DataView(bytes.buffer).getBigUint64(0, true);
  if (size === 0n || size % BigInt(sector) !== 0n) {
    throw impossible('virtual disk size', String(size), `a multiple of ${sector}, not zero`, path);
  }
  if (size > BigInt(VHDX_LIMITS.diskBytes)) {
    const details = {
      path,
      field: 'virtual disk size',
      found: String(size),
      expected: `at most ${VHDX_LIMITS.diskBytes}`,
    };
    throw fault('limit', 'The disk is larger than the format allows', details);
  }
  return Number(size);
}

function impossible(field: string, found: number | string, expected: string, path: string): Error {
  return fault('corrupt', `The ${field} is not possible`, { path, field, found, expected });
}
