/** Names that an image stores of other files, and the files among them that belong to it. */
import { ImageError } from '../../errors.ts';
import type { Image, ImagePart } from '../../image/contract.ts';
import { parentNames } from '../../image/parent.ts';
import type { NameInfo, OpenMode, Source, Storage } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import type { OpenedImage } from './image-file.ts';

/** An image and the place that its names count from. */
export interface PlacedImage {
  readonly image: Pick<Image, 'info' | 'parts' | 'isPartName'>;
  readonly source: Source;
}

/** A file that an image names. */
export interface StoredName {
  /** `part`: it belongs to the image and holds some of it. */
  readonly role: 'parent' | 'part';
  /** As it is stored: it counts from the image's directory. */
  readonly stored: string;
  /** See {@link ImagePart.follows}. */
  readonly follows?: boolean | undefined;
}

/** All names of other files in an image. */
export function storedNames(image: PlacedImage['image']): StoredName[] {
  return [
    ...parentNames(image.info).map((stored) => ({ role: 'parent', stored }) as const),
    ...(image.parts?.() ?? []).map(({ name, follows }) => ({ role: 'part', stored: name, follows }) as const),
  ];
}

/** A file of an image beside its main one. */
export interface PartFile extends ImagePart {
  /** The name by which the provider knows it. */
  readonly file: string;
}

/** The files of an image in addition to its main one. Stored names that cannot be file names are skipped. */
export function partFiles({ image, source }: PlacedImage): PartFile[] {
  return (image.parts?.() ?? [])
    .filter(({ name }) => isPlainName(name))
    .map((part) => ({ ...part, file: resolveStored(source, part.name) }));
}

/** The files of an image in addition to its main one, and those of the other images of its directory. */
export async function allFiles(opened: PlacedImage & { readonly image: Pick<Image, 'member'> }): Promise<PartFile[]> {
  const others = (await opened.image.member?.others()) ?? [];
  return [...partFiles(opened), ...others.map((part) => ({ ...part, file: resolveStored(opened.source, part.name) }))];
}

/** Keys of the files that an image names, parents and parts, as far as they are there. Nothing is opened. */
export async function keysOfNamed({ image, source }: PlacedImage, role?: StoredName['role']): Promise<string[]> {
  const keys: string[] = [];
  for (const name of storedNames(image)) {
    if (role !== undefined && name.role !== role) continue;
    const found = await lookUpNamed(source, name.stored);
    if (found !== null) keys.push(found.key);
  }
  return keys;
}

/** Resolves a stored name; null when there is nothing, or it is not the name of a file. */
async function lookUpNamed(source: Source, stored: string): Promise<NameInfo | null> {
  return isPlainName(stored) ? source.provider.lookUp(resolveStored(source, stored)) : null;
}

/** A relative name counts from the image's directory, or from the directory that is the image. */
function resolveStored({ provider, name, isDirectory }: Source, stored: string): string {
  return provider.resolve(stored, isDirectory === true ? `${name}/x` : name);
}

/** Refuses an image that is not a file and the files beside it; `directories`: nor a directory. */
export async function requireFile(
  { source }: Pick<OpenedImage, 'source'>,
  { directories = false }: { readonly directories?: boolean } = {},
): Promise<void> {
  if (directories && source.isDirectory === true) return;
  const isFile = source.isDirectory !== true && source.configuration === undefined;
  // Its name belongs to the system: without it the device could not be reached.
  if (isFile && (await source.provider.lookUp(source.name))?.kind === 'device') {
    throw new ImageError('unsupported', 'The image lies on a device, whose name cannot be moved or removed', {
      path: source.name,
      hint: 'Copy the image into a file (copyImage; on the command line: copy or convert).',
    });
  }
  if (isFile) return;
  throw new ImageError('unsupported', 'Only images that are files can be moved or removed', {
    path: source.name,
    found: source.isDirectory === true ? 'a directory' : 'a configuration',
    hint: 'Convert it, or move or remove it with the tools of the system.',
  });
}

/** Open files of an image that are not parts of it: the main one, if it has one. */
export function mainStorages(image: Image): readonly Storage[] {
  const parts = new Set(image.parts?.().map(({ storage }) => storage));
  return image.storages().filter((storage) => !parts.has(storage));
}

/** The main file of an open image. */
export function mainStorage(image: Image): Storage {
  const [main] = mainStorages(image);
  if (main === undefined) throw new Error('internal: an image has a main file');
  return main;
}

/** Opens a part as its image would: only through the gate, since an image may name any of its neighbours. */
export function openPart(
  { gate, source }: Pick<OpenedImage, 'gate' | 'source'>,
  { file, role }: PartFile,
  mode: OpenMode,
): Promise<Storage> {
  return gate.open({ name: file, role, part: true }, source, mode);
}
