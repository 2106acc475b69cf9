/** New VDI images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureVdi, planVdi, writeNewVdi } from './create.ts';
import { openVdi } from './image.ts';

export { measureVdi as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewVdi(files, options);
  return openVdi(files.main, { mode: 'write', infoOnly: false });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  const { virtualSize, preallocates } = planVdi(options);
  return { virtualSize, preallocates };
}
