/** VDI images: the methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Finding } from '../../image/findings.ts';
import type { NewFiles, OperationOptions } from '../../storage/contract.ts';
import { checkVdi, repairVdi } from './check.ts';
import { measureVdi, planVdi, writeNewVdi } from './create.ts';
import { openVdi } from './image.ts';

export { measureVdi as measure };

/** Opens an image. */
export async function open(files: ImageFiles, { mode, infoOnly = false, signal }: FormatOpenOptions): Promise<Image> {
  return openVdi(mainFile(files), { mode, infoOnly, signal });
}

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewVdi(files, options);
  return openVdi(files.main, { mode: 'write', infoOnly: false });
}

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]> {
  return checkVdi(mainFile(files), options);
}

/** Repairs damage in an image. */
export async function repair(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]> {
  return repairVdi(mainFile(files), options);
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  const { virtualSize, preallocates } = planVdi(options);
  return { virtualSize, preallocates };
}
