/** New Parallels images: methods of the format, loaded when they are first used. */
import type { FormatCreateOptions, Image, Measure } from '../../image/contract.ts';
import { wantsVariant } from '../../image/variants.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { measureParallels, planParallels, writeNewParallels } from './create.ts';
import { BUNDLE } from './layout.ts';
import { openParallels } from './open.ts';

/** Bytes of an image with this data. */
export async function measure(
  options: FormatCreateOptions,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const file = await measureParallels(options, data);
  if (!wantsVariant(options, BUNDLE)) return file;
  return (await import('./bundle/create.ts')).measureBundle(options, file);
}

/** Writes an empty image and leaves it open for writing. */
export async function create(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  if (!wantsVariant(options, BUNDLE)) return createFile(files, options);
  return (await import('./bundle/create.ts')).createBundle(files, options, createFile);
}

async function createFile(files: NewFiles, options: FormatCreateOptions): Promise<Image> {
  await writeNewParallels(files, options);
  return openParallels(files.main, { mode: 'write' });
}

/** Sizes of an image that `create` would make. */
export function plan(options: FormatCreateOptions): { readonly virtualSize: number; readonly preallocates: number } {
  return { virtualSize: planParallels(options).virtualSize, preallocates: 0 };
}
