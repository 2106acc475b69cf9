/** New VHD images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureVhd, planVhd, writeNewVhd } from './create.ts';
import { openVhd } from './open.ts';

export { measureVhd as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewVhd(files, options);
  return openVhd(files.main, files.directory, { mode: 'write' });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  const { virtualSize, preallocates } = planVhd(options);
  return { virtualSize, preallocates };
}
