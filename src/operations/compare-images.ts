/** Comparison of disks, by name or open. */
import { checkArguments } from '../arguments.ts';
import type { BlockDevice } from '../disk/device.ts';
import { isDevice, SOURCE_OR_DEVICE } from '../disk/kinds.ts';
import { Environment } from '../disk/open/environment.ts';
import type { CompareOptions, CompareResult, ImageSource } from '../disk/options.ts';
import { compareDevices } from './compare.ts';
import { openIn } from './open.ts';
import { OPTIONS } from './option-kinds.ts';

/**
 * Compares the guest data of two disks. A name is opened for reading, with its parents, and closed again; a raw disk
 * that looks like another format must be opened by the caller. Unless `strict`, a longer disk whose tail is zero counts
 * as the same. Reads ahead, reports in order: the first difference is the lowest one. Throws `invalid-argument` for
 * anything but names and devices, and the errors of opening and reading.
 */
export async function compare(
  a: ImageSource | BlockDevice,
  b: ImageSource | BlockDevice,
  options: CompareOptions = {},
): Promise<CompareResult> {
  checkArguments('compare', { a: [a, SOURCE_OR_DEVICE], b: [b, SOURCE_OR_DEVICE], options: [options, OPTIONS] });
  const environment = await Environment.of(options);
  return withDevice(a, environment, (first) =>
    withDevice(b, environment, (second) => compareDevices(first, second, options)),
  );
}

async function withDevice<T>(
  source: ImageSource | BlockDevice,
  environment: Environment,
  use: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  if (isDevice(source)) return use(source);
  await using disk = await openIn(source, { environment, unwrap: true });
  return await use(disk);
}
