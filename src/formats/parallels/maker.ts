/** New Parallels images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureParallels, planParallels, writeNewParallels } from './create.ts';
import { openParallels } from './open.ts';

export { measureParallels as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewParallels(files, options);
  return openParallels(files.main, { mode: 'write' });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  return { virtualSize: planParallels(options).virtualSize, preallocates: 0 };
}
