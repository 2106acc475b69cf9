/** Creation of an empty VHD image. */
import { NULL_GUID, normalizeGuid, randomGuid } from '../../binary/guid.ts';
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { wantsFixed, wantsSpace } from '../../image/fixed-space.ts';
import { checkGeometry } from '../../image/geometry.ts';
import { type NamesOfParent, namesOfParent } from '../../image/parent.ts';
import { preallocate } from '../../image/preallocate.ts';
import { wantsVariant } from '../../image/variants.ts';
import { LIMITS } from '../../limits.ts';
import type { NewFiles, Storage } from '../../storage/contract.ts';
import { AZURE_UNIT } from './azure.ts';
import { encodeFooter, timestampNow } from './footer.ts';
import { geometryFor } from './geometry.ts';
import { bitmapBytesOf, encodeHeader, isBlockSize } from './header.ts';
import {
  BLOCK_BYTES,
  CREATOR,
  CREATOR_OS,
  CREATOR_VERSION,
  DISK_TYPE,
  FEATURES,
  FOOTER,
  FOOTER_COOKIE,
  type Footer,
  HEADER,
  HEADER_COOKIE,
  NO_OFFSET,
  VERSION_1_0,
} from './layout.ts';
import { VHD_LIMITS } from './limits.ts';
import { encodeNames, NAME_ROOM, roomForNames } from './locators.ts';
import { timestampOf } from './relink.ts';

/** Config key of new images; qemu-img has none for it. */
export const BLOCK_SIZE = 'block_size';
const WRITE_BYTES = 1024 * 1024;
/** Place of the table: behind the footer copy and the header. */
const TABLE_OFFSET = SECTOR + 1024;
/** Room for the names of another parent later. A base image has none: QEMU puts its first block directly after the table. */
const ROOM_FOR_NAMES = 2 * NAME_ROOM;

/** Layout of a new image. */
export interface VhdPlan {
  readonly virtualSize: number;
  readonly type: number;
  readonly blockSize: number;
  readonly entries: number;
  readonly names: NamesOfParent;
  /** End of everything before the first block, where the footer goes; in a fixed image the end of the disk. */
  readonly footerOffset: number;
  /** Bytes that are allocated at creation; 0: none. */
  readonly preallocates: number;
}

/** Checks the options and lays out the image. Throws `invalid-argument`, `limit`; touches nothing. */
export function planVhd(options: FormatCreateOptions, directory = ''): VhdPlan {
  const { config = {}, parent } = options;
  checkTexts(options);
  const azure = wantsVariant(options, 'azure');
  const type = typeOf(options, azure);
  const virtualSize = checkedSize(options.size, azure ? AZURE_UNIT : SECTOR);
  const blockSize = Number(config[BLOCK_SIZE] ?? BLOCK_BYTES);
  if (!isBlockSize(blockSize)) {
    throw new ImageError('invalid-argument', `The value of ${BLOCK_SIZE} is not valid`, {
      field: BLOCK_SIZE,
      found: String(config[BLOCK_SIZE]),
      expected: `a power of two from ${LIMITS.blockSizeMin} to ${VHD_LIMITS.blockBytes}`,
    });
  }
  const names = parent === undefined ? { relative: null, absolute: null } : namesOfParent(directory, parent.name);
  if (type === DISK_TYPE.fixed) {
    const preallocates = wantsSpace(options) ? virtualSize : 0;
    return { virtualSize, type, blockSize, entries: 0, names, footerOffset: virtualSize, preallocates };
  }
  const entries = divCeil(virtualSize, blockSize);
  if (virtualSize > VHD_LIMITS.dynamicBytes || entries > VHD_LIMITS.entries) {
    throw new ImageError('limit', 'A VHD image cannot be that large', {
      found: `${virtualSize} bytes`,
      expected: `at most ${Math.min(VHD_LIMITS.dynamicBytes, VHD_LIMITS.entries * blockSize)}`,
      hint: 'Choose the format vhdx, or the variant fixed.',
    });
  }
  const room = type === DISK_TYPE.differencing ? Math.max(roomForNames(names), ROOM_FOR_NAMES) : 0;
  const footerOffset = alignUp(TABLE_OFFSET + entries * 4, SECTOR) + room;
  return { virtualSize, type, blockSize, entries, names, footerOffset, preallocates: 0 };
}

function checkedSize(size: number, unit: number): number {
  if (Number.isSafeInteger(size) && size >= unit && size % unit === 0) return size;
  const next = Number.isSafeInteger(size) && size > 0 ? alignUp(size, unit) : unit;
  throw new ImageError('invalid-argument', 'The disk size is not valid', {
    status: 'VERR_VD_INVALID_SIZE',
    found: size,
    expected: `a multiple of ${unit}, at least ${unit}`,
    ...(unit === SECTOR
      ? {}
      : { hint: `Azure takes whole MiB: the next size is ${next} (on the command line: --size ${next / unit}M).` }),
  });
}

