/** Creation of an empty QED image. */
import { SECTOR } from '../../binary/numbers.ts';
import { measureTwoLevel } from '../../blocks/two-level-measure.ts';
import { ImageError } from '../../errors.ts';
import { encodeBackingName } from '../../image/backing-name.ts';
import type { FormatCreateOptions, Measure } from '../../image/contract.ts';
import { storedName } from '../../image/parent.ts';
import { refuseNewFacts } from '../../image/refuse-changes.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { isClusterSize, isTableSize, largestDisk } from './header.ts';
import {
  BACKING_NAME_MAX,
  CLUSTER_DEFAULT,
  CLUSTER_MAX,
  CLUSTER_MIN,
  FEATURE,
  HEADER,
  MAGIC,
  TABLE_DEFAULT,
  TABLE_MAX,
  TABLE_MIN_QEMU,
} from './layout.ts';

/** Config keys of new images, by qemu-img's names. */
export const CONFIG = { clusterSize: 'cluster_size', tableSize: 'table_size' } as const;

/** Layout of a new image: one cluster of header, then the L1 table. */
export interface QedPlan {
  readonly virtualSize: number;
  readonly clusterSize: number;
  readonly tableSize: number;
  readonly tableBytes: number;
  /** End of the empty file. */
  readonly fileEnd: number;
  /** Name of the backing file; null: none. */
  readonly name: Uint8Array | null;
  readonly raw: boolean;
}

/** Checks the options and lays out the image. Throws `invalid-argument`, `unsupported`, `limit`; touches nothing. */
export function planQed(options: FormatCreateOptions, directory = ''): QedPlan {
  const { config = {}, parent, size } = options;
  refuseNewFacts(options, 'QED');
  const clusterSize = Number(config[CONFIG.clusterSize] ?? CLUSTER_DEFAULT);
  const tableSize = Number(config[CONFIG.tableSize] ?? TABLE_DEFAULT);
  if (!isClusterSize(clusterSize)) {
    throw wrongValue(CONFIG.clusterSize, config, `a power of two from ${CLUSTER_MIN} to ${CLUSTER_MAX}`);
  }
  if (!isTableSize(tableSize) || tableSize < TABLE_MIN_QEMU) {
    throw wrongValue(CONFIG.tableSize, config, `2, 4, 8 or ${TABLE_MAX}`);
  }
  const most = largestDisk(clusterSize, tableSize);
  if (!Number.isSafeInteger(size) || size < 0 || size % SECTOR !== 0 || size > most) {
    throw new ImageError(size > most ? 'limit' : 'invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: `a multiple of 512, at most ${most}`,
      hint: size > most ? `Choose a larger ${CONFIG.clusterSize}.` : undefined,
    });
  }
  const tableBytes = tableSize * clusterSize;
  const name = parent === undefined ? null : encodeBackingName(storedName(directory, parent.name), BACKING_NAME_MAX);
  const fileEnd = clusterSize + tableBytes;
  return { virtualSize: size, clusterSize, tableSize, tableBytes, fileEnd, name, raw: parent?.format === 'raw' };
}

function wrongValue(field: string, config: NonNullable<FormatCreateOptions['config']>, expected: string): ImageError {
  return new ImageError('invalid-argument', `The value of ${field} is not valid`, {
    field,
    found: String(config[field]),
    expected,
  });
}

/** Size of a new image: every cluster with at least one byte of data, and the L2 tables that name them. */
export function measureQed(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const plan = planQed(options);
  return measureTwoLevel({ ...plan, tableEntries: plan.tableBytes / 8 }, data);
}

/** Writes a new image and flushes it. */
export async function writeNewQed(files: NewFiles, options: FormatCreateOptions): Promise<void> {
  const { main } = files;
  const { virtualSize, clusterSize, tableSize, tableBytes, fileEnd, name, raw } = planQed(options, files.directory);
  await main.write(fileEnd - SECTOR, new Uint8Array(SECTOR));
  if (!main.can.growsZeroed) await main.zero(clusterSize, tableBytes, { punch: false });
  const features = name === null ? 0n : FEATURE.backing | (raw ? FEATURE.backingRaw : 0n);
  const header = HEADER.encode({
    magic: MAGIC,
    clusterSize,
    tableSize,
    headerSize: 1,
    features,
    compatible: 0n,
    autoclear: 0n,
    l1Offset: BigInt(clusterSize),
    imageSize: virtualSize,
    backingOffset: name === null ? 0 : HEADER.size,
    backingLength: name?.length ?? 0,
  });
  const first = new Uint8Array(CLUSTER_MIN);
  first.set(header);
  first.set(name ?? [], HEADER.size);
  // Last: a file without its header is not an image.
  await main.flush();
  await main.write(0, first);
  await main.flush();
}
