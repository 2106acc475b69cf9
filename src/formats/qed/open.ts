/** Opening of QED images: a method of the format, loaded when it is first used. */
import { ChangeGuard } from '../../blocks/guarded.ts';
import { readTwoLevel } from '../../blocks/two-level-state.ts';
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import { readHeader } from './header.ts';
import { QedImage } from './image.ts';
import { shapeOf } from './shape.ts';

/** Opens an image. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  return openQed(mainFile(files), files.directory, options);
}

/** Opens an image by its file and the directory of its backing file. One that was not closed is checked before it is written. */
export async function openQed(
  storage: Storage,
  directory: string,
  { mode: wanted, infoOnly = false, signal }: FormatOpenOptions,
): Promise<Image> {
  const mode = infoOnly ? 'read' : wanted;
  const guard = new ChangeGuard(storage.label);
  let header = await readHeader(storage, { signal });
  if (mode === 'write' && header.needCheck) {
    const { recover } = await import('./check.ts');
    await guard.run(() => recover(storage, { signal }));
    header = await readHeader(storage, { signal });
  }
  const state = await readTwoLevel(storage, shapeOf(header), { mode, guard, signal });
  return new QedImage({ storage, directory, guard, mode, state });
}
