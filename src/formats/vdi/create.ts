/** Creation of an empty VDI image. */
import { NULL_GUID, normalizeGuid, randomGuid } from '../../binary/guid.ts';
import { alignUp, divCeil, isPowerOfTwo, SECTOR } from '../../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { checkGeometry } from '../../image/geometry.ts';
import { preallocate } from '../../image/preallocate.ts';
import { wantsVariant } from '../../image/variants.ts';
import { LIMITS } from '../../limits.ts';
import type { NewFiles, Storage } from '../../storage/contract.ts';
import {
  COMMENT_MAX,
  DEFAULT_ALIGNMENT,
  DEFAULT_BLOCK_SIZE,
  ENTRY_FREE,
  FLAG_ZERO_EXPAND,
  HEADER,
  HEADER_SIZE_1_1_PLUS,
  IMAGE_TYPE,
  PREHEADER,
  SIGNATURE,
  VERSION_1_1,
} from './layout.ts';
import { VDI_LIMITS } from './limits.ts';

/** Layout of a new image. */
export interface VdiPlan {
  readonly virtualSize: number;
  readonly type: number;
  readonly blockSize: number;
  readonly blockCount: number;
  readonly mapOffset: number;
  readonly dataOffset: number;
  /** Bytes that a fixed image allocates at creation; 0 for others. */
  readonly preallocates: number;
}

const WRITE_BYTES = 1024 * 1024;

/** Checks the options and lays out the image. Throws `invalid-argument` or `limit`; touches nothing. */
export function planVdi(options: FormatCreateOptions): VdiPlan {
  const { size } = options;
  if (!Number.isSafeInteger(size) || size < SECTOR || size % SECTOR !== 0) {
    throw new ImageError('invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: 'a multiple of 512, at least 512',
      hint:
        size === 0 ? 'A VDI image has at least one sector: choose format raw or qcow2 for an empty disk.' : undefined,
    });
  }
  checkText(options);
  const blockSize = powerOfTwo(options, 'AllocationBlockSize', DEFAULT_BLOCK_SIZE, LIMITS.blockSizeMin);
  const alignment = powerOfTwo(options, 'DataAlignment', DEFAULT_ALIGNMENT, SECTOR);
  const type = typeOf(options);
  const blockCount = divCeil(size, blockSize);
  const mapOffset = alignUp(PREHEADER + HEADER_SIZE_1_1_PLUS, alignment);
  const dataOffset = alignUp(mapOffset + 4 * blockCount, alignment);
  if (blockCount > VDI_LIMITS.blocks || dataOffset > 0xffff_ffff) {
    throw new ImageError('limit', 'A VDI image of this size requires larger blocks', {
      found: `${blockCount} blocks of ${blockSize} bytes`,
      expected: `a block map below 4 GiB`,
      hint: 'Choose a larger block size.',
    });
  }
  const preallocates = type === IMAGE_TYPE.fixed ? dataOffset + blockCount * blockSize : 0;
  if (preallocates > Number.MAX_SAFE_INTEGER)
    throw new ImageError('limit', 'A fixed image of this size exceeds the addressable range');
  return { virtualSize: size, type, blockSize, blockCount, mapOffset, dataOffset, preallocates };
}

function checkText(options: FormatCreateOptions): void {
  checkComment(options.comment ?? '');
  checkGeometry(options.geometry ?? {});
}

/** Rejects a comment too long for the header. */
export function checkComment(comment: string): void {
  const length = new TextEncoder().encode(comment).length;
  if (length <= COMMENT_MAX && !comment.includes('\0')) return;
  throw new ImageError('invalid-argument', 'The comment is too long for a VDI image', {
    status: 'VERR_VD_VDI_COMMENT_TOO_LONG',
    found: `${length} bytes`,
    expected: `at most ${COMMENT_MAX} bytes of UTF-8 without NUL`,
    hint: 'Shorten it.',
  });
}

function powerOfTwo(options: FormatCreateOptions, key: string, fallback: number, min: number): number {
  const value = Number(options.config?.[key] ?? fallback);
  if (!isPowerOfTwo(value) || value < min || value > LIMITS.blockSizeMax) {
    throw new ImageError('invalid-argument', `The value of ${key} is not valid`, {
      field: key,
      found: String(options.config?.[key]),
      expected: `a power of two from ${min} to ${LIMITS.blockSizeMax}`,
    });
  }
  return value;
}

function typeOf(options: FormatCreateOptions): number {
  const fixed = wantsVariant(options, 'fixed');
  if (options.parent !== undefined || wantsVariant(options, 'diff')) {
    if (fixed) {
      throw new ImageError('invalid-argument', 'A differencing image cannot be fixed', {
        status: 'VERR_VD_INVALID_TYPE',
      });
    }
    if (options.parent === undefined) {
      throw new ImageError('invalid-argument', 'A differencing image needs a parent', {
        hint: 'Specify one with --parent.',
      });
    }
    return IMAGE_TYPE.diff;
  }
  return fixed ? IMAGE_TYPE.fixed : IMAGE_TYPE.dynamic;
}

