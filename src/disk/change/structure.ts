/** Structural operations of a disk: adding and removing images, and changing their metadata. */
import { type ErrorKind, ImageError, isImageError } from '../../errors.ts';
import type { ImageChanges } from '../../image/contract.ts';
import type { ImageOpenOptions, ImageSource } from '../options.ts';
import { ActiveImage } from '../path/active-image.ts';
import type { Chain } from '../path/chain.ts';
import type { DiskHost } from './host.ts';
import {
  type CreateDiffOptions,
  changeSettings,
  dropFrom,
  imageNumber,
  pushDiff,
  refuseChildren,
  removableParts,
  removeFilesOf,
  reopen,
  setOf,
} from './stack.ts';

/** Failures of opening for writing after which reading may work. */
export const NOT_WRITABLE: ReadonlySet<ErrorKind> = new Set(['denied', 'locked', 'read-only']);

/** Creates an image over the last one. Returns warnings. */
export async function createDiffOf(
  host: DiskHost,
  target: ImageSource,
  options: CreateDiffOptions,
): Promise<readonly string[]> {
  await host.quiesce();
  const { chain, warnings } = await pushDiff(host.tools, host.head.chain, target, options, host.options);
  host.replaceHead(new ActiveImage(chain, host.options));
  for (const text of warnings) host.options.environment.warn(text, chain.last.name);
  return warnings;
}

/** Removes the last image of several; the one below becomes writable if it was opened for that. */
export async function closeLastOf(host: DiskHost, remove: boolean): Promise<void> {
  const { chain } = host.head;
  const parts = remove ? removableParts(chain.last) : [];
  if (remove) {
    await refuseChildren(host.tools, chain.last);
  }
  await host.quiesce();
  const shorter = chain.with(chain.images.slice(0, -1));
  const { member } = chain.last.image;
  if (remove && member !== undefined) await dropFrom(chain.images, [member.id]);
  await chain.last.image.close();
  // Read-only until it can be written: if it cannot, it can still be read.
  host.replaceHead(new ActiveImage(shorter, { ...host.options, settings: { ...shorter.last.settings, mode: 'read' } }));
  if (remove) await removeFilesOf(chain.last, parts);
  await promote(host, shorter);
}

async function promote(host: DiskHost, chain: Chain): Promise<void> {
  const { settings, image } = chain.last;
  if (settings.mode === 'write' && !image.can.write) {
    try {
      await reopen(host.tools, chain, chain.top, 'write');
    } catch (error) {
      const mayRead = host.options.readOnlyFallback === true;
      if (!mayRead || !isImageError(error) || !NOT_WRITABLE.has(error.kind)) throw error;
    }
  }
  host.replaceHead(new ActiveImage(chain, host.options));
}

/** Changes metadata of one image. */
export async function setImageOf(host: DiskHost, number: number | 'last', changes: ImageChanges): Promise<void> {
  const { chain } = host.head;
  const wanted = imageNumber(chain, number);
  await host.head.quiesce();
  await setOf(host.tools, chain, wanted, changes);
}

/** Changes the open options of one image. */
export async function setOpenOptionsOf(
  host: DiskHost,
  number: number | 'last',
  changes: ImageOpenOptions,
): Promise<void> {
  const { chain } = host.head;
  const wanted = imageNumber(chain, number);
  if (host.options.forceShare === true && changes.mode === 'write') {
    throw new ImageError('invalid-argument', 'An image that others may be writing can only be read', {
      path: chain.at(wanted).name,
      hint: 'Open the disk without forceShare.',
    });
  }
  await host.quiesce();
  const before = host.head;
  try {
    await changeSettings(host.tools, chain, wanted, changes);
  } finally {
    // Also after a failure: the image may have been reopened as it was.
    host.replaceHead(new ActiveImage(chain, host.options, before));
  }
}
