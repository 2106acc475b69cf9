/** Links to parents: what an image stores of its parent, and the comparison with an image that may be it. */
import { withoutScheme } from '../storage/gate.ts';
import type { Image, ImageInfo } from './contract.ts';

/** Parent of an image as the image stores it. */
export interface ParentReference {
  /** Names in the order in which they are tried; relative ones count from the image's directory. */
  readonly names: readonly string[];
  /**
   * Name of a file beside the image, tried where `names` lead nowhere: the last part of a name from another system. Only
   * an image with every identity that is stored here is taken for the parent.
   */
  readonly beside: string | null;
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
  readonly format: string | null;
  /** Identity of the parent's content: see `ImageInfo.contentId`. */
  readonly contentId: string | null;
  /** Without a format: the image has no place for one, so that the parent's is found by looking. Default false. */
  readonly formatDetected?: boolean | undefined;
  /** The parent is another image of the same directory, by its id there; nothing else is stored of it. */
  readonly member?: string | undefined;
}

/** Identities of an image that may be a parent. */
export type ParentIdentity = Pick<ImageInfo, 'uuid' | 'modificationUuid' | 'contentId'>;

/** `same`: all identities match; `changed`: the image was written since the child was made; `other`: another image. */
export type ParentVerdict = 'same' | 'changed' | 'other';

/** A parent as its children may refer to it. */
export interface ParentLink {
  /** Name as the provider of the child resolves it. */
  readonly name: string;
  readonly format: string;
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
  readonly contentId?: string | null | undefined;
  /** Last write to the file, in milliseconds since 1970; only for a new child. Null when unknown. */
  readonly modifiedMs?: number | null | undefined;
  /** Id of the image among several in a directory, whose name is `name`. */
  readonly member?: string | undefined;
}

type Links = Pick<ImageInfo, 'parent' | 'parentUuid' | 'parentModificationUuid' | 'parentName' | 'parentFormat'>;

/** Links of an image to its parent, whatever its format; null where it stores none. */
export function parentReference(own: Partial<ParentReference>): ParentReference {
  return { names: [], beside: null, uuid: null, modificationUuid: null, format: null, contentId: null, ...own };
}

/** Members of `ImageInfo` about the parent, from what the image stores of it. */
export function parentLinks(parent: ParentReference | null): Links {
  return {
    parent,
    parentUuid: parent?.uuid ?? null,
    parentModificationUuid: parent?.modificationUuid ?? null,
    parentName: parent?.names[0] ?? null,
    parentFormat: parent?.format ?? null,
  };
}

/** Names of the parent, in the order in which they are tried. */
export function parentNames({ parent }: Pick<ImageInfo, 'parent'>): readonly string[] {
  return parent?.names ?? [];
}

/** Names under which the parent may lie, in the order in which they are tried. */
export function possibleNames({ parent }: Pick<ImageInfo, 'parent'>): readonly string[] {
  const { names = [], beside = null } = parent ?? {};
  return beside === null ? names : [...names, beside];
}

/** Treatment of identities that an image does not have. */
export interface JudgeOptions {
  /**
   * An identity that the child stores and the image lacks counts as different. For a choice among several images; for
   * the one that was opened as the parent, what one of the two does not store does not count (the default).
   */
  readonly requireStored?: boolean | undefined;
}

/** Verdict about an image as the parent of another. */
export function judgeParent(
  child: Pick<Image, 'info' | 'judgeParent'>,
  found: ParentIdentity,
  { requireStored = false }: JudgeOptions = {},
): ParentVerdict {
  if (child.judgeParent !== undefined) return child.judgeParent(found);
  const { parentUuid, parentModificationUuid, parent } = child.info;
  const differ = (stored: string | null | undefined, own: string | null | undefined): boolean =>
    typeof stored === 'string' && (requireStored || typeof own === 'string') && stored !== own;
  if (differ(parentUuid, found.uuid)) return 'other';
  const sameUuid = parentUuid !== null && found.uuid !== null;
  if (sameUuid && differ(parentModificationUuid, found.modificationUuid)) return 'changed';
  return differ(parent?.contentId, found.contentId) ? 'changed' : 'same';
}

/** Stored form of the name of a parent, for an image in `directory`: relative for files there or below. */
export function storedName(directory: string, parent: string): string {
  const prefix = directory.endsWith('/') ? directory : `${directory}/`;
  return parent.startsWith(prefix) ? withoutScheme(parent.slice(prefix.length)) : parent;
}

/** Two names of a parent, for formats that store both; null: there is none of this form. */
export interface NamesOfParent {
  readonly relative: string | null;
  readonly absolute: string | null;
}

/** A name that does not count from a directory: of Unix, of Windows, or with a scheme. */
const ABSOLUTE = /^([/\\]|[a-z]:|[a-z][a-z0-9+.-]*:\/\/)/i;
const DRIVE = /^[a-z]:[/\\]/i;

/** Both names of a parent for an image in `directory`. The relative one leads up and down again where it has to. */
export function namesOfParent(directory: string, name: string): NamesOfParent {
  if (name === '') return { relative: null, absolute: null };
  const stored = storedName(directory, name);
  if (stored !== name) return { relative: stored, absolute: name };
  if (ABSOLUTE.test(name)) return { relative: climbing(directory, name), absolute: name };
  return { relative: name, absolute: `${directory.replace(/\/$/, '')}/${name}` };
}

/** The way from a directory to a file of the same root; null: there is none. */
function climbing(directory: string, name: string): string | null {
  const isWindows = DRIVE.test(name);
  if (!isWindows && !(name.startsWith('/') && directory.startsWith('/'))) return null;
  const steps = (path: string): string[] => path.split(isWindows ? /[/\\]/ : '/').filter((step) => step !== '');
  const [from, to] = [steps(directory), steps(name)];
  const same = (at: number): boolean =>
    isWindows ? from[at]?.toLowerCase() === to[at]?.toLowerCase() : from[at] === to[at];
  let common = 0;
  while (common < Math.min(from.length, to.length - 1) && same(common)) common++;
  if (isWindows && common === 0) return null;
  return [...from.slice(common).map(() => '..'), ...to.slice(common)].join('/');
}
