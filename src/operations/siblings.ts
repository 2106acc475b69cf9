/**
 * Images in a directory that depend on an image. Links are stored in the child, so the headers of all neighbours must
 * be read: without a lock, and up to a limit.
 */
import { checkArguments } from '../arguments.ts';
import { SOURCE } from '../disk/kinds.ts';
import {
  boundsBeside,
  type ImageBeside,
  ImagesBeside,
  type LookBeside,
  type SearchExtent,
} from '../disk/open/beside.ts';
import { Environment } from '../disk/open/environment.ts';
import type { EnvironmentOptions, ImageSource } from '../disk/options.ts';
import { describeError } from '../errors.ts';
import type { ImageInfo } from '../image/contract.ts';
import { possibleNames } from '../image/parent.ts';
import type { Source, StorageProvider } from '../storage/contract.ts';
import { gateForNeighbours, isPlainName } from '../storage/gate.ts';
import { inspectImage } from './inspect.ts';
import { OPTIONS } from './option-kinds.ts';

/** The images in one directory that name an image as their parent. */
export interface Children extends SearchExtent {
  /** Their names, sorted. */
  readonly names: readonly string[];
}

/** Options for the search. */
export interface ChildrenOptions extends EnvironmentOptions {
  /** Format of the image. Default: probed. */
  readonly format?: string | undefined;
}

/** The image whose children are searched. */
export interface Parenthood {
  readonly source: Source;
  /** UUID that children store; null: they cannot. */
  readonly uuid: string | null;
  /** Distinguishes the image itself from its neighbours. */
  readonly key: string;
  /** Names of its parents, which are skipped. */
  readonly parents?: readonly string[];
}

/**
 * Finds the images in the directory of an image that name it as their parent. They can be read only with it, and only
 * while it is unchanged. Reads headers only, of regular files, whatever `allow` is.
 */
export async function childrenOf(image: ImageSource, options: ChildrenOptions = {}): Promise<Children> {
  checkArguments('childrenOf', { image: [image, SOURCE], options: [options, OPTIONS] });
  const environment = await Environment.of(options);
  const source = environment.sourceOf(image);
  return childrenIn(source, environment, options.format);
}

/** Like `childrenOf`, in an environment. */
export async function childrenIn(source: Source, environment: Environment, format?: string): Promise<Children> {
  const { uuid } = await inspectImage(source, { environment, format });
  const info = await source.provider.lookUp(source.name);
  return findChildren({ source, uuid, key: info?.key ?? '' }, environment);
}

/** Like `childrenOf`, for an image already opened. `also` sees the images around it, too, so that they are read once. */
export async function findChildren(
  parent: Parenthood,
  environment: Environment,
  also?: (image: ImageBeside) => Promise<void>,
): Promise<Children> {
  const { source, parents = [] } = parent;
  const key = await keyOfName(parent);
  const passed = new Map([source.name, ...parents].map((name) => [name, null]));
  const names: string[] = [];
  const images = await lookAround(source, environment, passed);
  for await (const image of images) {
    if (image.key === key) continue;
    if (isParent(await linkOf(image, source), { ...parent, key })) names.push(image.name);
    await also?.(image);
  }
  return { names: names.sort(), ...extentOf(images) };
}

/** The key of what children name: for one of several images in a directory, that of the directory. */
async function keyOfName({ source, key }: Parenthood): Promise<string> {
  if (source.configuration !== undefined) return key;
  const info = await source.provider.lookUp(source.name);
  return info?.kind === 'directory' ? info.key : key;
}

/** The parent link of an image. */
export interface LinkToParent {
  readonly parentUuid: string | null;
  /** Keys of the files named as parent, seen from each name of the child. */
  readonly parentKeys: ReadonlySet<string>;
}

/** Extent of a search that has ended. */
export function extentOf({ complete, obstacle }: SearchExtent): SearchExtent {
  return obstacle === undefined ? { complete } : { complete, obstacle };
}

/** True when a file names an image as its parent. */
export function isParent(child: LinkToParent, { uuid, key }: Pick<Parenthood, 'uuid' | 'key'>): boolean {
  return (child.parentUuid !== null && child.parentUuid === uuid) || child.parentKeys.has(key);
}

/** The images in the directory of an image, whatever the caller's gate permits: only headers are read. */
export async function lookAround(
  from: Source,
  environment: Environment,
  known?: LookBeside['known'],
): Promise<ImagesBeside> {
  return new ImagesBeside({
    from,
    gate: gateForNeighbours(),
    role: 'neighbour',
    environment,
    ...(known === undefined ? {} : { known }),
  });
}

/** Like {@link lookAround}, for any directory of a provider. */
export function lookInto(directory: string, from: Source, environment: Environment): ImagesBeside {
  const { provider } = from;
  const listing = { ...gateForNeighbours(), candidates: () => provider.list(directory) };
  return new ImagesBeside({ from, gate: listing, role: 'neighbour', environment });
}

/** An image, with its parent link. */
interface NamedLinks {
  readonly name: string;
  readonly info: Pick<ImageInfo, 'parentUuid' | 'parent'>;
}

/** The parent link of an image. */
export async function linkOf({ name, info }: NamedLinks, from: Source): Promise<LinkToParent> {
  return { parentUuid: info.parentUuid, parentKeys: await keysOfParent(from, name, possibleNames(info)) };
}

/** The names that stored names are relative to: the given one, and where that is a link, the file's own. */
export async function placesOf(provider: StorageProvider, name: string): Promise<ReadonlySet<string>> {
  const info = await provider.lookUp(name);
  return new Set(info === null ? [name] : [name, await provider.realName(name)]);
}

/** Looked up, never opened. */
async function keysOfParent({ provider }: Source, child: string, names: readonly string[]): Promise<Set<string>> {
  const keys = new Set<string>();
  for (const place of await placesOf(provider, child)) {
    for (const name of names.filter(isPlainName)) {
      const found = await provider.lookUp(provider.resolve(name, place));
      if (found === null) continue;
      keys.add(found.key);
      break;
    }
  }
  return keys;
}

/** A sentence for each child affected by a change of its parent. */
export function childrenWarnings(label: string, children: Children): string[] {
  const warnings = children.names.map(
    (name) => `${name} depends on ${label}: changing ${label} changes the data read through ${name}.`,
  );
  return children.complete ? warnings : [...warnings, incompleteWarning(label, children)];
}

/** Warning for an incomplete search. */
export function incompleteWarning(label: string, { obstacle }: SearchExtent): string {
  if (obstacle !== undefined) {
    const reason = describeError(obstacle);
    return `The directory of ${label} cannot be searched (${reason}); images there may depend on it.`;
  }
  return `Only ${boundsBeside()} in the directory of ${label} were examined; others may depend on it, too.`;
}
