/** The region tables of a VHDX file: places of the BAT, the metadata and whatever else a program keeps there. */
import { isAligned } from '../../binary/numbers.ts';
import { equalBytes } from '../../codec/bytes.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { checksumFits, putChecksum } from './checksum.ts';
import { fault } from './fault.ts';
import type { LogPlace } from './headers.ts';
import {
  METADATA_TABLE_BYTES,
  MIB,
  REGION,
  REGION_IDS,
  REGION_OFFSETS,
  REGION_REQUIRED,
  REGION_SIGNATURE,
  REGION_TABLE,
  REGION_TABLE_BYTES,
} from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';

/** A region, checked. */
export interface Region {
  readonly id: string;
  readonly fileOffset: number;
  readonly length: number;
  readonly required: boolean;
}

/** State of one of the two tables. */
export type TableState = 'sound' | 'wrong checksum' | 'missing' | 'differs';

/** The regions of a file. */
export interface FoundRegions {
  readonly bat: Region;
  readonly metadata: Region;
  /** All regions in the order of the table. */
  readonly all: readonly Region[];
  readonly states: readonly [TableState, TableState];
  /** The table that counts. */
  readonly bytes: Uint8Array;
}

/** Reads the regions from the first table that is sound. Throws `corrupt`, `unsupported`, `limit`. */
export async function findRegions(
  storage: Storage,
  log: LogPlace,
  options: OperationOptions = {},
): Promise<FoundRegions> {
  const [first, second] = [await tableAt(storage, 0, options), await tableAt(storage, 1, options)];
  const bytes = typeof first === 'string' ? second : first;
  if (typeof bytes === 'string') {
    throw fault('corrupt', 'Both region tables of the image are damaged', {
      path: storage.label,
      offset: REGION_OFFSETS[0],
      field: 'region table',
      found: `${first} and ${second}`,
      expected: 'one with the right checksum',
    });
  }
  const all = regionsIn(bytes, storage);
  refuseOverlaps(all, log, storage.label);
  const states: [TableState, TableState] = [
    typeof first === 'string' ? first : 'sound',
    typeof second === 'string' ? second : equalBytes(second, bytes) ? 'sound' : 'differs',
  ];
  const bat = regionCalled(all, REGION_IDS.bat, 'BAT', storage);
  const metadata = regionCalled(all, REGION_IDS.metadata, 'metadata', storage);
  if (metadata.length < METADATA_TABLE_BYTES) throw misplaced(metadata, storage.label);
  return { bat, metadata, all, states, bytes };
}

async function tableAt(
  storage: Storage,
  number: 0 | 1,
  options: OperationOptions,
): Promise<Uint8Array | 'missing' | 'wrong checksum'> {
  const bytes = new Uint8Array(REGION_TABLE_BYTES);
  await readPadded(storage, REGION_OFFSETS[number], bytes, options);
  if (REGION_TABLE.get(bytes, 'signature') !== REGION_SIGNATURE) return 'missing';
  return checksumFits(bytes) ? bytes : 'wrong checksum';
}

function regionsIn(bytes: Uint8Array, { label: path }: Storage): Region[] {
  const count = REGION_TABLE.get(bytes, 'count');
  if (count > VHDX_LIMITS.tableEntries) {
    throw fault('limit', 'The region table has too many entries', {
      path,
      field: 'entry count',
      found: count,
      expected: `at most ${VHDX_LIMITS.tableEntries}`,
    });
  }
  const regions = Array.from({ length: count }, (_, index) => regionAt(bytes, index, path));
  const twice = regions.find(({ id }, at) => regions.findIndex((other) => other.id === id) !== at);
  if (twice !== undefined) {
    throw fault('corrupt', 'The region table has a region twice', { path, field: 'region', found: twice.id });
  }
  return regions;
}

function regionAt(bytes: Uint8Array, index: number, path: string): Region {
  const { id, fileOffset, length, flags } = REGION.decode(bytes, REGION_TABLE.size + index * REGION.size);
  const required = (flags & REGION_REQUIRED) !== 0;
  const region = { id, fileOffset: Number(fileOffset), length, required };
  const known: readonly string[] = Object.values(REGION_IDS);
  if (required && !known.includes(id)) {
    throw fault('unsupported', 'The image needs a region that is not known', {
      path,
      field: 'region',
      found: id,
      hint: 'Open it with the program that made it.',
    });
  }
  const end = fileOffset + BigInt(length);
  const fits = fileOffset >= BigInt(MIB) && fileOffset % BigInt(MIB) === 0n && end <= BigInt(Number.MAX_SAFE_INTEGER);
  if (!fits || length === 0 || !isAligned(length, MIB)) throw misplaced(region, path, String(fileOffset));
  return region;
}

function misplaced({ id, fileOffset, length }: Region, path: string, place = String(fileOffset)): Error {
  return fault('corrupt', 'A region cannot be where the region table says', {
    path,
    field: `region ${id}`,
    found: `${length} bytes at ${place}`,
    expected: 'whole MiB inside the file, behind the first',
  });
}

function refuseOverlaps(regions: readonly Region[], log: LogPlace, path: string): void {
  const places = [
    ...regions.map((one) => ({ ...one, name: one.id })),
    ...(log.length > 0 ? [{ ...log, name: 'log' }] : []),
  ];
  places.sort((one, other) => one.fileOffset - other.fileOffset);
  for (const [at, place] of places.entries()) {
    const before = places[at - 1];
    if (before === undefined || before.fileOffset + before.length <= place.fileOffset) continue;
    throw fault('corrupt', 'Two regions of the image lie over each other', {
      path,
      field: `region ${place.name}`,
      found: `${place.fileOffset}`,
      expected: `at or behind ${before.fileOffset + before.length}, the end of ${before.name}`,
    });
  }
}

function regionCalled(regions: readonly Region[], id: string, name: string, storage: Storage): Region {
  const found = regions.find((one) => one.id === id);
  if (found === undefined) {
    throw fault('corrupt', `The image has no ${name} region`, { path: storage.label, field: 'region table' });
  }
  if (found.fileOffset + found.length > storage.size) throw misplaced(found, storage.label);
  return found;
}

/** A region table with these regions, whose checksum fits. */
export function encodeRegions(regions: readonly Region[]): Uint8Array {
  const bytes = new Uint8Array(REGION_TABLE_BYTES);
  const head = { signature: REGION_SIGNATURE, checksum: 0, count: regions.length, reserved: 0 };
  bytes.set(REGION_TABLE.encode(head));
  for (const [index, { id, fileOffset, length, required }] of regions.entries()) {
    const flags = required ? REGION_REQUIRED : 0;
    const entry = REGION.encode({ id, fileOffset: BigInt(fileOffset), length, flags });
    bytes.set(entry, REGION_TABLE.size + index * REGION.size);
  }
  putChecksum(bytes);
  return bytes;
}
