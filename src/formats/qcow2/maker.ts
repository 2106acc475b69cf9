/** New QCOW2 images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import { filesOfNew } from '../../image/files.ts';
import { storedName } from '../../image/parent.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureQcow2, planQcow2, writeNewQcow2 } from './create.ts';
import { openQcow2 } from './open.ts';

export { measureQcow2 as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  const parent = options.parent === undefined ? null : storedName(files.directory, options.parent.name);
  const plan = planQcow2(options, parent);
  const data = await writeNewQcow2(files, options, plan);
  return openQcow2(filesOfNew(files, data), { mode: 'write', isNew: true });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  // The name that will be stored depends on the place of the image, and changes no size.
  const { virtualSize, preallocates } = planQcow2(options, options.parent === undefined ? null : 'parent');
  return { virtualSize, preallocates };
}
