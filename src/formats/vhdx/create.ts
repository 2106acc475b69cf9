/** Creation of an empty VHDX image. */
import { isNullGuid, normalizeGuid, parseGuid, randomGuid } from '../../binary/guid.ts';
import { alignUp, divCeil, isPowerOfTwo } from '../../binary/numbers.ts';
import { writeEntries } from '../../blocks/table.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { wantsFixed, wantsSpace } from '../../image/fixed-space.ts';
import { checkGeometry } from '../../image/geometry.ts';
import { preallocate } from '../../image/preallocate.ts';
import { wantsVariant } from '../../image/variants.ts';
import type { NewFiles, Storage } from '../../storage/contract.ts';
import { BAT_ENTRY, batEntries, chunkRatio, entryFor } from './bat.ts';
import { encodeHeader } from './headers.ts';
import {
  BITMAP_BYTES,
  FILE_SIGNATURE,
  HEADER,
  HEADER_OFFSETS,
  HEADER_SIGNATURE,
  IDENTIFIER,
  ITEM_FLAGS,
  ITEM_IDS,
  LOG_VERSION,
  METADATA_ENTRY,
  METADATA_SIGNATURE,
  METADATA_TABLE,
  METADATA_TABLE_BYTES,
  MIB,
  PARAMETER_FLAGS,
  PARAMETERS,
  REGION_IDS,
  REGION_OFFSETS,
  STATE,
  VERSION,
} from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';
import { MOST_BLOCK_BYTES } from './metadata.ts';
import { encodeRegions } from './regions.ts';
import { locatorFor } from './relink.ts';

const CREATOR = 'vdkit';
const GIB = 1024 * MIB;
const PHYSICAL_SECTOR = 4096;
/** Blocks of new images by the size of the disk, and those of differencing ones. */
const BLOCKS = [
  [128 * MIB, MIB],
  [GIB, 8 * MIB],
  [100 * GIB, 16 * MIB],
  [32 * 1024 * GIB, 32 * MIB],
] as const;
const LARGEST_DEFAULT = 64 * MIB;
const DIFF_BLOCK = 2 * MIB;
const SMALL_DIFF_BLOCK = MIB;

/** Layout of a new image. */
export interface VhdxPlan {
  readonly virtualSize: number;
  readonly blockSize: number;
  readonly logicalSector: number;
  readonly physicalSector: number;
  readonly hasParent: boolean;
  readonly fixed: boolean;
  readonly logLength: number;
  readonly locator: Uint8Array | null;
  readonly metadataOffset: number;
  readonly batOffset: number;
  readonly batLength: number;
  /** End of everything before the first block. */
  readonly dataOffset: number;
  /** Bytes that the file takes at creation; 0: those of metadata. */
  readonly preallocates: number;
}

/** Checks the options and lays out the image. Throws `invalid-argument`, `limit`, `unsupported`; touches nothing. */
export function planVhdx(options: FormatCreateOptions, directory = ''): VhdxPlan {
  const { config = {}, parent, size: virtualSize, comment = '', geometry = {} } = options;
  checkGeometry(geometry);
  if (comment !== '')
    throw new ImageError('unsupported', 'VHDX images cannot store a comment', { hint: 'Leave it out.' });
  const { hasParent, fixed } = kindOf(options);
  const logicalSector = oneOf('logical_sector_size', config['logical_sector_size'], [512, 4096]);
  checkSize(virtualSize, logicalSector);
  const blockSize = checkedBlock(config['block_size'] ?? defaultBlock(virtualSize, hasParent));
  const logLength = checkedLog(config['log_size'] ?? MIB);
  const shape = { virtualSize, blockSize, logicalSector, hasParent };
  const metadataOffset = MIB + logLength;
  const batOffset = metadataOffset + MIB;
  const batLength = alignUp(batEntries(shape) * 8, MIB);
  const dataOffset = batOffset + batLength;
  return {
    ...shape,
    fixed,
    physicalSector: PHYSICAL_SECTOR,
    logLength,
    locator: locatorFor(directory, parent ?? null),
    metadataOffset,
    batOffset,
    batLength,
    dataOffset,
    preallocates: fixed && wantsSpace(options) ? fullSize({ dataOffset, virtualSize, blockSize }) : 0,
  };
}

function kindOf(options: FormatCreateOptions): { readonly hasParent: boolean; readonly fixed: boolean } {
  const fixed = wantsFixed(options);
  const hasParent = options.parent !== undefined;
  if (fixed && (hasParent || wantsVariant(options, 'diff'))) {
    throw new ImageError('invalid-argument', 'A differencing image cannot be fixed', {
      status: 'VERR_VD_INVALID_TYPE',
    });
  }
  if (hasParent || !wantsVariant(options, 'diff')) return { hasParent, fixed };
  throw new ImageError('invalid-argument', 'A differencing image needs a parent', {
    hint: 'Specify one with --parent.',
  });
}

