/** The parents of an image: those that the caller lists, those that an image names, and those with the stored UUIDs. */
import {
  describeError,
  type ErrorContext,
  type ErrorKind,
  ImageError,
  isImageError,
  throwIfAborted,
} from '../../errors.ts';
import { judgeParent, parentNames } from '../../image/parent.ts';
import { ofParent } from '../../image/probe.ts';
import { LIMITS } from '../../limits.ts';
import type { DiskOpenOptions, ImageEntry, ImageInput } from '../options.ts';
import { entryOf, type Resolved, settingsOf } from './environment.ts';
import type { OpenedImage } from './image-file.ts';
import { openStoredParent } from './named-parent.ts';
import { openImage } from './open-image.ts';
import { ParentSearch } from './parent-search.ts';

/** A list of entries from one image or several. */
export function entryList(source: ImageInput | readonly ImageInput[]): readonly ImageEntry[] {
  return isList(source) ? source.map(entryOf) : [entryOf(source)];
}

function isList(source: ImageInput | readonly ImageInput[]): source is readonly ImageInput[] {
  return Array.isArray(source);
}

/** Options for opening parents. */
export interface ParentOptions extends Resolved<DiskOpenOptions> {
  /** The parents decide what is stored in another image, so none may be a guess. */
  readonly changes?: boolean | undefined;
}

interface Search {
  readonly options: ParentOptions;
  readonly search: ParentSearch;
  readonly changes: boolean;
}

/** Opens parents until a base is reached and appends them: last image first. Returns warnings. */
export async function openParents(
  opened: OpenedImage[],
  named: readonly ImageEntry[],
  options: ParentOptions,
): Promise<string[]> {
  const found: Search = { options, search: new ParentSearch(options), changes: options.changes === true };
  const warnings: string[] = [];
  const rest = options.parent !== undefined && named.length === 0 ? [...entryList(options.parent)] : [...named];
  for (let child = opened.at(-1); child !== undefined; child = opened.at(-1)) {
    throwIfAborted(options.environment.signal, 'Opening');
    const next = rest.pop();
    if (next === undefined) await refuseAlone(child, options);
    if (next === undefined && !child.image.info.differencing) return warnings;
    if (next === undefined && isUnlinked(child)) return [...warnings, ...allowUnlinked(child, opened, options)];
    if (next === undefined && options.withoutParents === true) return warnings;
    if (opened.length >= LIMITS.chainDepth) throw tooDeep(child);
    const opening =
      next === undefined ? findParent(child, opened, found) : openNamedParent(next, opened.length === 1, options);
    const answer = await (options.withoutDamagedParents === true ? opening.catch(withoutIt(child)) : opening);
    if ('lost' in answer) return [...warnings, answer.lost];
    const { parent, warnings: doubts } = answer;
    opened.push(parent);
    for (const doubt of doubts) warnings.push(doubt);
    refuseLoop(opened);
    if (options.linkage !== 'off') checkLink(child, parent, options.linkage === 'strict' ? null : warnings);
  }
  return warnings;
}

/** Failures of opening a parent that leave its children readable. */
const PARENT_LOST: ReadonlySet<ErrorKind> = new Set(['corrupt', 'invalid-format', 'io', 'limit', 'not-found']);

/** The warning about a parent that is left out. */
function withoutIt({ name }: OpenedImage): (error: unknown) => { readonly lost: string } {
  return (error) => {
    if (!isImageError(error) || !PARENT_LOST.has(error.kind)) throw error;
    return { lost: `The parent of ${name} is left out, and what it holds is missing: ${describeError(error)}.` };
  };
}

/** True for an image with a parent that it does not identify. */
export function isUnlinked({ image }: Pick<OpenedImage, 'image'>): boolean {
  const { differencing, parentUuid, parent } = image.info;
  return differencing && parentUuid === null && parent?.member === undefined && parentNames(image.info).length === 0;
}

/**
 * A parent without a link is not searched for, and data read without it may be wrong: the caller must decide. Writes
 * without it could hide parent data around the written bytes.
 */
function allowUnlinked(child: OpenedImage, opened: readonly OpenedImage[], options: ParentOptions): string[] {
  if (options.infoOnly === true) return [];
  const writes = opened[0]?.image.can.write === true;
  if (!writes && options.withoutParents === true) return [];
  const none = options.parent !== undefined && entryList(options.parent).length === 0;
  if (!writes && none && opened.length === 1) {
    return [`${child.name} is read without its parent: ranges that it does not store read as zero.`];
  }
  const name =
    opened.length === 1
      ? 'Name the parent (parent; on the command line: --parent)'
      : 'Name all images below the last one, base first (parent; on the command line: --chain)';
  const whole =
    'if it is complete, make a base of it (setImage with parent null; on the command line: set --parent none)';
  const read = 'or read it as it is (parent: []; on the command line: --parent none)';
  throw new ImageError('not-found', 'The differencing image does not identify its parent', {
    path: child.name,
    hint: `${name}; ${whole}${opened.length > 1 || writes ? '' : `, ${read}`}.`,
  });
}