function checkTexts({ comment = '', geometry = {} }: FormatCreateOptions): void {
  checkGeometry(geometry);
  if (comment === '') return;
  throw new ImageError('unsupported', 'VHD images cannot store a comment', { hint: 'Leave it out.' });
}

function typeOf(options: FormatCreateOptions, azure: boolean): number {
  const fixed = azure || wantsFixed(options);
  if (options.parent === undefined && !wantsVariant(options, 'diff'))
    return fixed ? DISK_TYPE.fixed : DISK_TYPE.dynamic;
  if (fixed) {
    throw new ImageError('invalid-argument', 'A differencing image cannot be fixed', {
      status: 'VERR_VD_INVALID_TYPE',
    });
  }
  if (options.parent !== undefined) return DISK_TYPE.differencing;
  throw new ImageError('invalid-argument', 'A differencing image needs a parent', {
    hint: 'Specify one with --parent.',
  });
}

/** Size of a new image: every block with at least one byte of data. */
export async function measureVhd(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const { type, blockSize, entries, footerOffset } = planVhd(options);
  const end = footerOffset + SECTOR;
  if (type === DISK_TYPE.fixed) return { required: end, fullyAllocated: end };
  const stored = blockSize + bitmapBytesOf(blockSize);
  let [blocks, counted] = [0, 0];
  for await (const { offset, length } of data) {
    const last = Math.min(divCeil(offset + length, blockSize), entries);
    const first = Math.max(Math.floor(offset / blockSize), counted);
    if (last <= first) continue;
    blocks += last - first;
    counted = last;
  }
  return { required: end + blocks * stored, fullyAllocated: end + entries * stored };
}

/** Writes a new image and flushes it. */
export async function writeNewVhd(files: NewFiles, options: FormatCreateOptions): Promise<void> {
  const { main } = files;
  const plan = planVhd(options, files.directory);
  const footer = encodeFooter(footerOf(plan, options));
  if (plan.type === DISK_TYPE.fixed) {
    // Without it, the footer makes a hole of the disk.
    if (plan.preallocates > 0) await takeSpace(files, plan, options);
  } else {
    await writeTable(main, plan, options);
    const { parentName, locators, writes } = encodeNames(plan.names, alignUp(TABLE_OFFSET + plan.entries * 4, SECTOR));
    for (const { fileOffset, bytes } of writes) await main.write(fileOffset, bytes);
    await main.write(
      SECTOR,
      encodeHeader({
        cookie: HEADER_COOKIE,
        next: NO_OFFSET,
        tableOffset: TABLE_OFFSET,
        version: VERSION_1_0,
        entries: plan.entries,
        blockSize: plan.blockSize,
        checksum: 0,
        parentUuid: options.parent?.uuid ?? NULL_GUID,
        parentTimestamp: timestampOf(options.parent ?? null),
        reserved: 0,
        parentName,
        locators,
        rest: new Uint8Array(HEADER.fields.rest.size),
      }),
    );
    await main.write(0, footer);
  }
  // Last: a file without its footer is not an image.
  await main.write(plan.footerOffset, footer);
  await main.flush();
}

async function takeSpace(files: NewFiles, { preallocates }: VhdPlan, options: FormatCreateOptions): Promise<void> {
  const free = await files.freeSpace();
  if (free === null || free >= preallocates) return preallocate(files.main, 0, preallocates, options);
  throw new ImageError('no-space', 'There is not enough free space for a fixed image', {
    path: files.name,
    found: `${free} bytes free`,
    expected: `${preallocates} bytes`,
    hint: 'Free some space, or create a dynamic image.',
  });
}

/** The table: no block is stored, and what pads its last sector looks the same. */
async function writeTable(storage: Storage, { entries }: VhdPlan, { signal }: FormatCreateOptions): Promise<void> {
  const length = alignUp(entries * 4, SECTOR);
  const piece = new Uint8Array(Math.min(WRITE_BYTES, length)).fill(0xff);
  for (let at = 0; at < length; at += piece.length) {
    throwIfAborted(signal, 'Creating the image');
    await storage.write(TABLE_OFFSET + at, piece.subarray(0, Math.min(piece.length, length - at)));
  }
}

function footerOf({ virtualSize, type }: VhdPlan, options: FormatCreateOptions): Footer {
  const { cylinders, heads, sectors } = options.geometry?.physical ?? geometryFor(virtualSize);
  return {
    cookie: FOOTER_COOKIE,
    features: FEATURES,
    version: VERSION_1_0,
    dataOffset: type === DISK_TYPE.fixed ? NO_OFFSET : BigInt(SECTOR),
    timestamp: timestampNow(),
    creator: CREATOR.windows,
    creatorVersion: CREATOR_VERSION,
    creatorOs: CREATOR_OS,
    originalSize: virtualSize,
    currentSize: virtualSize,
    cylinders,
    heads,
    sectors,
    type,
    checksum: 0,
    uuid: options.uuid === undefined ? randomGuid() : normalizeGuid(options.uuid),
    savedState: 0,
    rest: new Uint8Array(FOOTER.fields.rest.size),
  };
}
