/** Changing the creation options of an image, if its format supports it. */
import { checkArguments } from '../arguments.ts';
import { requireWritable } from '../disk/change/stack.ts';
import { CONFIG, SOURCE } from '../disk/kinds.ts';
import { resolve } from '../disk/open/environment.ts';
import { checkFormatConfig } from '../disk/open/format-options.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { checkLocking, requireSystemLocks } from '../disk/open/locking.ts';
import { openImage } from '../disk/open/open-image.ts';
import type { EnvironmentOptions, ImageReport, ImageSource, SharingOptions } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Config, Format, Image, Progress } from '../image/contract.ts';
import { inspectImage } from './inspect.ts';
import { OPTIONS } from './option-kinds.ts';

/** Options for an amendment. */
export interface AmendImageOptions extends EnvironmentOptions, SharingOptions {
  /** Default: probed. */
  readonly format?: string | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/**
 * Changes options of an existing image, by the format's names (`amendKeys`), and reports on the changed image. The disk
 * reads the same, unless another parent is named: its content is not checked, unlike in `rebaseImage`. Can be
 * interrupted at any time and repeated. Throws `unsupported` for formats or images that cannot be changed,
 * `invalid-argument` for unknown names and values, `limit`, `read-only`, `locked`; after a refusal nothing has changed.
 */
export async function amendImage(
  image: ImageSource,
  values: Config,
  options: AmendImageOptions = {},
): Promise<ImageReport> {
  checkArguments('amendImage', { image: [image, SOURCE], values: [values, CONFIG], options: [options, OPTIONS] });
  checkLocking({ ...options, mode: 'write' });
  const own = await resolve(options);
  const { environment } = own;
  const source = environment.sourceOf(image);
  // Its data file may have gone where the new name says.
  const opened = await openImage(source, { ...own, mode: 'write', withoutData: true });
  const { format } = opened;
  try {
    const amend = amendable(opened, environment.registry.find(format), values);
    requireWritable(opened);
    await requireSystemLocks(opened.image.storages(), own);
    await amend(values, { signal: environment.signal, onProgress: options.onProgress });
  } finally {
    await opened.image.close();
  }
  return inspectImage(source, { environment: environment.with({ signal: undefined }), format });
}

function amendable({ image, name }: OpenedImage, format: Format, values: Config): NonNullable<Image['amend']> {
  if (image.amend === undefined || format.amendKeys === undefined) {
    throw new ImageError('unsupported', `Images of format ${format.name} have no options to change`, {
      path: name,
      hint: 'To change metadata, use setImage (on the command line: set); for anything else, convert the image.',
    });
  }
  checkFormatConfig(format, values, 'amend');
  if (Object.keys(values).length > 0) return image.amend.bind(image);
  throw new ImageError('invalid-argument', 'No option to change was given', {
    path: name,
    hint: `Options: ${format.amendKeys.map((key) => key.name).join(', ')}.`,
  });
}