function checkSize(size: number, sector: number): void {
  if (!Number.isSafeInteger(size) || size < sector || size % sector !== 0) {
    throw new ImageError('invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: `a multiple of ${sector}, at least ${sector}`,
    });
  }
  if (size <= VHDX_LIMITS.diskBytes) return;
  throw new ImageError('limit', 'A VHDX image cannot be that large', {
    found: `${size} bytes`,
    expected: `at most ${VHDX_LIMITS.diskBytes}`,
  });
}

function defaultBlock(size: number, hasParent: boolean): number {
  if (hasParent) return size <= BLOCKS[0][0] ? SMALL_DIFF_BLOCK : DIFF_BLOCK;
  return BLOCKS.find(([most]) => size <= most)?.[1] ?? LARGEST_DEFAULT;
}

function checkedBlock(value: string | number | Uint8Array): number {
  const blockSize = Number(value);
  if (isPowerOfTwo(blockSize) && blockSize >= MIB && blockSize <= MOST_BLOCK_BYTES) return blockSize;
  throw notValid('block_size', value, `a power of two from ${MIB} to ${MOST_BLOCK_BYTES}`);
}

function checkedLog(value: string | number | Uint8Array): number {
  const length = Number(value);
  if (Number.isSafeInteger(length) && length >= MIB && length % MIB === 0 && length <= VHDX_LIMITS.logBytes)
    return length;
  throw notValid('log_size', value, `a multiple of ${MIB}, at most ${VHDX_LIMITS.logBytes}`);
}

function oneOf(name: string, value: string | number | Uint8Array | undefined, allowed: readonly number[]): number {
  const [first = 0] = allowed;
  const found = value === undefined ? first : Number(value);
  if (allowed.includes(found)) return found;
  throw notValid(name, value ?? '', allowed.join(' or '));
}

function notValid(field: string, found: string | number | Uint8Array, expected: string): ImageError {
  return new ImageError('invalid-argument', `The value of ${field} is not valid`, {
    field,
    found: String(found),
    expected,
  });
}

/** Bytes of a fixed image, or of all blocks of a dynamic one. */
function fullSize({
  dataOffset,
  virtualSize,
  blockSize,
}: Pick<VhdxPlan, 'dataOffset' | 'virtualSize' | 'blockSize'>): number {
  return dataOffset + divCeil(virtualSize, blockSize) * blockSize;
}

/** Size of a new image: every block with at least one byte of data, and in a child the bitmaps of its chunks. */
export async function measureVhdx(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const plan = planVhdx(options);
  const { blockSize, dataOffset, virtualSize, hasParent, fixed } = plan;
  const entries = divCeil(virtualSize, blockSize);
  const ratio = chunkRatio(plan);
  const bitmaps = (blocks: number): number => (hasParent ? divCeil(blocks, ratio) * BITMAP_BYTES : 0);
  const fullyAllocated = fullSize(plan) + bitmaps(entries);
  if (fixed) return { required: fullyAllocated, fullyAllocated };
  let [blocks, counted, chunks, lastChunk] = [0, 0, 0, -1];
  for await (const { offset, length } of data) {
    const last = Math.min(divCeil(offset + length, blockSize), entries);
    const first = Math.max(Math.floor(offset / blockSize), counted);
    if (last <= first) continue;
    blocks += last - first;
    counted = last;
    const [from, to] = [Math.max(Math.floor(first / ratio), lastChunk + 1), Math.floor((last - 1) / ratio)];
    chunks += Math.max(to - from + 1, 0);
    lastChunk = Math.max(lastChunk, to);
  }
  const required = dataOffset + blocks * blockSize + (hasParent ? chunks * BITMAP_BYTES : 0);
  return { required, fullyAllocated };
}

/** Writes a new image and flushes it. */
export async function writeNewVhdx(files: NewFiles, options: FormatCreateOptions): Promise<void> {
  const { main } = files;
  const plan = planVhdx(options, files.directory);
  await takeSpace(files, plan, options);
  if (plan.fixed) await writeFixedTable(main, plan, options);
  await main.write(plan.metadataOffset, metadataOf(plan, options));
  const regions = encodeRegions([
    { id: REGION_IDS.bat, fileOffset: plan.batOffset, length: plan.batLength, required: true },
    { id: REGION_IDS.metadata, fileOffset: plan.metadataOffset, length: MIB, required: true },
  ]);
  for (const at of REGION_OFFSETS) await main.write(at, regions);
  await writeHeaders(main, plan);
  await main.flush();
  // Last: a file without it is not an image.
  await main.write(0, identifier());
  await main.flush();
}

