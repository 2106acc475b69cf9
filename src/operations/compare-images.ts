/** Comparing disks by their names, or as they are open. */
import { checkArguments } from '../arguments.ts';
import type { BlockDevice } from '../disk/device.ts';
import { isDevice, SOURCE_OR_DEVICE } from '../disk/kinds.ts';
import type { CompareOptions, CompareResult, ImageSource } from '../disk/options.ts';
import { compareDevices } from './compare.ts';
import { openDisk } from './open.ts';
import { OPTIONS } from './option-kinds.ts';

/**
 * Compares the guest content of two disks. A name is opened for reading, with its parents, and closed again; name the
 * format of a raw disk that looks like something else by opening it yourself. Unless `strict`, a longer disk whose tail
 * reads zero is the same. Reads ahead, answers in order: the first difference is the lowest one. Throws
 * `invalid-argument` for anything that is neither a name nor a device, and what opening and reading throw.
 */
export async function compare(
  a: ImageSource | BlockDevice,
  b: ImageSource | BlockDevice,
  options: CompareOptions = {},
): Promise<CompareResult> {
  checkArguments('compare', { a: [a, SOURCE_OR_DEVICE], b: [b, SOURCE_OR_DEVICE], options: [options, OPTIONS] });
  return withDevice(a, options, (first) => withDevice(b, options, (second) => compareDevices(first, second, options)));
}

async function withDevice<T>(
  source: ImageSource | BlockDevice,
  { strict: _strict, parallel: _parallel, onProgress: _onProgress, ...options }: CompareOptions,
  use: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  if (isDevice(source)) return use(source);
  await using disk = await openDisk(source, options);
  return await use(disk);
}
