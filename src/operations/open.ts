/** Opening disks: an image with its parents, or an explicit chain. */
import { checkArguments } from '../arguments.ts';
import { type ChainServices, type ChildOf, type OpenedChain, requireWritable } from '../disk/change/stack.ts';
import { NOT_WRITABLE } from '../disk/change/structure.ts';
import { ChainDisk } from '../disk/disk.ts';
import { INPUTS } from '../disk/kinds.ts';
import { knownImages, type SearchExtent } from '../disk/open/beside.ts';
import { type Resolved, resolve, settingsOf } from '../disk/open/environment.ts';
import { isHalfConverted } from '../disk/open/half-converted.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { checkLocking, sharingWarnings } from '../disk/open/locking.ts';
import { type OpenImageOptions, openImage } from '../disk/open/open-image.ts';
import { entryList, isUnlinked, openParents } from '../disk/open/parents.ts';
import type { DiskOpenOptions, ImageEntry, ImageInput, SharingOptions } from '../disk/options.ts';
import { Chain, type ChainImage, closeImages } from '../disk/path/chain.ts';
import { ImageError, isImageError } from '../errors.ts';
import type { OpenMode } from '../storage/contract.ts';
import { checkIn } from './check.ts';
import { createIn } from './create.ts';
import { OPTIONS } from './option-kinds.ts';
import { extentOf, isParent, linkOf, lookAround } from './siblings.ts';

/**
 * Opens an image or a chain as one disk. A single image is opened with its parents (through the gate); a list names all
 * images, base first. The last image is locked according to the mode, parents for reading. Throws `not-found`,
 * `invalid-format`, `invalid-argument`, `unsupported`, `corrupt`, `denied`, `read-only`, `locked`, `io`.
 */
export async function openDisk(
  source: ImageInput | readonly ImageInput[],
  options: DiskOpenOptions = {},
): Promise<ChainDisk> {
  checkArguments('Disk.open', { source: [source, INPUTS], options: [options, OPTIONS] });
  return openIn(source, { ...(await resolve(options)), unwrap: true });
}

/** Options inside the library: also of what callers always want, such as a look inside of archives. */
type OpenInOptions = Resolved<DiskOpenOptions> & Pick<OpenImageOptions, 'unwrap'>;

/** Like `openDisk`, in an environment. */
export async function openIn(source: ImageInput | readonly ImageInput[], options: OpenInOptions): Promise<ChainDisk> {
  const { environment } = options;
  const { chain, warnings } = await openChain(source, options);
  const all = [...warnings];
  // The signal is that of opening, not of what follows.
  const own = { ...options, environment: environment.with({ signal: undefined }) };
  const disk = new ChainDisk({ chain, tools: stackTools(own), options: own, warnings: all });
  try {
    const more = options.cache === undefined ? [] : await disk.cache.attach(options.cache);
    for (const text of more) all.push(text);
  } catch (error) {
    await disk.close().catch(() => {});
    throw error;
  }
  for (const text of all) environment.warn(text, chain.last.name);
  return disk;
}

/**
 * `whole`: include the parents, even for headers only.
 */
async function openChain(
  source: ImageInput | readonly ImageInput[],
  options: OpenInOptions,
  whole = false,
): Promise<OpenedChain> {
  const list = entryList(source);
  const last = list.at(-1);
  if (last === undefined) {
    throw new ImageError('invalid-argument', 'No image was named', { status: 'VERR_INVALID_PARAMETER' });
  }
  checkLocking({ forceShare: options.forceShare, mode: last.mode ?? options.mode ?? 'read' });
  const opened: OpenedImage[] = [];
  try {
    const found = await openLast(last, options);
    opened.push(found.image);
    const below = list.slice(0, -1);
    const alone = !whole && options.infoOnly === true && below.length === 0 && options.parent === undefined;
    const missing = await openParents(opened, below, {
      ...options,
      ...(alone ? { withoutParents: true } : {}),
      changes: whole,
    });
    opened.reverse();
    if (options.infoOnly !== true) refuseBuried(opened);
    const [base] = opened;
    const incomplete = base?.image.info.differencing === true ? base.name : null;
    const cut = options.withoutDamagedParents === true && base !== undefined && !isUnlinked(base);
    const chain = new Chain(opened, alone || cut || options.withoutParents === true ? incomplete : null);
    if (options.resumeFilters === true) {
      for (const { source: own } of opened) chain.filters.halfConverted ||= await isHalfConverted(own);
    }
    const warnings = [
      ...found.warnings,
      ...opened.flatMap((entry) => entry.warnings),
      ...missing,
      ...opened.flatMap((entry) => sharingWarnings(entry.name, options)),
    ];
    return { chain, warnings };
  } catch (error) {
    // What went wrong first is what the caller must hear.
    await closeImages(opened).catch(() => {});
    throw error;
  }
}

/** A fixed image contains every byte of its disk, so images below it would be invisible. */
function refuseBuried(images: readonly OpenedImage[]): void {
  const fixed = images.find(({ image }, number) => number > 0 && image.info.allocation === 'fixed');
  if (fixed === undefined) return;
  throw new ImageError('invalid-argument', 'A fixed image above other images would hide them', {
    status: 'VERR_VD_INVALID_TYPE',
    path: fixed.name,
    hint: 'Open it alone, or list the images base first.',
  });
}

interface OpenedLast {
  readonly image: OpenedImage;
  readonly warnings: readonly string[];
}