/** The file in its whole length: a hole that reads as zero, unless its space is asked for. */
async function takeSpace(files: NewFiles, plan: VhdxPlan, options: FormatCreateOptions): Promise<void> {
  if (plan.preallocates > 0) {
    await checkSpace(files, plan.preallocates);
    await preallocate(files.main, 0, plan.preallocates, options);
  } else await files.main.resize(plan.fixed ? fullSize(plan) : plan.dataOffset);
}

async function checkSpace(files: NewFiles, size: number): Promise<void> {
  const free = await files.freeSpace();
  if (free === null || free >= size) return;
  throw new ImageError('no-space', 'There is not enough free space for a fixed image', {
    path: files.name,
    found: `${free} bytes free`,
    expected: `${size} bytes`,
    hint: 'Free some space, or create a dynamic image.',
  });
}

/** All blocks stand one behind the other. */
async function writeFixedTable(storage: Storage, plan: VhdxPlan, { signal }: FormatCreateOptions): Promise<void> {
  throwIfAborted(signal, 'Creating the image');
  const ratio = chunkRatio(plan);
  const entry = (index: number): number => {
    if (index % (ratio + 1) === ratio) return STATE.notPresent;
    const block = index - Math.floor(index / (ratio + 1));
    return entryFor(plan.dataOffset + block * plan.blockSize, STATE.present);
  };
  const place = { storage, fileOffset: plan.batOffset, form: BAT_ENTRY };
  await writeEntries(place, { start: 0, end: batEntries(plan), signal }, entry);
}

async function writeHeaders(storage: Storage, { logLength }: VhdxPlan): Promise<void> {
  const header = {
    signature: HEADER_SIGNATURE,
    checksum: 0,
    fileWriteGuid: randomGuid(),
    dataWriteGuid: randomGuid(),
    logGuid: '00000000-0000-0000-0000-000000000000',
    logVersion: LOG_VERSION,
    version: VERSION,
    logLength,
    logOffset: BigInt(MIB),
    reserved: new Uint8Array(HEADER.fields.reserved.size),
  };
  for (const [slot, at] of HEADER_OFFSETS.entries()) {
    await storage.write(at, encodeHeader({ ...header, sequence: BigInt(slot) }));
  }
}

function identifier(): Uint8Array {
  const creator = new Uint8Array(IDENTIFIER.fields.creator.size);
  for (let at = 0; at < CREATOR.length; at++) creator[at * 2] = CREATOR.charCodeAt(at);
  return IDENTIFIER.encode({ signature: new TextEncoder().encode(FILE_SIGNATURE), creator });
}

/** Table and items of the metadata region. */
function metadataOf(plan: VhdxPlan, { uuid }: FormatCreateOptions): Uint8Array {
  const { blockSize, fixed, hasParent, virtualSize, logicalSector, physicalSector, locator } = plan;
  const flags = (fixed ? PARAMETER_FLAGS.leaveAllocated : 0) | (hasParent ? PARAMETER_FLAGS.hasParent : 0);
  const size = new Uint8Array(8);
  new DataView(size.buffer).setBigUint64(0, BigInt(virtualSize), true);
  const id = uuid === undefined || isNullGuid(normalizeGuid(uuid)) ? randomGuid() : uuid;
  const disk = ITEM_FLAGS.virtualDisk | ITEM_FLAGS.required;
  const items: [string, number, Uint8Array][] = [
    [ITEM_IDS.parameters, ITEM_FLAGS.required, PARAMETERS.encode({ blockSize, flags })],
    [ITEM_IDS.diskSize, disk, size],
    [ITEM_IDS.diskId, disk, parseGuid(id, 'mixed')],
    [ITEM_IDS.logicalSector, disk, number32(logicalSector)],
    [ITEM_IDS.physicalSector, disk, number32(physicalSector)],
    ...(locator === null
      ? []
      : [[ITEM_IDS.parentLocator, ITEM_FLAGS.required, locator] as [string, number, Uint8Array]]),
  ];
  const end = items.reduce((sum, [, , bytes]) => sum + bytes.length, METADATA_TABLE_BYTES);
  const region = new Uint8Array(alignUp(end, 4096));
  const rest = new Uint8Array(METADATA_TABLE.fields.rest.size);
  region.set(METADATA_TABLE.encode({ signature: METADATA_SIGNATURE, reserved: 0, count: items.length, rest }));
  let offset = METADATA_TABLE_BYTES;
  for (const [index, [itemId, itemFlags, bytes]] of items.entries()) {
    const entry = METADATA_ENTRY.encode({ id: itemId, offset, length: bytes.length, flags: itemFlags, reserved: 0 });
    region.set(entry, METADATA_TABLE.size + index * METADATA_ENTRY.size);
    region.set(bytes, offset);
    offset += bytes.length;
  }
  return region;
}

function number32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
