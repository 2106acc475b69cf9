/**
 * Adding images to an open chain and removing them. Only the last image is open for writing: one that gets a child is
 * *demoted* (reopened for reading), one that loses it is *promoted*.
 */
import { assert, ImageError, isImageError, withContext } from '../../errors.ts';
import type { ImageChanges } from '../../image/contract.ts';
import type { OpenMode, OperationOptions, Source } from '../../storage/contract.ts';
import { refuseIncomplete, type SearchExtent } from '../open/beside.ts';
import { type Environment, settingsOf } from '../open/environment.ts';
import { openPart, type PartFile, partFiles } from '../open/parts.ts';
import type { CreateImageOptions, ImageOpenOptions, ImageSettings, ImageSource } from '../options.ts';
import { type Chain, type ChainImage, identitiesOf } from '../path/chain.ts';

/** Services that a disk needs to change its chain, provided when it is opened. */
export interface ChainServices {
  /** Opens a single image, without its chain, with the locks of the mode. */
  open(image: Pick<ChainImage, 'source' | 'format' | 'settings'>, mode: OpenMode): Promise<ChainImage>;
  /** Opens an image and its parents for reading, through the gate. */
  openChain(
    target: ImageSource,
    how: {
      readonly format?: string | undefined;
      readonly infoOnly?: boolean | undefined;
      readonly signal?: AbortSignal | undefined;
    },
  ): Promise<OpenedChain>;
  /** Resolves a name of the caller. */
  place(target: ImageSource): Source;
  /** Creates an image. Returns its place, and warnings. */
  create(
    target: ImageSource,
    options: CreateImageOptions,
  ): Promise<{ source: Source; format: string; warnings: readonly string[] }>;
  /** Images that files in their directories name as parent, with those files; not `complete`: there may be more. */
  childrenOf(
    images: readonly ChainImage[],
    options?: OperationOptions,
  ): Promise<SearchExtent & { readonly found: readonly ChildOf[] }>;
}

/** Opened images, with warnings. */
export interface OpenedChain {
  readonly chain: Chain;
  readonly warnings: readonly string[];
}

/** A file that names an image of the chain as its parent. */
export interface ChildOf {
  readonly image: ChainImage;
  readonly child: string;
  readonly key: string;
}

/** Options for a new image over a chain; its size is that of the disk. */
export type CreateDiffOptions = Omit<CreateImageOptions, 'parent' | 'parentFormat' | 'size' | 'lock' | 'type'> &
  ImageOpenOptions;

/**
 * Opens an image of the chain again in another mode, or with other settings. Its handle is closed first, since the two
 * locks would conflict. After a failure the image is opened as before, and the failure is thrown.
 */
export async function reopen(
  tools: ChainServices,
  chain: Chain,
  number: number,
  mode: OpenMode,
  settings: ImageSettings = chain.at(number).settings,
): Promise<void> {
  if (mode === 'write') requireCertain(chain);
  const old = chain.at(number);
  const before: OpenMode = old.image.can.write ? 'write' : 'read';
  const { uuid } = old.image.info;
  await old.image.close();
  try {
    const opened = await tools.open({ ...old, settings }, mode);
    try {
      if (opened.key !== old.key || opened.image.info.uuid !== uuid) {
        throw new ImageError('busy', 'Another program replaced the image', {
          path: old.name,
        });
      }
      if (mode === 'write') requireWritable(opened);
    } catch (error) {
      await opened.image.close();
      throw error;
    }
    chain.replace(number, old.doubt === undefined ? opened : { ...opened, doubt: old.doubt });
  } catch (error) {
    chain.replace(number, await tools.open(old, before));
    throw error;
  }
}

/** Throws if an image of the chain may be the wrong one. */
export function requireCertain(chain: Chain): void {
  for (const { doubt } of chain.images) if (doubt !== undefined) throw doubt;
}

/** Throws for an image that was opened for writing and cannot be written. */
export function requireWritable({ image, name }: ChainImage): void {
  if (image.can.write) return;
  const reason = image.can.readOnlyReason;
  throw new ImageError('read-only', `The image cannot be written${reason === null ? '' : `: ${reason}`}`, {
    path: name,
    hint: 'Open it for reading, check it (checkImage; on the command line: check), or convert it.',
  });
}

