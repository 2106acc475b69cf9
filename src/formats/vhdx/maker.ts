/** New VHDX images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image } from '../../image/contract.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureVhdx, planVhdx, writeNewVhdx } from './create.ts';
import { openVhdx } from './open.ts';

export { measureVhdx as measure };

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewVhdx(files, options);
  return openVhdx(files.main, files.directory, { mode: 'write' });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  const { virtualSize, preallocates } = planVhdx(options);
  return { virtualSize, preallocates };
}