/** A file of a directory shows too little without the images below it there; the caller may say that it is to be read so. */
async function refuseAlone({ name, listedIn }: OpenedImage, options: ParentOptions): Promise<void> {
  const { parent, infoOnly, withoutParents } = options;
  if (listedIn?.hasParent !== true || parent !== undefined || infoOnly === true || withoutParents === true) return;
  const { listedAlone } = await import('./listed-file.ts');
  throw listedAlone(name, listedIn);
}

function tooDeep(child: OpenedImage): ImageError {
  return new ImageError('limit', 'The chain of images is too long', {
    path: child.name,
    expected: `at most ${LIMITS.chainDepth} images`,
  });
}

async function openNamedParent(
  entry: ImageEntry,
  first: boolean,
  options: ParentOptions,
): Promise<{ readonly parent: OpenedImage; readonly warnings: readonly string[] }> {
  const source = options.environment.sourceOf(entry.image);
  const { parentFormat, format: _format, ...rest } = options;
  const format = entry.format ?? (first ? parentFormat : undefined);
  const parent = await openImage(source, {
    ...rest,
    mode: 'read',
    settings: settingsOf(options, entry),
    format,
  }).catch((error: unknown) => {
    throw ofParent(error);
  });
  return { parent, warnings: [] };
}

function refuseLoop(opened: readonly OpenedImage[]): void {
  const parent = opened.at(-1);
  const seen = opened.findIndex((entry) => entry.key === parent?.key);
  if (parent === undefined || seen === opened.length - 1) return;
  throw new ImageError('corrupt', 'The image is its own parent', {
    path: parent.name,
    hint: 'Specify the right parent with --parent.',
  });
}

/** Compares a parent with the stored links. Later writes to it are refused where warnings are impossible. */
function checkLink(child: OpenedImage, parent: OpenedImage, warnings: string[] | null): void {
  const verdict = judgeParent(child.image, parent.image.info);
  if (verdict === 'same') return;
  const details = { status: 'VERR_VD_UUID_MISMATCH', path: child.name, ...difference(child, parent) };
  if (verdict === 'other') {
    throw new ImageError('corrupt', 'The parent does not match: this image was created from another one', {
      ...details,
      hint: 'Specify the right parent with --parent.',
    });
  }
  if (warnings === null) {
    throw new ImageError('corrupt', 'The parent was modified after this image was created from it', {
      ...details,
      hint: 'The content may be inconsistent: restore the parent, or accept it (setImage; on the command line: set --parent).',
    });
  }
  warnings.push(
    `${parent.name} was modified after ${child.name} was created from it; the content may be inconsistent.`,
  );
}

/**
 * Compares an image with its parent, as far as that is found and may be opened. Null: they fit, it has none, or it
 * cannot be looked at. Nothing but the parent's headers is read.
 */
export async function judgeLink(child: OpenedImage, options: ParentOptions): Promise<'changed' | 'other' | null> {
  if (!child.image.info.differencing || isUnlinked(child)) return null;
  try {
    const { parent } = await findParent(child, [child], { options, search: new ParentSearch(options), changes: false });
    const verdict = judgeParent(child.image, parent.image.info);
    await parent.image.close();
    return verdict === 'same' ? null : verdict;
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    return null;
  }
}

/** The first identity in which a parent differs from the one that its child stores. */
function difference({ image }: OpenedImage, { image: parent, name }: OpenedImage): ErrorContext {
  const [stored, found] = [image.info, parent.info];
  const identities = [
    ['parent UUID', stored.parentUuid, found.uuid],
    ['parent modification UUID', stored.parentModificationUuid, found.modificationUuid],
    ['parent content ID', stored.parent?.contentId ?? null, found.contentId ?? null],
  ] as const;
  const [field, expected, other] =
    identities.find(([, wanted, is]) => wanted !== null && is !== null && wanted !== is) ?? [];
  return field === undefined ? {} : { field, found: `${other} (${name})`, expected: expected ?? undefined };
}

/** The parent that the child names, or the one with the stored UUIDs. */
async function findParent(
  child: OpenedImage,
  opened: readonly OpenedImage[],
  { options, search, changes }: Search,
): Promise<{ readonly parent: OpenedImage; readonly warnings: readonly string[] }> {
  const { parentUuid } = child.image.info;
  if (parentUuid === null) {
    const first = opened.length === 1;
    const format = first ? options.parentFormat : undefined;
    return { parent: await openStoredParent({ child, options, format, first }), warnings: [] };
  }
  const { parent, doubt } = await search.find({ child, uuid: parentUuid, opened });
  if (doubt === null) return { parent, warnings: [] };
  if (changes || opened[0]?.image.can.write === true || options.linkage === 'strict') {
    await parent.image.close();
    throw doubt;
  }
  return {
    parent: { ...parent, doubt },
    warnings: [
      `${child.name}: ${doubt.message}: ${doubt.context.found}. Using ${parent.name}; specify it with --parent to be sure.`,
    ],
  };
}
