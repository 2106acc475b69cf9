/** Apple's sparse images: opening one. Loaded when it is first used. */
import type { Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { readBands } from './bands.ts';
import { readHeader } from './header.ts';
import { SparseImage } from './image.ts';

/** Opens an image. Throws `invalid-format`, `unsupported`, `limit`, `corrupt`. */
export async function open(files: ImageFiles): Promise<Image> {
  const storage = mainFile(files);
  const header = await readHeader(storage);
  return new SparseImage(storage, header, await readBands(storage, header));
}
