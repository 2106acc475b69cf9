/** Creation of an empty QCOW image. */
import { alignUp, divCeil, isPowerOfTwo, SECTOR } from '../../binary/numbers.ts';
import { measureTwoLevel } from '../../blocks/two-level-measure.ts';
import { ImageError } from '../../errors.ts';
import { encodeBackingName } from '../../image/backing-name.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { storedName } from '../../image/parent.ts';
import { refuseNewFacts } from '../../image/refuse-changes.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { BACKING_NAME_MAX, CLUSTER_BITS, CRYPT, HEADER, l2BitsFor, MAGIC, VERSION } from './layout.ts';
import { QCOW_LIMITS } from './limits.ts';

/** Config key of new images; qemu-img has none. */
export const CLUSTER_SIZE = 'cluster_size';

/** Layout of a new image: header, name of the backing file, L1 table. */
export interface QcowPlan {
  readonly virtualSize: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly tableEntries: number;
  readonly tableBytes: number;
  readonly l1Offset: number;
  /** End of the empty file. */
  readonly fileEnd: number;
  /** Name of the backing file; null: none. */
  readonly name: Uint8Array | null;
}

/** Checks the options and lays out the image. Throws `invalid-argument`, `unsupported`, `limit`; touches nothing. */
export function planQcow(options: FormatCreateOptions, directory = ''): QcowPlan {
  const { config = {}, parent, size } = options;
  refuseNewFacts(options, 'QCOW');
  const usual = 2 ** (parent === undefined ? CLUSTER_BITS.default : CLUSTER_BITS.overBacking);
  const clusterSize = Number(config[CLUSTER_SIZE] ?? usual);
  if (!isPowerOfTwo(clusterSize) || clusterSize < 2 ** CLUSTER_BITS.min || clusterSize > 2 ** CLUSTER_BITS.max) {
    throw new ImageError('invalid-argument', `The value of ${CLUSTER_SIZE} is not valid`, {
      field: CLUSTER_SIZE,
      found: String(config[CLUSTER_SIZE]),
      expected: `a power of two from ${2 ** CLUSTER_BITS.min} to ${2 ** CLUSTER_BITS.max}`,
    });
  }
  const clusterBits = Math.log2(clusterSize);
  const tableEntries = 2 ** l2BitsFor(clusterBits);
  const most = (QCOW_LIMITS.l1Bytes / 8) * clusterSize * tableEntries;
  if (!Number.isSafeInteger(size) || size < SECTOR || size % SECTOR !== 0 || size > most) {
    throw new ImageError(size > most ? 'limit' : 'invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: `a multiple of 512 from 512 to ${most}`,
      hint: size > most ? `Choose a larger ${CLUSTER_SIZE}.` : undefined,
    });
  }
  const name = parent === undefined ? null : encodeBackingName(storedName(directory, parent.name), BACKING_NAME_MAX);
  const l1Offset = HEADER.size + alignUp(name?.length ?? 0, 8);
  const l1Bytes = divCeil(size, clusterSize * tableEntries) * 8;
  // VirtualBox reads and writes whole clusters of the L1 table.
  const fileEnd = alignUp(l1Offset + alignUp(l1Bytes, clusterSize), Math.max(clusterSize, SECTOR));
  return {
    virtualSize: size,
    clusterBits,
    clusterSize,
    tableEntries,
    tableBytes: tableEntries * 8,
    l1Offset,
    fileEnd,
    name,
  };
}

/** Size of a new image: every cluster with at least one byte of data, and the L2 tables that name them. */
export function measureQcow(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  return measureTwoLevel(planQcow(options), data);
}

/** Writes a new image and flushes it. */
export async function writeNewQcow(files: NewFiles, options: FormatCreateOptions): Promise<void> {
  const { main } = files;
  const { virtualSize, clusterBits, tableEntries, l1Offset, fileEnd, name } = planQcow(options, files.directory);
  const header = HEADER.encode({
    magic: MAGIC,
    version: VERSION,
    backingOffset: BigInt(name === null ? 0 : HEADER.size),
    backingLength: name?.length ?? 0,
    modified: 0,
    size: BigInt(virtualSize),
    clusterBits,
    l2Bits: Math.log2(tableEntries),
    padding: 0,
    cryptMethod: CRYPT.none,
    l1Offset: BigInt(l1Offset),
  });
  const first = new Uint8Array(SECTOR);
  first.set(header);
  // A long name goes on behind the first sector, before the L1 table.
  const rest = new Uint8Array(alignUp(l1Offset, SECTOR));
  rest.set(name ?? [], HEADER.size);
  first.set(rest.subarray(HEADER.size, SECTOR), HEADER.size);
  await main.write(fileEnd - SECTOR, new Uint8Array(SECTOR));
  if (!main.can.growsZeroed) await main.zero(0, fileEnd, { punch: false });
  if (rest.length > SECTOR) await main.write(SECTOR, rest.subarray(SECTOR));
  // Last: a file without its header is not an image.
  await main.flush();
  await main.write(0, first);
  await main.flush();
}
