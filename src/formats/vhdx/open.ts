/** Opening of VHDX images: a method of the format, loaded when it is first used. */
import { ChangeGuard } from '../../blocks/guarded.ts';
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import { VhdxImage } from './image.ts';
import { openFile, readState } from './state.ts';

/** Opens an image. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  return openVhdx(mainFile(files), files.directory, options);
}

/** Opens an image by its file and the directory of its parents. */
export async function openVhdx(
  file: Storage,
  directory: string,
  { mode: wanted, infoOnly = false, signal }: FormatOpenOptions,
): Promise<Image> {
  const mode = infoOnly ? 'read' : wanted;
  const opened = await openFile(file, { mode, signal });
  const guard = new ChangeGuard(file.label);
  const state = await readState(opened.storage, opened.found.log, { write: mode === 'write', guard, signal });
  return new VhdxImage({ file: opened, state, directory, mode, guard });
}
