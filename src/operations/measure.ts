/** Size of a new image, without creating it. */
import { checkArguments, either, NAME, NUMBER, optionsWith } from '../arguments.ts';
import type { BlockDevice, Extent, Range } from '../disk/device.ts';
import { SOURCE_OR_DEVICE } from '../disk/kinds.ts';
import { type Resolved, resolve } from '../disk/open/environment.ts';
import { checkFormatConfig, checkVariants } from '../disk/open/format-options.ts';
import type { EnvironmentOptions, ImageInput, ImageSource, SharingOptions } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Config, FormatCreateOptions, Measure } from '../image/contract.ts';
import { isPromise, type OperationOptions } from '../storage/contract.ts';
import { Turns } from '../storage/turns.ts';
import { openIn } from './open.ts';
import { OPTIONS } from './option-kinds.ts';

const MEASURED = either(SOURCE_OR_DEVICE, NUMBER);
const MEASURE = optionsWith({ format: NAME }, OPTIONS);

/** Options as for `createImage` and `convert`, and for opening the source. */
export interface MeasureOptions extends EnvironmentOptions, SharingOptions {
  /** Format of the target. */
  readonly format: string;
  readonly variant?: readonly string[] | undefined;
  /** Values for the format's config keys. */
  readonly config?: Config | undefined;
  /** Size of the new disk in bytes, if longer than the source. */
  readonly size?: number | undefined;
  /** Default: probed. */
  readonly sourceFormat?: string | undefined;
  readonly sourceParent?: ImageInput | readonly ImageInput[] | undefined;
  readonly sourceParentFormat?: string | undefined;
  /** Internal snapshot of the source, by id or name, instead of the current state. */
  readonly sourceSnapshot?: string | undefined;
}

/** Result of a measurement. */
export interface MeasureResult extends Measure {
  readonly format: string;
  /** Size of the new disk in bytes. */
  readonly virtualSize: number;
}

/**
 * Calculates the size of a new image: `required` with the data of the source (none, for a size alone), `fullyAllocated`
 * with the whole disk written. Based on the source's extents without reading data, so stored zeroes are counted
 * although `convert` leaves them out: `required` is never too small.
 */
export async function measure(
  source: ImageSource | BlockDevice | number,
  options: MeasureOptions,
): Promise<MeasureResult> {
  checkArguments('measure', { source: [source, MEASURED], options: [options, MEASURE] });
  const own = await resolve(options);
  if (typeof source === 'number') return measureTarget(null, source, own);
  if (typeof source === 'object' && 'extentAt' in source) return measureTarget(source, source.size, own);
  const { environment, shareable, forceShare } = own;
  const { sourceFormat, sourceParent, sourceParentFormat, sourceSnapshot } = own;
  await using disk = await openIn(source, {
    unwrap: true,
    environment,
    shareable,
    forceShare,
    format: sourceFormat,
    parent: sourceParent,
    parentFormat: sourceParentFormat,
    snapshot: sourceSnapshot,
  });
  return await measureTarget(disk, disk.size, own);
}

async function measureTarget(
  source: BlockDevice | null,
  sourceSize: number,
  options: Resolved<MeasureOptions>,
): Promise<MeasureResult> {
  const { signal, registry } = options.environment;
  const format = registry.find(options.format);
  if (format.measure === undefined) {
    throw new ImageError('unsupported', `The size of images of format ${format.name} cannot be calculated`, {
      hint: 'Choose a format that can be created: raw, vdi or qcow2.',
    });
  }
  const { variant = [], config = {}, size: virtualSize = sourceSize } = options;
  checkVariants(format, variant);
  checkFormatConfig(format, config, 'create');
  const create: FormatCreateOptions = { size: virtualSize, variant, config, signal };
  const { required, fullyAllocated } = await format.measure(create, dataOf(source, { signal }));
  return { format: format.name, virtualSize, required, fullyAllocated };
}

/** Ranges of the source with data, in order. */
async function* dataOf(source: BlockDevice | null, options: OperationOptions): AsyncGenerator<Range> {
  const turns = new Turns(options.signal, 'Measuring');
  for (let at = 0; source !== null && at < source.size; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const answer = source.extentAt(at, source.size);
    const extent: Extent = isPromise(answer) ? await answer : answer;
    if (extent.state === 'data') yield { offset: at, length: extent.length };
    at += extent.length;
  }
}
