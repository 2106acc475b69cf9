/** The parent stored in an image: resolved relative to it, opened through the gate, in the recorded format. */
import { assert, ImageError, isImageError, printable } from '../../errors.ts';
import type { Format } from '../../image/contract.ts';
import { judgeParent, parentNames, possibleNames } from '../../image/parent.ts';
import { isPlainName } from '../../storage/gate.ts';
import type { DiskOpenOptions } from '../options.ts';
import { type Resolved, settingsOf } from './environment.ts';
import { type ChosenFormat, type ImageFile, type OpenedImage, withImageFile } from './image-file.ts';

/** A stored parent and its child. */
export interface StoredParent {
  readonly child: OpenedImage;
  readonly options: Resolved<DiskOpenOptions> & { readonly infoOnly?: boolean | undefined };
  /** Format given by the caller for this parent. */
  readonly format: string | undefined;
  /** The child is the last image of the chain. */
  readonly first: boolean;
}

/**
 * Opens the parent: the first stored name that leads to an image, unless that is another one; else the file beside the
 * image that has the stored identities. Throws `denied` when the gate
 * rejects it, or when its format is not recorded, although the image has a place for it, and it looks like more than a raw
 * disk: a guest can write a header into a raw disk to make its host open other files.
 */
export async function openStoredParent(stored: StoredParent): Promise<OpenedImage> {
  const { image } = stored.child;
  if (image.info.parent?.member !== undefined) return openMember(stored, image.info.parent.member);
  const names = parentNames(image.info);
  const failures: unknown[] = [];
  for (const [at, name] of possibleNames(image.info).entries()) {
    const parent = await openByName(stored, name).catch((error: unknown) => {
      if (!leadsNowhere(error)) throw error;
      failures.push(error);
      return null;
    });
    if (parent === null) continue;
    // The last one is left to the policy of the caller, who names the difference.
    if (at === names.length - 1) return parent;
    const isNamed = at < names.length;
    const verdict = judgeParent(image, parent.image.info, { requireStored: !isNamed });
    if (isNamed ? verdict !== 'other' : verdict === 'same') return parent;
    await parent.image.close();
  }
  assert(failures.length > 0, 'an image without any link to its parent was refused');
  throw isMissing(failures[0]) ? missingParent(stored, names) : failures[0];
}

/** Opens the parent in the same directory, which is the child's own: it needs no permission. */
async function openMember({ child, options }: StoredParent, member: string): Promise<OpenedImage> {
  const { provider, name } = child.source;
  const format = options.environment.registry.find(child.format);
  const how = { ...options, mode: 'read', gate: child.gate } as const;
  return withImageFile({ provider, name, member }, how, (file) =>
    file.open(
      { format, recognisedBy: `${child.name} lists it`, guessed: false, warnings: [] },
      { settings: settingsOf(options) },
    ),
  );
}

function isMissing(error: unknown): boolean {
  return isImageError(error) && error.kind === 'not-found';
}

function missingParent({ child, first }: StoredParent, names: readonly string[]): ImageError {
  const { provider } = child.source;
  const places = names.map((name) => printable(isPlainName(name) ? provider.resolve(name, child.name) : name));
  const name = first
    ? 'Name the parent where it is now (parent; on the command line: --parent)'
    : 'Name all images below the last one where they are now, base first (parent; on the command line: --chain)';
  return new ImageError('not-found', `The parent of this image is missing: there is no ${places.join(', ')}`, {
    path: child.name,
    field: 'parent',
    found: names.map(printable).join(', '),
    hint: `${name}. To store its name in the image: "vdkit rebase IMAGE --unsafe --to PARENT".`,
  });
}

function leadsNowhere(error: unknown): boolean {
  return isImageError(error) && (error.kind === 'not-found' || error.kind === 'denied');
}

async function openByName({ child, options, format }: StoredParent, name: string): Promise<OpenedImage> {
  const { provider } = child.source;
  const wanted = isPlainName(name) ? provider.resolve(name, child.name) : name;
  const namedBy = { gate: child.gate, from: child.source, role: 'parent image' };
  return withImageFile({ provider, name: wanted }, { ...options, mode: 'read', namedBy }, async (file) => {
    const chosen = await chooseFormat(file, child, { options, format });
    return file.open(chosen, { settings: settingsOf(options) });
  });
}

async function chooseFormat(
  file: ImageFile,
  child: OpenedImage,
  { options, format }: Pick<StoredParent, 'options' | 'format'>,
): Promise<ChosenFormat> {
  const { registry } = options.environment;
  const said = (found: Format, by: string) => ({ format: found, recognisedBy: by, guessed: false, warnings: [] });
  if (format !== undefined) return said(registry.find(format), 'the caller named it');
  const recorded = child.image.info.parentFormat;
  if (recorded !== null) {
    const known = registry.formats.find((one) => one.name === recorded || one.aliases.includes(recorded));
    if (known !== undefined) return said(known, `${child.name} names it`);
    throw new ImageError('unsupported', `The format of the parent, "${printable(recorded)}", is not supported`, {
      path: child.name,
      field: 'parent format',
      hint: 'Specify it with parentFormat (on the command line: --parent-format).',
    });
  }
  const outcome = await file.probe();
  const { guessed } = outcome;
  if (guessed || child.image.info.parent?.formatDetected === true) {
    return { ...said(outcome.format, outcome.answer.reason), guessed };
  }
  throw new ImageError(
    'denied',
    'The image does not record the format of its parent, and the parent does not look like a raw disk',
    {
      path: child.name,
      field: 'parent format',
      found: `${outcome.format.name} (${outcome.answer.reason})`,
      hint: 'Specify it with parentFormat (on the command line: --parent-format) if you trust the parent.',
    },
  );
}
