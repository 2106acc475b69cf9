/** Opening VDI images: the method of the format, loaded when it is first used. */
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { openVdi } from './image.ts';

/** Opens an image. */
export async function open(files: ImageFiles, { mode, infoOnly = false, signal }: FormatOpenOptions): Promise<Image> {
  return openVdi(mainFile(files), { mode, infoOnly, signal });
}
