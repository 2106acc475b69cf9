/** Opening of Parallels images: a method of the format, loaded when it is first used. */
import { xmlOf } from '../../binary/look.ts';
import { ChangeGuard } from '../../blocks/guarded.ts';
import { ImageError } from '../../errors.ts';
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { readProbeInput } from '../../image/probe.ts';
import type { Storage } from '../../storage/contract.ts';
import { openClusters, scanClusters } from './clusters.ts';
import { readHeader } from './header.ts';
import { ParallelsImage, type ParallelsState } from './image.ts';
import { DESCRIPTOR, DESCRIPTOR_ROOT } from './layout.ts';

/** Opens an image. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  if (files.main !== null) return openFile(files, options);
  const { openBundle } = await import('./bundle/open.ts');
  return openBundle(files, options, openFile);
}

/** Opens one file. */
async function openFile(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  const main = mainFile(files);
  try {
    return await openParallels(main, options);
  } catch (error) {
    if (xmlOf((await readProbeInput(main, files.name)).head)?.root !== DESCRIPTOR_ROOT) throw error;
    throw new ImageError('unsupported', `The file is the descriptor of a bundle without the name ${DESCRIPTOR}`, {
      path: files.name,
      hint: 'Name the directory that it belongs to, where it has that name.',
    });
  }
}

/** Adds the file of a new image to a bundle. */
export async function extendDirectory(
  files: ImageFiles,
  how: { readonly name: string; readonly parent: string },
): Promise<void> {
  const { extendBundle } = await import('./bundle/extend.ts');
  await extendBundle(files, how, openFile);
}

/** Opens the image in a storage, which belongs to the image when this resolves. */
export async function openParallels(
  storage: Storage,
  { mode: wanted, infoOnly = false, signal }: Pick<FormatOpenOptions, 'mode' | 'infoOnly' | 'signal'>,
): Promise<ParallelsImage> {
  const mode = infoOnly ? 'read' : wanted;
  const guard = new ChangeGuard(storage.label);
  const load = (): Promise<ParallelsState> => loadState(storage, guard, { mode });
  return new ParallelsImage({ storage, guard, load, state: await loadState(storage, guard, { mode, signal }) });
}

async function loadState(
  storage: Storage,
  guard: ChangeGuard,
  { mode, signal }: Pick<FormatOpenOptions, 'mode' | 'signal'>,
): Promise<ParallelsState> {
  const layout = await readHeader(storage, { signal });
  const extension =
    layout.header.extensionOffset === 0n
      ? null
      : await (await import('./extension.ts')).readExtension(storage, layout, { signal });
  const scan = mode === 'write' ? await scanClusters(storage, layout, { signal }) : null;
  const obstacle = scan === null ? null : (extension?.obstacle ?? scan.obstacle);
  const dataOffset = scan?.dataOffset ?? layout.dataStart;
  const allocator = obstacle === null ? (scan?.allocator ?? null) : null;
  const map = openClusters(storage, layout, guard, { dataOffset, allocator });
  return { layout, extension, map, dataOffset, behind: scan?.behind ?? false, obstacle };
}
