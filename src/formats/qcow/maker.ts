/** New QCOW images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureQcow, planQcow, writeNewQcow } from './create.ts';
import { openQcow } from './open.ts';

export { measureQcow as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewQcow(files, options);
  return openQcow(files.main, files.directory, { mode: 'write' });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  return { virtualSize: planQcow(options).virtualSize, preallocates: 0 };
}