async function openLast(entry: ImageEntry, options: OpenInOptions): Promise<OpenedLast> {
  const mode = options.infoOnly === true ? 'read' : (entry.mode ?? options.mode ?? 'read');
  try {
    return await openSound(entry, options, mode);
  } catch (error) {
    const mayRead = mode === 'write' && options.readOnlyFallback === true;
    if (!mayRead || !isImageError(error) || !NOT_WRITABLE.has(error.kind)) throw error;
    const image = await openLastAs(entry, options, 'read');
    return { image, warnings: [`${image.name} is open for reading only: ${error.message}.`] };
  }
}

/** Repairs the image first, if requested and necessary. */
async function openSound(entry: ImageEntry, options: OpenInOptions, mode: OpenMode): Promise<OpenedLast> {
  try {
    return { image: await openLastAs(entry, options, mode), warnings: [] };
  } catch (error) {
    const damaged = isImageError(error) && (error.kind === 'read-only' || error.kind === 'corrupt');
    if (mode !== 'write' || options.repair !== true || !damaged) throw error;
    const { environment } = options;
    const { format } = lastOf(entry, options);
    const { repairs } = await checkIn(environment.sourceOf(entry.image), { environment, repair: true, format });
    if (repairs.length === 0) throw error;
    const image = await openLastAs(entry, options, mode);
    return {
      image,
      warnings: [
        `${image.name} was damaged and has been repaired: ${repairs.map(({ message }) => message).join('; ')}.`,
      ],
    };
  }
}

/** Options of the last image: its own, and those of the disk. */
function lastOf(entry: ImageEntry, { format, type, snapshot }: Resolved<DiskOpenOptions>): Omit<ImageEntry, 'image'> {
  return {
    format,
    type,
    snapshot,
    ...entry,
  };
}

async function openLastAs(entry: ImageEntry, options: OpenInOptions, mode: OpenMode): Promise<OpenedImage> {
  const source = options.environment.sourceOf(entry.image);
  const own = lastOf(entry, options);
  const last = await openImage(source, {
    ...options,
    mode,
    format: own.format,
    settings: settingsOf(options, own),
  });
  try {
    if (mode === 'write') requireWritable(last);
    requireDiscard(last);
    return last;
  } catch (error) {
    await last.image.close();
    throw error;
  }
}

function requireDiscard({ image, name, format, settings }: OpenedImage): void {
  if (settings.discard !== true || image.can.discard || !image.can.write) return;
  throw new ImageError('unsupported', `This ${format} image does not support discard`, {
    status: 'VERR_VD_DISCARD_NOT_SUPPORTED',
    path: name,
    hint: 'Omit the option, or convert the image to a format with discard.',
  });
}

/** Images that are made from others in the same directory, as that lists them. */
async function childrenInside(images: readonly ChainImage[]): Promise<ChildOf[]> {
  const found: ChildOf[] = [];
  for (const image of images) {
    const directory = image.key.slice(0, image.key.lastIndexOf('#'));
    for (const id of (await image.image.member?.children()) ?? []) {
      found.push({ image, child: `image ${id} of ${image.name}`, key: `${directory}#${id}` });
    }
  }
  return found;
}

/** The key of what images outside name: the last image of a directory is named by the directory. */
async function namedKey({ key, image: { member } }: ChainImage): Promise<string> {
  if (member === undefined || (await member.children()).length > 0) return key;
  return key.slice(0, key.lastIndexOf('#'));
}

/** Services that such a disk needs to change its chain. */
export function stackTools(options: Resolved<DiskOpenOptions>): ChainServices {
  const { shareable, forceShare } = options;
  const environment = options.environment.with({ signal: undefined });
  const sharing: SharingOptions = { shareable, forceShare };
  return {
    open: async ({ source, format, settings }, mode) =>
      openImage(source, {
        environment,
        ...sharing,
        mode,
        format,
        settings,
        // A conversion reopens the images of its chain, one after another.
        resumeFilters: true,
      }),
    openChain: (target, { signal, ...how }) =>
      openChain(target, { environment: environment.with({ signal }), ...sharing, mode: 'read', ...how }, true),
    place: (target) => environment.sourceOf(target),
    async create(target, wanted) {
      // The parent is locked by the disk itself.
      const source = environment.sourceOf(target);
      const { signal, registry = environment.registry, onMessage = environment.onMessage } = wanted;
      const own = environment.with({ registry, onMessage, signal, lock: false });
      const { file, format, warnings } = await createIn(source, { forceShare, ...wanted, environment: own });
      const listed = { provider: source.provider, name: file };
      return { source: file === source.name ? source : listed, format, warnings };
    },
    async childrenOf(images, { signal } = {}) {
      const looking = environment.with({ signal });
      const found: ChildOf[] = await childrenInside(images);
      let extent: SearchExtent = { complete: true };
      const named = await Promise.all(images.map(async (image) => ({ image, key: await namedKey(image) })));
      const directories = new Map(images.map((image) => [image.source.provider.directory(image.name), image.source]));
      for (const source of directories.values()) {
        const around = await lookAround(source, looking, knownImages(images));
        for await (const neighbour of around) {
          const link = await linkOf(neighbour, source);
          const parent = named.find(({ image, key }) => isParent(link, { uuid: image.image.info.uuid, key }));
          if (parent !== undefined) found.push({ image: parent.image, child: neighbour.name, key: neighbour.key });
        }
        if (!around.complete) extent = extentOf(around);
      }
      return { found, ...extent };
    },
  };
}
