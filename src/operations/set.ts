/** Changing image metadata: comment, UUIDs, geometry, parent. The data stays. */
import { checkArguments } from '../arguments.ts';
import { normalizeGuid, randomGuid } from '../binary/guid.ts';
import { requireWritable } from '../disk/change/stack.ts';
import { SOURCE } from '../disk/kinds.ts';
import { type Resolved, resolve } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { checkLocking } from '../disk/open/locking.ts';
import { openImage } from '../disk/open/open-image.ts';
import type { EnvironmentOptions, ImageReport, ImageSource, SharingOptions } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Image, ImageChanges, ImageInfo, ParentLink } from '../image/contract.ts';
import type { Geometry } from '../image/geometry.ts';
import type { Source } from '../storage/contract.ts';
import { chainFilesOf } from './chain-files.ts';
import { inspectImage } from './inspect.ts';
import { OPTIONS } from './option-kinds.ts';
import { childrenWarnings, findChildren } from './siblings.ts';

/** Changes. Absent: unchanged; null: removed. UUIDs may be the word `random`. */
export interface SetChanges {
  readonly comment?: string | null | undefined;
  readonly uuid?: string | null | undefined;
  readonly modificationUuid?: string | null | undefined;
  readonly parentUuid?: string | null | undefined;
  readonly parentModificationUuid?: string | null | undefined;
  readonly geometry?:
    | { readonly physical?: Geometry | null | undefined; readonly logical?: Geometry | null | undefined }
    | undefined;
  /**
   * Makes the image a child of this one, after checking that they fit; null: a base. The disk reads differently where
   * the parents differ: see `rebaseImage`.
   */
  readonly parent?: ImageSource | null | undefined;
}

/** Options for changing metadata. */
export interface SetOptions extends EnvironmentOptions, SharingOptions {
  /** Default: probed. */
  readonly format?: string | undefined;
  readonly parentFormat?: string | undefined;
}

/**
 * Changes image metadata atomically and durably, and reports on the changed image. The data stays, and so does the
 * modification UUID unless changed explicitly. The report warns of images that name this one as their parent. Throws
 * `unsupported` if the format cannot store a value, `invalid-argument`, `read-only`, `locked`.
 */
export async function setImage(
  image: ImageSource,
  changes: SetChanges,
  options: SetOptions = {},
): Promise<ImageReport> {
  checkArguments('setImage', { image: [image, SOURCE], changes: [changes, OPTIONS], options: [options, OPTIONS] });
  const own = await resolve(options);
  return setIn(own.environment.sourceOf(image), changes, own);
}

/** Like `setImage`, in an environment. */
export async function setIn(source: Source, changes: SetChanges, options: Resolved<SetOptions>): Promise<ImageReport> {
  const { environment, format: wanted, shareable, forceShare } = options;
  checkLocking({ forceShare, mode: 'write' });
  const how = { environment, format: wanted, shareable, forceShare, mode: 'write' } as const;
  const opened = await openImage(source, how);
  let warnings: string[] = [];
  try {
    const { info } = opened.image;
    const { parent, ...facts } = changes;
    requireWritable(opened);
    const values = resolved(facts);
    const some = Object.values(values).some((value) => value !== undefined);
    const set = some ? settable(opened) : null;
    const link = parent === undefined ? undefined : await linkFor(opened, parent, options);
    warnings = oddities(values);
    if (link !== undefined || concernsChildren(values)) {
      const children = await findChildren({ source, uuid: info.uuid, key: opened.key }, environment);
      warnings = [...warnings, ...childrenWarnings(source.name, children)];
    }
    await set?.(values);
    if (link !== undefined) await linkable(opened)(link);
  } finally {
    await opened.image.close();
  }
  const { format } = opened;
  const report = await inspectImage(source, { environment, format });
  return { ...report, warnings: [...report.warnings, ...warnings] };
}

function settable({ image, name, format }: OpenedImage): NonNullable<Image['set']> {
  if (image.set !== undefined) return image.set.bind(image);
  throw new ImageError('unsupported', `Images of format ${format} have no metadata to change`, {
    path: name,
    hint: 'Convert it to a format with metadata, such as vdi.',
  });
}

function linkable({ image, name, format }: OpenedImage): NonNullable<Image['relink']> {
  if (image.relink !== undefined) return image.relink.bind(image);
  throw new ImageError('unsupported', `Images of format ${format} cannot have a parent`, { path: name });
}

function resolved({ comment, geometry, ...uuids }: Omit<SetChanges, 'parent'>): ImageChanges {
  const links: Record<string, string | null> = {};
  for (const [name, value] of Object.entries(uuids)) {
    if (value !== undefined)
      links[name] = value === null ? null : value === 'random' ? randomGuid() : normalizeGuid(value);
  }
  return {
    ...links,
    comment,
    geometry,
  };
}

/** The link to a parent, after checking that it fits. */
async function linkFor(
  child: OpenedImage,
  parent: ImageSource | null,
  options: Resolved<SetOptions>,
): Promise<ParentLink | null> {
  linkable(child);
  if (parent === null) return null;
  const { parentFormat, environment } = options;
  const source = environment.sourceOf(parent);
  const report = await inspectImage(source, { environment, format: parentFormat });
  const found = await source.provider.lookUp(source.name);
  const below = await chainFilesOf(source, { environment, format: parentFormat });
  refuseMisfit(child, report, found?.key === child.key || below.keys.has(child.key));
  const { uuid, modificationUuid, contentId, format } = report;
  return { name: source.name, format, uuid, modificationUuid, contentId };
}

function refuseMisfit(child: OpenedImage, parent: ImageReport, isSame: boolean): void {
  const { info } = child.image;
  if (isSame || (info.uuid !== null && (parent.uuid === info.uuid || parent.parentUuid === info.uuid))) {
    throw new ImageError('invalid-argument', 'The image would be its own parent', {
      path: parent.file,
      hint: 'Specify the image that it was created from.',
    });
  }
  if (child.image.linksByUuid === true && parent.uuid === null) {
    throw new ImageError('invalid-argument', 'The parent has no UUID to store', {
      path: parent.file,
      hint: 'Give it a UUID first (vdkit set --uuid random), or specify the parent whenever you open the image (on the command line: --parent).',
    });
  }
  // Either of the two may have been resized since; but a link to another image needs a better reason.
  const known = parent.uuid !== null && parent.uuid === info.parentUuid;
  if (parent.virtualSize === info.virtualSize || known || info.uuid === null) return;
  throw new ImageError('invalid-argument', 'The sizes of parent and image differ', {
    path: parent.file,
    found: `${parent.virtualSize} bytes`,
    expected: `${info.virtualSize} bytes`,
    hint: 'If it is the right parent, set its UUID instead (on the command line: --parent-uuid).',
  });
}

function oddities(changes: ImageChanges): string[] {
  const warnings: string[] = [];
  if (changes.uuid === null) warnings.push('Without a UUID this image cannot be the parent of a differencing image.');
  if (changes.modificationUuid === null) warnings.push('VirtualBox refuses images without a modification UUID.');
  return warnings;
}

/** Comment and geometry do not concern children. */
function concernsChildren(changes: ImageChanges): boolean {
  const links: readonly (keyof ImageInfo & keyof ImageChanges)[] = ['uuid', 'modificationUuid', 'parentUuid'];
  return links.some((name) => changes[name] !== undefined);
}
