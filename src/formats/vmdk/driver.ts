/** VMDK images: the methods of the format, loaded when they are first used. */
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import type { ImageFiles } from '../../image/files.ts';
import { openVmdk } from './open.ts';

/** Opens an image. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  return openVmdk(files, options);
}
