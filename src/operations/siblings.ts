/**
 * The images beside an image that were made from it. Links to a parent are stored in the child, so the only way to
 * know is to look at the neighbours: their headers, without a lock, and never more of them than a limit.
 */
import { checkArguments } from '../arguments.ts';
import { SOURCE } from '../disk/kinds.ts';
import { boundsBeside, ImagesBeside, type LookBeside } from '../disk/open/beside.ts';
import { gateOf, sourceOf } from '../disk/open/environment.ts';
import type { EnvironmentOptions, ImageSource } from '../disk/options.ts';
import type { ImageInfo } from '../image/contract.ts';
import type { Source } from '../storage/contract.ts';
import { isPlainName, openGate } from '../storage/gate.ts';
import { inspect } from './inspect.ts';
import { OPTIONS } from './option-kinds.ts';

/** The images in one directory that name an image as their parent. */
export interface Children {
  /** Their names, sorted. */
  readonly names: readonly string[];
  /** False: there were more neighbours than are looked at. */
  readonly complete: boolean;
}

/** How the image is named that children are looked for. */
export interface ChildrenOptions extends EnvironmentOptions {
  /** Format of the image. Default: probed. */
  readonly format?: string | undefined;
}

/** What is looked for. */
export interface Parenthood {
  readonly source: Source;
  /** As its children name it; null: they cannot. */
  readonly uuid: string | null;
  /** Tells the image itself from its neighbours. */
  readonly key: string;
  /** Names of its own parents: they are not looked at. */
  readonly parents?: readonly string[];
}

/**
 * Finds the images in the directory of an image that name it as their parent. They depend on it: they can be read only
 * with it, and only as long as it stays as it is. Reads headers only, of regular files, whatever `allow` says.
 */
export async function childrenOf(image: ImageSource, options: ChildrenOptions = {}): Promise<Children> {
  checkArguments('childrenOf', { image: [image, SOURCE], options: [options, OPTIONS] });
  const source = sourceOf(image, options);
  const { uuid } = await inspect(source, options);
  const info = await source.provider.lookUp(source.name);
  return findChildren({ source, uuid, key: info?.key ?? '' }, options);
}

/** As `childrenOf`, for an image that is known already. */
export async function findChildren(parent: Parenthood, options: EnvironmentOptions): Promise<Children> {
  const { source, key, parents = [] } = parent;
  const passed = new Map([source.name, ...parents].map((name) => [name, null]));
  const names: string[] = [];
  const images = await lookAround(source, options, passed);
  for await (const image of images) {
    if (image.key !== key && isParent(await linkOf(image, source), parent)) names.push(image.name);
  }
  return { names: names.sort(), complete: images.complete };
}

/** The parent of an image, as the image names it. */
export interface LinkToParent {
  readonly parentUuid: string | null;
  /** Key of the file that it names as its parent; null when it names none, or none that is there. */
  readonly parentKey: string | null;
}

/** Whether a file names an image as its parent. */
export function isParent(child: LinkToParent, { uuid, key }: Pick<Parenthood, 'uuid' | 'key'>): boolean {
  return (
    (child.parentUuid !== null && child.parentUuid === uuid) || (child.parentKey !== null && child.parentKey === key)
  );
}

/** The images in the directory of an image, whatever the caller's gate allows: they are looked at, and not read. */
export async function lookAround(
  from: Source,
  options: EnvironmentOptions,
  known?: LookBeside['known'],
): Promise<ImagesBeside> {
  const gate = await gateOf(['same-directory'], from);
  return new ImagesBeside({ from, gate, role: 'neighbour', options, ...(known === undefined ? {} : { known }) });
}

/** The same of any directory of a provider. */
export function lookInto(directory: string, from: Source, options: EnvironmentOptions): ImagesBeside {
  const { provider } = from;
  const gate = openGate({ roots: [directory], provider });
  const listing = { ...gate, candidates: () => provider.list(directory) };
  return new ImagesBeside({ from, gate: listing, role: 'neighbour', options });
}

/** An image, and how it names its parent. */
interface NamedLinks {
  readonly name: string;
  readonly info: Pick<ImageInfo, 'parentUuid' | 'parentName'>;
}

/** What an image names as its parent. */
export async function linkOf({ name, info }: NamedLinks, from: Source): Promise<LinkToParent> {
  return { parentUuid: info.parentUuid, parentKey: await keyOfParent(from, name, info.parentName) };
}

/** Looked up, never opened. */
async function keyOfParent({ provider }: Source, child: string, parentName: string | null): Promise<string | null> {
  if (parentName === null || !isPlainName(parentName)) return null;
  return (await provider.lookUp(provider.resolve(parentName, child)))?.key ?? null;
}

/** A sentence for each child that a change of its parent concerns. */
export function childrenWarnings(label: string, children: Children): string[] {
  const warnings = children.names.map(
    (name) => `${name} names ${label} as its parent, so what is changed here changes what is read there.`,
  );
  return children.complete ? warnings : [...warnings, incompleteWarning(label)];
}

/** What must be said when not all neighbours were looked at. */
export function incompleteWarning(label: string): string {
  return `Only ${boundsBeside()} beside ${label} were looked at; others may name it as their parent, too.`;
}