/**
 * Changes the open options of an image, reopening it if that makes a difference now. Returns true if it was reopened.
 */
export async function changeSettings(
  tools: ChainServices,
  chain: Chain,
  number: number,
  changes: ImageOpenOptions,
): Promise<void> {
  const entry = chain.at(number);
  const settings = { ...entry.settings, ...changes };
  const mode = number === chain.top ? (settings.mode ?? 'read') : 'read';
  const same =
    (mode === 'write') === entry.image.can.write &&
    settings.shareable === entry.settings.shareable &&
    settings.sequential === entry.settings.sequential;
  if (same) chain.replace(number, { ...entry, settings });
  else await reopen(tools, chain, number, mode, settings);
}

/**
 * Creates a differencing image over the last one, which must be flushed, and returns the longer chain with warnings.
 * After a failure the new image is gone and the chain is unchanged.
 */
export async function pushDiff(
  tools: ChainServices,
  chain: Chain,
  target: ImageSource,
  options: CreateDiffOptions,
  defaults: ImageOpenOptions,
): Promise<{ readonly chain: Chain; readonly warnings: readonly string[] }> {
  const { mode = 'write', shareable, honourZeroes, honourSame, ignoreFlush, discard, sequential, ...rest } = options;
  const own = { mode, shareable, honourZeroes, honourSame, ignoreFlush, discard, sequential };
  const parent = chain.last;
  requireCertain(chain);
  await refuseMember(chain, tools.place(target));
  const siblings = new Set(await parent.image.member?.children());
  const made = await tools.create(target, {
    ...rest,
    size: chain.size,
    parent: parent.source,
    parentFormat: parent.format,
  });
  const demotes = parent.image.can.write;
  try {
    if (demotes) await reopen(tools, chain, chain.top, 'read');
    const child = await tools.open({ ...made, settings: settingsOf(defaults, own) }, mode);
    return { chain: chain.with([...chain.images, child]), warnings: made.warnings };
  } catch (error) {
    const place = tools.place(target);
    const listed = made.source.name !== place.name;
    if (!listed) await removeFile(made.source);
    if (demotes && !chain.last.image.can.write) await reopen(tools, chain, chain.top, 'write');
    if (listed) await unlist(chain.last, siblings);
    if (listed) await removeFile(place);
    throw error;
  }
}

/** Takes the images out of a directory's list that were made from one of its images, but for those that were there. */
async function unlist({ image: { member } }: ChainImage, before: ReadonlySet<string>): Promise<void> {
  const children = (await member?.children()) ?? [];
  await member?.drop(children.filter((id) => !before.has(id)));
}

/** The new image must not replace one that it needs, even with `force`. */
async function refuseMember(chain: Chain, { provider, name }: Source): Promise<void> {
  const present = await provider.lookUp(name);
  if (present === null || !(await identitiesOf(chain.images)).has(present.key)) return;
  throw new ImageError('exists', 'The new image would replace an image of the same chain', {
    path: name,
    hint: 'Choose another name.',
  });
}

/** Throws if another image in the directory depends on the one to be deleted. */
export async function refuseChildren(tools: ChainServices, image: ChainImage): Promise<void> {
  const children = await tools.childrenOf([image]);
  const [other] = children.found;
  if (other === undefined) return refuseIncomplete(image.name, children);
  throw new ImageError('busy', `The image cannot be removed: ${other.child} in the same directory depends on it`, {
    path: image.name,
    hint: 'Delete or merge that image first.',
  });
}

/** Number of an image from an argument. Throws `invalid-argument`. */
export function imageNumber(chain: Chain, number: number | 'last'): number {
  const wanted = number === 'last' ? chain.top : number;
  if (Number.isInteger(wanted) && wanted >= 0 && wanted <= chain.top) return wanted;
  throw new ImageError('invalid-argument', 'The chain has no image with that number', {
    status: 'VERR_VD_IMAGE_NOT_FOUND',
    path: chain.last.name,
    found: wanted,
    expected: `0 to ${chain.top}`,
  });
}

