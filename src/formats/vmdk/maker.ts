/** New VMDK images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import { filesOfNew } from '../../image/files.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { encodesAlways } from './config.ts';
import { writeNewStream, writeNewVmdk } from './create.ts';
import { measureVmdk } from './measure.ts';
import { openVmdk } from './open.ts';
import { planVmdk } from './plan.ts';

export { measureVmdk as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  if (encodesAlways(options)) return writeNewStream(files, options);
  const parts = await writeNewVmdk(files, options);
  return openVmdk(filesOfNew(files, parts), { mode: 'write' });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  const { virtualSize, preallocates } = planVmdk(options, '');
  return { virtualSize, preallocates };
}
