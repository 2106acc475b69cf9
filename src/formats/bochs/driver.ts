/** Bochs redologs: the methods of the format, loaded when they are first used. */
import type { Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { readHeader } from './header.ts';
import { BochsImage } from './image.ts';

/** Opens an image. */
export async function open(files: ImageFiles): Promise<Image> {
  const storage = mainFile(files);
  return new BochsImage(storage, await readHeader(storage));
}
