/** VHDX files put together piece by piece, sparse: sound but for what a recipe changes. All checksums fit. */
import { NULL_GUID, parseGuid } from '../../../src/binary/guid.ts';
import { encodeHeader } from '../../../src/formats/vhdx/headers.ts';
import {
  FILE_SIGNATURE,
  HEADER,
  HEADER_OFFSETS,
  HEADER_SIGNATURE,
  type Header,
  IDENTIFIER,
  ITEM_FLAGS,
  ITEM_IDS,
  METADATA_ENTRY,
  METADATA_SIGNATURE,
  METADATA_TABLE,
  METADATA_TABLE_BYTES,
  MIB,
  PARAMETERS,
  REGION_IDS,
  REGION_OFFSETS,
} from '../../../src/formats/vhdx/layout.ts';
import { encodeRegions, type Region } from '../../../src/formats/vhdx/regions.ts';
import type { Source } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { BaseFile, Piece } from '../../hostile/protocol.ts';

export const LOG = { fileOffset: MIB, length: MIB };
export const METADATA_OFFSET = 2 * MIB;
export const BAT_OFFSET = 3 * MIB;
/** End of everything before the first block. */
export const DATA_OFFSET = 4 * MIB;

/** A GUID with a number in it. */
export function guid(number: number): string {
  return `6f1d0000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
}

/** An item of the metadata; its place is the next free one, unless it says another. */
export interface BuiltItem {
  readonly id: string;
  readonly bytes: Uint8Array;
  readonly flags?: number;
  readonly offset?: number;
  readonly length?: number;
}

/** Values in place of those of a sound image. */
export interface Recipe {
  /** Of the current header. */
  readonly header?: Partial<Header>;
  /** Of the older one. */
  readonly older?: Partial<Header>;
  readonly regions?: readonly Region[];
  readonly blockSize?: number;
  readonly flags?: number;
  readonly virtualSize?: number;
  readonly logicalSector?: number;
  /** Beside those that every image has, or in place of them. */
  readonly items?: readonly BuiltItem[];
  readonly onlyItems?: readonly BuiltItem[];
  readonly bat?: readonly bigint[];
  readonly size?: number;
  /** On top of everything. */
  readonly pieces?: readonly Piece[];
}

export const REGIONS: readonly [Region, Region] = [
  { id: REGION_IDS.bat, fileOffset: BAT_OFFSET, length: MIB, required: true },
  { id: REGION_IDS.metadata, fileOffset: METADATA_OFFSET, length: MIB, required: true },
];

const SOUND: Header = {
  signature: HEADER_SIGNATURE,
  checksum: 0,
  sequence: 7n,
  fileWriteGuid: guid(1),
  dataWriteGuid: guid(2),
  logGuid: NULL_GUID,
  logVersion: 0,
  version: 1,
  logLength: LOG.length,
  logOffset: BigInt(LOG.fileOffset),
  reserved: new Uint8Array(HEADER.fields.reserved.size),
};

/** The stored form of an entry of the BAT. */
export function batEntry(state: number, mib = 0): bigint {
  return (BigInt(mib) << 20n) | BigInt(state);
}

/** A number of 4 or 8 bytes. */
export function number(value: number | bigint, size: 4 | 8): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes.slice(0, size);
}

/** Items that every image has. */
export function usualItems(recipe: Recipe): BuiltItem[] {
  const { blockSize = MIB, flags = 0, virtualSize = 4 * MIB, logicalSector = 512 } = recipe;
  const disk = ITEM_FLAGS.virtualDisk | ITEM_FLAGS.required;
  return [
    { id: ITEM_IDS.parameters, bytes: PARAMETERS.encode({ blockSize, flags }) },
    { id: ITEM_IDS.diskSize, flags: disk, bytes: number(virtualSize, 8) },
    { id: ITEM_IDS.diskId, flags: disk, bytes: parseGuid(guid(3), 'mixed') },
    { id: ITEM_IDS.logicalSector, flags: disk, bytes: number(logicalSector, 4) },
    { id: ITEM_IDS.physicalSector, flags: disk, bytes: number(4096, 4) },
  ];
}

/** The file of a recipe. */
export function buildVhdx(name: string, recipe: Recipe = {}): BaseFile {
  const { header = {}, older = {}, regions = REGIONS, bat = [], size = 8 * MIB, pieces = [] } = recipe;
  const items = recipe.onlyItems ?? [...usualItems(recipe), ...(recipe.items ?? [])];
  const table = encodeRegions(regions);
  const used = table.subarray(0, 16 + regions.length * 32);
  return {
    name,
    size,
    pieces: [
      { offset: 0, bytes: identifier() },
      { offset: HEADER_OFFSETS[0], bytes: encodeHeader({ ...SOUND, sequence: 6n, ...older }) },
      { offset: HEADER_OFFSETS[1], bytes: encodeHeader({ ...SOUND, ...header }) },
      ...REGION_OFFSETS.map((offset) => ({ offset, bytes: used })),
      ...metadataPieces(items),
      ...bat.map((entry, index) => ({ offset: BAT_OFFSET + index * 8, bytes: number(entry, 8) })),
      ...pieces,
    ],
  };
}

function identifier(): Uint8Array {
  const creator = new Uint8Array(IDENTIFIER.fields.creator.size);
  return IDENTIFIER.encode({ signature: new TextEncoder().encode(FILE_SIGNATURE), creator });
}

function metadataPieces(items: readonly BuiltItem[]): Piece[] {
  const rest = new Uint8Array(METADATA_TABLE.fields.rest.size);
  const head = METADATA_TABLE.encode({ signature: METADATA_SIGNATURE, reserved: 0, count: items.length, rest });
  const pieces: Piece[] = [{ offset: METADATA_OFFSET, bytes: head }];
  let next = METADATA_TABLE_BYTES;
  for (const [index, item] of items.entries()) {
    const { id, bytes, flags = ITEM_FLAGS.required, offset = next, length = bytes.length } = item;
    const entry = METADATA_ENTRY.encode({ id, offset, length, flags, reserved: 0 });
    pieces.push({ offset: METADATA_OFFSET + METADATA_TABLE.size + index * METADATA_ENTRY.size, bytes: entry });
    pieces.push({ offset: METADATA_OFFSET + offset, bytes });
    if (item.offset === undefined) next += Math.ceil(bytes.length / 8) * 8;
  }
  return pieces;
}

/** The image of a recipe in memory. */
export async function vhdxInMemory(recipe: Recipe = {}): Promise<Source & { readonly provider: MemoryProvider }> {
  const provider = new MemoryProvider();
  const source = { provider, name: '/image.vhdx' };
  const storage = await provider.create(source.name);
  const { size, pieces } = buildVhdx(source.name, recipe);
  for (const { offset, bytes } of pieces) await storage.write(offset, bytes);
  await storage.resize(size);
  await storage.close();
  return source;
}