/** Changes image metadata. Everything must be flushed; an image below the last is opened for it. */
export async function setOf(tools: ChainServices, chain: Chain, number: number, changes: ImageChanges): Promise<void> {
  const { image, name, format } = chain.at(number);
  if (image.set === undefined) {
    throw new ImageError('unsupported', `Images of format ${format} have no metadata to change`, {
      path: name,
    });
  }
  const opens = !image.can.write;
  if (opens) await reopen(tools, chain, number, 'write');
  try {
    await chain.at(number).image.set?.(changes);
  } finally {
    if (opens) await reopen(tools, chain, number, 'read');
  }
}

/** Deletes the file, durably. */
export async function removeFile({ provider, name }: Source): Promise<void> {
  await provider.remove(name);
  await provider.syncNames(provider.directory(name));
}

/**
 * Deletes the files of an image, durably, and returns their names. The main file goes last: after a power cut it still
 * names the parts that are left, so that the image can be deleted again.
 */
export async function removeFiles(source: Source, parts: readonly Pick<PartFile, 'file'>[]): Promise<string[]> {
  const { provider, name } = source;
  assert(source.isDirectory !== true, 'a directory is deleted by `removeAll`');
  for (const { file } of parts) {
    try {
      await removeFile({ provider, name: file });
    } catch (error) {
      throw withContext(error, { hint: `Delete ${name} again: it names the files of the image that are left.` });
    }
  }
  await removeFile(source);
  return [name, ...parts.map(({ file }) => file)];
}

/** Throws `denied` unless the parts of images that are open for reading may be written, and so deleted. */
export async function requireRemovable(
  chain: Chain,
  numbers: readonly number[],
  environment: Environment,
): Promise<void> {
  for (const number of numbers) {
    const entry = chain.at(number);
    refuseDirectory(entry);
    const { source } = entry;
    const gate = await environment.gateOf(source, source.isDirectory === true ? null : undefined);
    for (const part of partFiles(entry)) {
      if (part.storage?.can.write === true) continue;
      const storage = await openPart({ gate, source }, part, 'write').catch((error: unknown) => {
        throw isImageError(error) && error.kind === 'denied' ? notRemovable(entry, part) : error;
      });
      await storage.close();
    }
  }
}

/** Parts of an image to be deleted. Throws `denied` unless they may be deleted: permission to write is enough. */
export function removableParts(entry: ChainImage): readonly PartFile[] {
  refuseDirectory(entry);
  const parts = partFiles(entry);
  const held = parts.find(({ storage }) => storage?.can.write !== true);
  if (held === undefined) return parts;
  throw notRemovable(entry, held);
}

function notRemovable({ name: path }: ChainImage, { role, file }: PartFile): ImageError {
  return new ImageError('denied', `The image cannot be removed: its ${role} is not open for writing`, {
    path,
    found: file,
    hint: 'Keep the image (on the command line: --keep), then delete it (removeImage; delete, with --allow FILE).',
  });
}

/** Takes images of a directory out of its list; the last of the given images is open for writing. All get to know it. */
export async function dropFrom(images: readonly ChainImage[], ids: readonly string[]): Promise<void> {
  for (const { image } of [...images].reverse()) await image.member?.drop(ids);
}

/** Deletes the files of an image that no list names any more, durably. */
export async function removeFilesOf(entry: ChainImage, parts: readonly Pick<PartFile, 'file'>[]): Promise<void> {
  const { source, image } = entry;
  if (image.member === undefined) return void (await removeFiles(source, parts));
  for (const { file } of parts) await removeFile({ provider: source.provider, name: file });
}

function refuseDirectory(entry: ChainImage): void {
  if (entry.image.member === undefined) refuseWhole(entry);
}

/** Throws for an image that is a directory, or the only one in it. */
export function refuseWhole({ source, name: path }: ChainImage): void {
  if (source.isDirectory !== true) return;
  throw new ImageError('unsupported', 'The image is a directory, which is not deleted with the disk', {
    path,
    hint: 'Close the disk, then delete the image (removeImage; on the command line: delete).',
  });
}
