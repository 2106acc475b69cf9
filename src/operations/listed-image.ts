/**
 * New images inside a directory that lists its images: the file is complete and durable before the list names it, as the
 * image that is written from then on. Until then its parent cannot be written.
 */

import { removeFile } from '../disk/change/stack.ts';
import type { Environment } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { listedIn } from '../disk/open/listed-file.ts';
import { takesLocks } from '../disk/open/locking.ts';
import { openImage, openList } from '../disk/open/open-image.ts';
import { allFiles } from '../disk/open/parts.ts';
import { ImageError, isImageError } from '../errors.ts';
import type { Format } from '../image/contract.ts';
import { OpenedFiles } from '../image/files.ts';
import type { Source } from '../storage/contract.ts';
import { baseName } from '../storage/gate.ts';
import type { Staged } from '../storage/staging.ts';

/** A directory that gets a new image over the one that is written. */
export interface ListedParent {
  /** The directory: the new image is opened by it. */
  readonly source: Source;
  readonly opened: OpenedImage;
  readonly format: Format;
}

/**
 * The directory in which a new image lies with its parent, which stays open and locked for reading; null: the parent is
 * not the image that a directory of the same format lists as the one that is written, or the file is to lie elsewhere.
 */
export async function listedParent(
  target: Source,
  format: Format,
  parent: Source | undefined,
  environment: Environment,
): Promise<ListedParent | null> {
  if (parent === undefined || format.extendDirectory === undefined || parent.provider !== target.provider) return null;
  const { provider, name } = parent;
  if (parent.storage !== undefined || (await provider.lookUp(name))?.kind !== 'directory') return null;
  const place = provider.directory(target.name);
  if ((await provider.lookUp(place)) === null) return null;
  if ((await provider.realName(place)) !== (await provider.realName(name))) return null;
  const source = { provider, name };
  const opened = await openImage(source, { environment, format: format.name, mode: 'read' });
  return { source, opened, format };
}

/** Throws for a target that is a file of an image which a directory lists: `force` must not take it away from the others. */
export async function refuseListedTarget(target: Source, environment: Environment): Promise<void> {
  const present = await target.provider.lookUp(target.name);
  if (present?.kind !== 'file') return;
  for (const format of environment.registry.formats) {
    const list = await listedIn({ source: target, key: present.key }, format, environment, openList);
    if (list === undefined) continue;
    throw new ImageError('exists', 'The target is a file of one of the images of a directory, and is not replaced', {
      path: target.name,
      found: list.directory,
      hint: 'Choose another name.',
    });
  }
}

/** Publishing of the file of such an image: then the list gets it. A failure leaves neither the file nor an entry. */
export function listing(staged: Staged, target: Source, listed: ListedParent, environment: Environment): Staged {
  const { opened } = listed;
  return {
    create: () => staged.create(),
    async publish() {
      const warnings = await staged.publish();
      try {
        await extend(target, listed, environment);
        return warnings;
      } catch (error) {
        await removeUnlisted(target, listed, environment);
        throw error;
      } finally {
        await opened.image.close();
      }
    },
    async discard() {
      await opened.image.close();
      await staged.discard();
    },
  };
}

/**
 * Deletes the file of a new image, unless the list has it by now, or cannot be read: the change may have failed after the new
 * list was in its place, and a list with a file that is gone opens no more.
 */
async function removeUnlisted(target: Source, { source }: ListedParent, environment: Environment): Promise<void> {
  const own = environment.with({ allow: 'none', lock: false, signal: undefined });
  try {
    const key = (await target.provider.lookUp(target.name))?.key;
    const list = await openList(source, own);
    try {
      for (const { file } of await allFiles(list)) if ((await target.provider.lookUp(file))?.key === key) return;
    } finally {
      await list.image.close();
    }
  } catch (error) {
    if (isImageError(error)) return;
    throw error;
  }
  await removeFile(target);
}

async function extend(
  target: Source,
  { source, opened, format }: ListedParent,
  environment: Environment,
): Promise<void> {
  const { member } = opened.image;
  if (member === undefined || format.extendDirectory === undefined) {
    throw new ImageError('unsupported', 'The directory takes no further image', { path: source.name });
  }
  const lock = takesLocks({ environment }) ? { shareable: false } : null;
  const gate = await environment.gateOf(source, null);
  const files = new OpenedFiles({ source, main: null, isDirectory: true, gate, lock });
  try {
    const name = baseName(target.name, target.provider.directory(target.name));
    await format.extendDirectory(files, { name, parent: member.id });
  } finally {
    await files.close();
  }
}
