/** Opening of QCOW images: a method of the format, loaded when it is first used. */
import { ChangeGuard } from '../../blocks/guarded.ts';
import { readTwoLevel } from '../../blocks/two-level-state.ts';
import { ImageError } from '../../errors.ts';
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import { readHeader } from './header.ts';
import { QcowImage } from './image.ts';
import { shapeOf } from './shape.ts';

/** Opens an image. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  return openQcow(mainFile(files), files.directory, options);
}

/** Opens an image by its file and the directory of its backing file. */
export async function openQcow(
  storage: Storage,
  directory: string,
  { mode: wanted, infoOnly = false, signal }: FormatOpenOptions,
): Promise<Image> {
  const mode = infoOnly ? 'read' : wanted;
  const guard = new ChangeGuard(storage.label);
  const header = await readHeader(storage, { signal });
  if (header.encrypted && !infoOnly) {
    throw new ImageError('unsupported', 'The image is encrypted by AES, which vdkit cannot read', {
      path: storage.label,
      hint: 'Decrypt it with qemu-img: convert it to an image that is not encrypted.',
    });
  }
  const state = await readTwoLevel(storage, shapeOf(header), { mode, guard, signal });
  return new QcowImage({ storage, directory, guard, mode, state });
}