/** Size of a new image: every block with at least one byte of data. */
export async function measureVdi(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const { type, blockSize, blockCount, dataOffset } = planVdi(options);
  const fullyAllocated = dataOffset + blockCount * blockSize;
  if (type === IMAGE_TYPE.fixed) return { required: fullyAllocated, fullyAllocated };
  let blocks = 0;
  let counted = 0;
  for await (const { offset, length } of data) {
    const end = Math.min(divCeil(offset + length, blockSize), blockCount);
    const first = Math.max(Math.floor(offset / blockSize), counted);
    if (end <= first) continue;
    blocks += end - first;
    counted = end;
  }
  return { required: dataOffset + blocks * blockSize, fullyAllocated };
}

/** Writes a new image and flushes it. */
export async function writeNewVdi(files: NewFiles, options: FormatCreateOptions): Promise<void> {
  const { main } = files;
  const plan = planVdi(options);
  await checkSpace(files, plan);
  await writeMap(main, plan, options);
  if (plan.type === IMAGE_TYPE.fixed) await preallocate(main, plan.dataOffset, plan.preallocates, options);
  // Last: a file without its header is no image, so a cut leaves nothing that looks like one.
  await main.write(0, encodeHeader(plan, options));
  await main.flush();
}

/** Throws before the first byte is written if a fixed image cannot fit. */
async function checkSpace(files: NewFiles, plan: VdiPlan): Promise<void> {
  if (plan.preallocates === 0) return;
  const free = await files.freeSpace();
  if (free === null || free >= plan.preallocates) return;
  throw new ImageError('no-space', 'There is not enough free space for a fixed image', {
    path: files.name,
    found: `${free} bytes free`,
    expected: `${plan.preallocates} bytes`,
    hint: 'Free some space, or create a dynamic image.',
  });
}

async function writeMap(storage: Storage, plan: VdiPlan, options: FormatCreateOptions): Promise<void> {
  const piece = new Uint8Array(Math.min(WRITE_BYTES, alignUp(4 * plan.blockCount, SECTOR)));
  const view = new DataView(piece.buffer);
  const perPiece = piece.length / 4;
  for (let index = 0; index < plan.blockCount; index += perPiece) {
    throwIfAborted(options.signal, 'Creating the image');
    const entries = Math.min(perPiece, plan.blockCount - index);
    for (let n = 0; n < perPiece; n++) {
      const inside = n < entries;
      view.setUint32(n * 4, inside ? (plan.type === IMAGE_TYPE.fixed ? index + n : ENTRY_FREE) : 0, true);
    }
    await storage.write(plan.mapOffset + index * 4, piece.subarray(0, alignUp(entries * 4, SECTOR)));
  }
  if (storage.size < plan.dataOffset) await storage.resize(plan.dataOffset);
}

function encodeHeader(plan: VdiPlan, options: FormatCreateOptions): Uint8Array {
  const physical = options.geometry?.physical ?? null;
  const logical = options.geometry?.logical ?? null;
  return HEADER.encode({
    text: '<<< vdkit Virtual Disk Image >>>\n',
    signature: SIGNATURE,
    version: VERSION_1_1,
    headerSize: HEADER_SIZE_1_1_PLUS,
    type: plan.type,
    flags: wantsVariant(options, 'zero-expand') ? FLAG_ZERO_EXPAND : 0,
    comment: options.comment ?? '',
    mapOffset: plan.mapOffset,
    dataOffset: plan.dataOffset,
    physicalCylinders: physical?.cylinders ?? 0,
    physicalHeads: physical?.heads ?? 0,
    physicalSectors: physical?.sectors ?? 0,
    physicalSectorSize: SECTOR,
    unused: 0,
    diskSize: plan.virtualSize,
    blockSize: plan.blockSize,
    blockExtra: 0,
    blockCount: plan.blockCount,
    blocksAllocated: plan.type === IMAGE_TYPE.fixed ? plan.blockCount : 0,
    uuid: options.uuid === undefined ? randomGuid() : normalizeGuid(options.uuid),
    modificationUuid: randomGuid(),
    parentUuid: options.parent?.uuid ?? NULL_GUID,
    parentModificationUuid: options.parent?.modificationUuid ?? NULL_GUID,
    logicalCylinders: logical?.cylinders ?? 0,
    logicalHeads: logical?.heads ?? 0,
    logicalSectors: logical?.sectors ?? 0,
    logicalSectorSize: SECTOR,
    rest: new Uint8Array(HEADER.fields.rest.size),
  });
}
