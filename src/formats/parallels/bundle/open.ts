/** Opening of bundles: the descriptor, then the files of one snapshot. */
import { SECTOR } from '../../../binary/numbers.ts';
import { ImageError, isImageError } from '../../../errors.ts';
import type { FormatOpenOptions, Image, ImagePart } from '../../../image/contract.ts';
import type { ImageFiles } from '../../../image/files.ts';
import type { OpenMode, Storage } from '../../../storage/contract.ts';
import { DESCRIPTOR } from '../layout.ts';
import { type BundleFile, type BundlePart, type Descriptor, nameInside } from './descriptor.ts';
import { BundleImage, type OpenPart } from './image.ts';
import { PlainPart } from './plain.ts';
import { DescriptorStore } from './store.ts';

/** Opens one expandable file as an image without a parent. */
export type OpenFile = (files: ImageFiles, options: FormatOpenOptions) => Promise<Image>;

/** Names of files that no image consists of, but the whole bundle: presentation of its snapshots. */
const PRESENTATION = 'Snapshots.xml';

/** Opens the image of a bundle that is written, or the one that is wanted. */
export async function openBundle(files: ImageFiles, options: FormatOpenOptions, openFile: OpenFile): Promise<Image> {
  const { infoOnly = false, withoutData = false, member } = options;
  const mode: OpenMode = infoOnly ? 'read' : options.mode;
  const store = await DescriptorStore.open(files, mode);
  const { descriptor } = store;
  const id = member ?? descriptor.top;
  const parts: OpenPart[] = [];
  for (const part of descriptor.parts) {
    const file = part.files.get(id);
    if (file === undefined) throw missingShot(descriptor, id);
    const place = { start: part.start * SECTOR, length: (part.end - part.start) * SECTOR };
    const opened = withoutData ? null : await openOne(files, { part, file, mode }, options, openFile);
    parts.push({ ...place, name: opened?.name ?? nameInside(file.file), image: opened?.image ?? null });
  }
  // Its files were locked after the descriptor was read.
  if (!infoOnly && !withoutData && !(await store.refresh())) throw changedMeanwhile(descriptor.path);
  const obstacle = mode === 'write' ? obstacleOf(descriptor, id) : null;
  return new BundleImage({ store, id, parts, mode, obstacle, others: () => othersOf(files, store.descriptor, parts) });
}

interface Wanted {
  readonly part: BundlePart;
  readonly file: BundleFile;
  readonly mode: OpenMode;
}

async function openOne(
  files: ImageFiles,
  { part, file, mode }: Wanted,
  options: FormatOpenOptions,
  openFile: OpenFile,
): Promise<{ readonly name: string; readonly image: Image }> {
  const { name, storage } = await openStored(files, file.file, mode);
  const length = (part.end - part.start) * SECTOR;
  if (file.type === 'Plain') return { name, image: new PlainPart(storage, length, mode) };
  const { infoOnly, signal } = options;
  const image = await openFile(filesOf(files, name, storage), { mode, infoOnly, signal });
  checkFit(image, storage.label, { length, unit: part.blocksize * SECTOR });
  return { name, image };
}

/** Throws unless the file is what the descriptor says. It may be longer: a cut left it so when the disk was resized. */
function checkFit({ info }: Image, path: string, { length, unit }: { length: number; unit: number }): void {
  const { virtualSize, blockSize } = info;
  const hint = 'Restore the file or DiskDescriptor.xml: they belong to different disks.';
  if (virtualSize < length) {
    throw new ImageError('corrupt', 'A file of the bundle holds less than its part of the disk', {
      path,
      field: 'nb_sectors',
      found: virtualSize / SECTOR,
      expected: length / SECTOR,
      hint,
    });
  }
  if (blockSize === unit) return;
  throw new ImageError('corrupt', 'A file of the bundle has other clusters than the descriptor says', {
    path,
    field: 'Blocksize',
    found: (blockSize ?? 0) / SECTOR,
    expected: unit / SECTOR,
    hint,
  });
}

/** One file as its format sees it: nothing else belongs to it. */
export function filesOf(files: ImageFiles, name: string, main: Storage): ImageFiles {
  const { directory } = files;
  return {
    name: main.label,
    directory,
    main,
    async open(wanted) {
      throw new ImageError('denied', 'A file of a bundle refers to no others', {
        path: main.label,
        found: wanted.name,
      });
    },
    async *list() {
      yield name;
    },
  };
}

/**
 * Opens a file by its stored name: that may be the path of another computer, so the last part of a path is looked for in
 * the bundle first. Only the gate admits a file outside of it.
 */
export async function openStored(
  files: ImageFiles,
  stored: string,
  mode: OpenMode,
): Promise<{ readonly name: string; readonly storage: Storage }> {
  const inside = nameInside(stored);
  try {
    return { name: inside, storage: await files.open({ name: inside, role: 'disk file', part: true }, mode) };
  } catch (error) {
    if (inside === stored || !isImageError(error) || error.kind !== 'not-found') throw error;
    return { name: stored, storage: await files.open({ name: stored, role: 'disk file' }, mode) };
  }
}

async function othersOf(
  files: ImageFiles,
  descriptor: Descriptor,
  own: readonly OpenPart[],
): Promise<readonly ImagePart[]> {
  const names = new Set<string>();
  for (const { files: stored } of descriptor.parts) {
    for (const { file } of stored.values()) names.add(nameInside(file));
  }
  for await (const name of files.list()) {
    if (/[^/\\]*$/.exec(name)?.[0] === PRESENTATION) names.add(PRESENTATION);
  }
  for (const { name } of own) names.delete(name);
  names.delete(DESCRIPTOR);
  return [...names].map((name) => ({
    name,
    role: name === PRESENTATION ? 'list of snapshots' : 'disk file',
    storage: null,
  }));
}

/** The reason why an image cannot be written; null: none. */
function obstacleOf({ parts }: Descriptor, id: string): string | null {
  const units = new Set(
    parts.filter(({ files }) => files.get(id)?.type === 'Compressed').map(({ blocksize }) => blocksize),
  );
  if (units.size > 1) return 'its parts have clusters of different sizes';
  const [unit = 1] = units;
  return parts.every(({ start }) => start % unit === 0) ? null : 'a part of it begins inside a cluster';
}

function missingShot({ path }: Descriptor, id: string): ImageError {
  return new ImageError('not-found', 'The bundle has no such image', { path, field: 'Shot', found: `{${id}}` });
}

function changedMeanwhile(path: string): ImageError {
  return new ImageError('busy', 'Another program changed the list of images while the bundle was opened', {
    path,
    hint: 'Run the command again.',
  });
}
