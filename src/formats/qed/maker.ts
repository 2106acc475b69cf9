/** New QED images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureQed, planQed, writeNewQed } from './create.ts';
import { openQed } from './open.ts';

export { measureQed as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewQed(files, options);
  return openQed(files.main, files.directory, { mode: 'write' });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  return { virtualSize: planQed(options).virtualSize, preallocates: 0 };
}
