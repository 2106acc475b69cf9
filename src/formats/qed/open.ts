/** Opening of QED images: a method of the format, loaded when it is first used. */
import { ChangeGuard } from '../../blocks/guarded.ts';
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import { readHeader } from './header.ts';
import { QedImage } from './image.ts';
import { readState } from './state.ts';

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
  let layout = await readHeader(storage, { signal });
  if (mode === 'write' && layout.needCheck) {
    const { recover } = await import('./check.ts');
    await guard.run(() => recover(storage, { signal }));
    layout = await readHeader(storage, { signal });
  }
  const state = await readState(storage, layout, { mode, guard, signal });
  return new QedImage({ storage, directory, guard, mode, state });
}
