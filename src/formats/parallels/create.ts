/** Creation of an empty Parallels image. */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { refuseNewFacts } from '../../image/refuse-changes.ts';
import { wantsVariant } from '../../image/variants.ts';
import { LIMITS } from '../../limits.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { CLUSTER_DEFAULT, HEADER, HEADS, IN_USE, MAGIC, VERSION } from './layout.ts';
import { dataOffsetFor, fitsClassic, largestDisk, sizeFields } from './size.ts';

/** Config key of new images, by qemu-img's name. */
export const CLUSTER_SIZE = 'cluster_size';

/** Layout of a new image. */
export interface ParallelsPlan {
  readonly virtualSize: number;
  readonly clusterSize: number;
  /** With the extended signature. */
  readonly extended: boolean;
  readonly entries: number;
  /** File offset of the first cluster: the end of the empty file. */
  readonly dataOffset: number;
}

/** Checks the options and lays out the image. Throws `invalid-argument`, `limit`; touches nothing. */
export function planParallels(options: FormatCreateOptions): ParallelsPlan {
  const { config = {}, size } = options;
  refuseNewFacts(options, 'Parallels');
  const clusterSize = Number(config[CLUSTER_SIZE] ?? CLUSTER_DEFAULT);
  const isPossible = Number.isSafeInteger(clusterSize) && clusterSize % SECTOR === 0;
  if (!isPossible || clusterSize < SECTOR || clusterSize > LIMITS.blockSizeMax) {
    throw new ImageError('invalid-argument', `The value of ${CLUSTER_SIZE} is not valid`, {
      field: CLUSTER_SIZE,
      found: String(config[CLUSTER_SIZE]),
      expected: `a multiple of ${SECTOR}, at most ${LIMITS.blockSizeMax}`,
    });
  }
  const most = largestDisk({ clusterSize, extended: true });
  if (!Number.isSafeInteger(size) || size < 0 || size % SECTOR !== 0 || size > most) {
    throw new ImageError(size > most ? 'limit' : 'invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: `a multiple of ${SECTOR}, at most ${most}`,
      hint: size > most ? `Choose a larger ${CLUSTER_SIZE}.` : undefined,
    });
  }
  const entries = divCeil(size, clusterSize);
  const extended = wantsVariant(options, 'ext') || !fitsClassic(size, clusterSize);
  return { virtualSize: size, clusterSize, extended, entries, dataOffset: dataOffsetFor(entries, clusterSize) };
}

/** Size of a new image: every cluster with at least one byte of data. */
export async function measureParallels(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const { clusterSize, entries, dataOffset } = planParallels(options);
  let [clusters, counted] = [0, 0];
  for await (const { offset, length } of data) {
    const end = Math.min(divCeil(offset + length, clusterSize), entries);
    const first = Math.max(Math.floor(offset / clusterSize), counted);
    if (end <= first) continue;
    clusters += end - first;
    counted = end;
  }
  return {
    required: dataOffset + clusters * clusterSize,
    fullyAllocated: dataOffset + entries * clusterSize,
  };
}

/** Writes a new image and flushes it. */
export async function writeNewParallels(files: NewFiles, options: FormatCreateOptions): Promise<void> {
  const { main } = files;
  const { virtualSize, clusterSize, extended, entries, dataOffset } = planParallels(options);
  await main.write(dataOffset - SECTOR, new Uint8Array(SECTOR));
  if (!main.can.growsZeroed) await main.zero(0, dataOffset, { punch: false });
  const first = new Uint8Array(SECTOR);
  first.set(
    HEADER.encode({
      magic: extended ? MAGIC.extended : MAGIC.classic,
      version: VERSION,
      heads: HEADS,
      ...sizeFields(virtualSize),
      tracks: clusterSize / SECTOR,
      entries,
      inUse: IN_USE.closed,
      dataOffset: dataOffset / SECTOR,
      flags: 0,
      extensionOffset: 0n,
    }),
  );
  // Last: a file without its header is not an image.
  await main.flush();
  await main.write(0, first);
  await main.flush();
}
