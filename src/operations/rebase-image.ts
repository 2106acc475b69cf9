/** Rebasing an image opened for that alone. */
import { checkArguments, nullable } from '../arguments.ts';
import { SOURCE } from '../disk/kinds.ts';
import { Environment } from '../disk/open/environment.ts';
import type { EnvironmentOptions, ImageInput, ImageReport, ImageSource, SharingOptions } from '../disk/options.ts';
import type { Progress } from '../image/contract.ts';
import { inspect, inspectImage } from './inspect.ts';
import { openDisk } from './open.ts';
import { OPTIONS } from './option-kinds.ts';
import { setImage } from './set.ts';
import { isParent, linkOf } from './siblings.ts';

/** Options for a rebase. */
export interface RebaseImageOptions extends EnvironmentOptions, SharingOptions {
  /** Format of the image. Default: probed. */
  readonly format?: string | undefined;
  /** Format of the new parent. Default: probed. */
  readonly parentFormat?: string | undefined;
  /** Current parent of the image, if it cannot be found by its link; or all images below it, base first. */
  readonly oldParent?: ImageInput | readonly ImageInput[] | undefined;
  readonly oldParentFormat?: string | undefined;
  /** Change only the link; the disk reads differently where the parents differ: see `setImage`. */
  readonly unsafe?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/**
 * Makes an image a child of another parent; null: of none. The disk reads the same: see `Disk.rebase`. Reports on the
 * changed image. Throws as `Disk.open` and `Disk.rebase` do.
 */
export async function rebaseImage(
  image: ImageSource,
  parent: ImageSource | null,
  options: RebaseImageOptions = {},
): Promise<ImageReport> {
  checkArguments('rebaseImage', {
    image: [image, SOURCE],
    parent: [parent, nullable(SOURCE)],
    options: [options, OPTIONS],
  });
  const { oldParentFormat, unsafe, parentFormat, onProgress, oldParent: named, ...rest } = options;
  const format = parentFormat === undefined ? {} : { parentFormat };
  if (unsafe === true) return setImage(image, { parent }, { ...rest, ...format });
  // Cut behind the change of the link and called again: the parent that was named is not the parent any more.
  const done = named !== undefined && parent !== null && (await isOver(image, parent, options));
  const oldParent = done ? undefined : named;
  const disk = await openDisk(image, { ...rest, mode: 'write', parent: oldParent, parentFormat: oldParentFormat });
  let warnings: readonly string[];
  try {
    warnings = await disk.rebase(parent, { ...format, signal: rest.signal, onProgress });
  } catch (error) {
    // What failed first is what the caller must hear, not that the end of the session failed as well.
    await disk.close().catch(() => {});
    throw error;
  }
  await disk.close();
  // It is done, whatever the signal says now.
  const report = await inspect(image, { ...rest, signal: undefined });
  return { ...report, warnings: [...report.warnings, ...warnings] };
}

/** True when the image names that one as its parent. */
async function isOver(image: ImageSource, parent: ImageSource, options: RebaseImageOptions): Promise<boolean> {
  const environment = await Environment.of({ ...options, lock: false });
  const [child, above] = [environment.sourceOf(image), environment.sourceOf(parent)];
  const { format, parentFormat } = options;
  const info = await inspectImage(child, { environment, format });
  const { uuid } = await inspectImage(above, { environment, format: parentFormat });
  const key = (await above.provider.lookUp(above.name))?.key ?? '';
  return isParent(await linkOf({ name: child.name, info }, child), { uuid, key });
}
