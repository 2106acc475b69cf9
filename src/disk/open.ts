/** Opening disks: an image with its parents, or a chain that was named. */
import { type ErrorKind, ImageError, isImageError } from '../errors.ts';
import type { OpenMode, Source } from '../storage/contract.ts';
import { Chain, closeImages } from './chain.ts';
import { createImage } from './create.ts';
import { ChainDisk } from './disk.ts';
import { environmentOf, gateOf, sourceOf } from './environment.ts';
import { checkLocking, sharingWarnings } from './locking.ts';
import { type OpenedImage, openImage, openParents, sourceList } from './open-image.ts';
import type { DiskOpenOptions, EnvironmentOptions, ImageSource, SharingOptions } from './options.ts';
import { neighbours } from './siblings.ts';
import type { ChildOf, StackTools } from './stack.ts';

/**
 * Opens an image or a chain as one disk. A single source brings its parents along (through the gate); a list names
 * all images, base first. The last image is locked as the mode needs it, parents are locked for reading. Throws
 * `not-found`, `invalid-format`, `unsupported`, `corrupt`, `denied`, `read-only`, `locked`, `io`.
 */
export async function openDisk(
  source: ImageSource | readonly ImageSource[],
  options: DiskOpenOptions = {},
): Promise<ChainDisk> {
  const list = sourceList(source);
  const lastSource = list.at(-1);
  if (lastSource === undefined) {
    throw new ImageError('invalid-argument', 'No image was named', { status: 'VERR_INVALID_PARAMETER' });
  }
  checkLocking(options);
  const opened: OpenedImage[] = [];
  try {
    const last = await openLast(sourceOf(lastSource, options), options);
    opened.push(last);
    const warnings = await openParents(opened, list.slice(0, -1), options);
    opened.reverse();
    const incomplete = opened[0]?.image.info.differencing === true ? opened[0].name : null;
    const chain = new Chain(opened, options.withoutParents === true ? incomplete : null);
    return new ChainDisk({
      chain,
      tools: stackTools(options),
      options,
      warnings: [
        ...opened.flatMap((entry) => entry.warnings),
        ...warnings,
        ...opened.flatMap((entry) => sharingWarnings(entry.name, options)),
      ],
    });
  } catch (error) {
    // What went wrong first is what the caller must hear.
    await closeImages(opened).catch(() => {});
    throw error;
  }
}

/** Where the medium or somebody else forbids writing; reading may do. */
const NOT_WRITABLE: ReadonlySet<ErrorKind> = new Set(['denied', 'locked', 'read-only']);

async function openLast(source: Source, options: DiskOpenOptions): Promise<OpenedImage> {
  const mode = options.mode ?? 'read';
  try {
    return await openLastAs(source, options, mode);
  } catch (error) {
    const mayRead = mode === 'write' && options.readOnlyFallback === true;
    if (!mayRead || !isImageError(error) || !NOT_WRITABLE.has(error.kind)) throw error;
    return openLastAs(source, options, 'read');
  }
}

async function openLastAs(source: Source, options: DiskOpenOptions, mode: OpenMode): Promise<OpenedImage> {
  const gate = await gateOf(options.allow, source);
  const last = await openImage(source, { ...options, mode, gate });
  if (mode === 'write' && !last.image.can.write) {
    await last.image.close();
    const reason = last.image.can.readOnlyReason;
    throw new ImageError('read-only', `The image cannot be written${reason === null ? '' : `: ${reason}`}`, {
      path: last.name,
      hint: 'Open it for reading, or convert it.',
    });
  }
  return last;
}

/** What a disk that was opened so needs to change its chain. */
export function stackTools(options: DiskOpenOptions): StackTools {
  const { allow, shareable, forceShare } = options;
  const environment: EnvironmentOptions & SharingOptions = {
    ...environmentOf({ ...options, signal: undefined }),
    ...(shareable === undefined ? {} : { shareable }),
    ...(forceShare === undefined ? {} : { forceShare }),
  };
  return {
    open: async (source, mode, format) =>
      openImage(source, { ...environment, mode, format, gate: await gateOf(allow, source) }),
    place: (target) => sourceOf(target, environment),
    async create(target, wanted) {
      // The parent is locked by the disk itself.
      const { format } = await createImage(target, { ...environment, ...wanted, lock: false });
      return { source: sourceOf(target, environment), format };
    },
    async childrenOf(images) {
      const found: ChildOf[] = [];
      const directories = new Map(images.map((image) => [image.source.provider.directory(image.name), image.source]));
      for (const source of directories.values()) {
        for await (const { name, key, parentUuid } of neighbours(source, environment)) {
          const image = images.find((one) => parentUuid !== null && one.image.info.uuid === parentUuid);
          if (image !== undefined) found.push({ image, child: name, key });
        }
      }
      return found;
    },
  };
}
