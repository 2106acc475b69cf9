/**
 * The images beside an image that were made from it. Links to a parent are stored in the child, so the only way to
 * know is to look at the neighbours: their headers, without a lock, and never more of them than a limit.
 */
import { isImageError, throwIfAborted } from '../errors.ts';
import { probeFormat, readProbeInput } from '../image/probe.ts';
import { LIMITS } from '../limits.ts';
import type { Source } from '../storage/contract.ts';
import { isPlainName, type OpenGate, openGate } from '../storage/gate.ts';
import { gateOf, handedOver, registryOf, sourceOf } from './environment.ts';
import { inspect } from './inspect.ts';
import type { EnvironmentOptions, ImageSource } from './options.ts';

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
  readonly format?: string;
}

/** What is looked for. */
export interface Parenthood {
  readonly source: Source;
  /** As its children name it; null: they cannot. */
  readonly uuid: string | null;
  /** Tells the image itself from its neighbours. */
  readonly key: string;
}

/**
 * Finds the images in the directory of an image that name it as their parent. They depend on it: they can be read only
 * with it, and only as long as it stays as it is. Reads headers only, of regular files, whatever `allow` says.
 */
export async function childrenOf(image: ImageSource, options: ChildrenOptions = {}): Promise<Children> {
  const source = sourceOf(image, options);
  const { uuid } = await inspect(source, options);
  const info = await source.provider.lookUp(source.name);
  return findChildren({ source, uuid, key: info?.key ?? '' }, options);
}

/** As `childrenOf`, for an image that is known already. */
export async function findChildren(parent: Parenthood, options: EnvironmentOptions): Promise<Children> {
  const { source, key } = parent;
  const names: string[] = [];
  let seen = 0;
  for await (const neighbour of neighbours(source, options)) {
    seen++;
    if (neighbour.key !== key && isParent(neighbour, parent)) names.push(neighbour.name);
  }
  return { names: names.sort(), complete: seen < LIMITS.parentCandidates };
}

/** A file beside an image. */
export interface Neighbour {
  readonly name: string;
  readonly key: string;
  /** Its parent as it names it; null for everything that is no readable differencing image. */
  readonly parentUuid: string | null;
  /** Key of the file that it names as its parent; null when it names none, or none that is there. */
  readonly parentKey: string | null;
  /** All names of other files that it stores. */
  readonly named: readonly string[];
}

/** Whether a file names an image as its parent. */
export function isParent(child: Neighbour, { uuid, key }: Pick<Parenthood, 'uuid' | 'key'>): boolean {
  return (
    (child.parentUuid !== null && child.parentUuid === uuid) || (child.parentKey !== null && child.parentKey === key)
  );
}

/** The files in the directory of an image, each looked at once, with the parent that it names. */
export async function* neighbours(from: Source, options: EnvironmentOptions): AsyncGenerator<Neighbour> {
  const gate = await gateOf(['same-directory'], from);
  for await (const name of gate.candidates(from)) {
    throwIfAborted(options.signal, 'Looking for differencing images');
    yield await neighbourOf(name, { from, gate }, options);
  }
}

/** The same of the files in any directory of a provider. */
export async function* filesIn(
  directory: string,
  from: Source,
  options: EnvironmentOptions,
): AsyncGenerator<Neighbour> {
  const { provider } = from;
  const gate = openGate({ roots: [directory], provider });
  let count = 0;
  for await (const name of provider.list(directory)) {
    throwIfAborted(options.signal, 'Looking for images that name it');
    if (++count > LIMITS.parentCandidates) return;
    yield await neighbourOf(name, { from: { provider, name }, gate }, options);
  }
}

async function neighbourOf(
  name: string,
  { from, gate }: { readonly from: Source; readonly gate: OpenGate },
  options: EnvironmentOptions,
): Promise<Neighbour> {
  let key = '';
  try {
    const storage = await gate.open({ name, role: 'neighbour' }, from, 'read');
    try {
      key = (await storage.identity()).key;
      const { format, guessed } = probeFormat(await readProbeInput(storage, name), registryOf(options));
      if (guessed || !format.capabilities.diff || !format.capabilities.read) return noParent(name, key);
      // The format gets the handle that the gate judged, not the name.
      const judged = handedOver({ provider: from.provider, name }, () => Promise.resolve(storage));
      const image = await format.open(judged, { mode: 'read', gate, infoOnly: true, signal: options.signal });
      const { parentUuid, parentName } = image.info;
      const named = (image.references ?? []).map(({ stored }) => stored);
      await image.close();
      return { name, key, parentUuid, parentKey: await keyOfParent(from, name, parentName), named };
    } finally {
      await storage.close();
    }
  } catch (error) {
    if (isImageError(error) && error.kind !== 'aborted') return noParent(name, key);
    throw error;
  }
}

function noParent(name: string, key: string): Neighbour {
  return { name, key, parentUuid: null, parentKey: null, named: [] };
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
  return `Only ${LIMITS.parentCandidates} files beside ${label} were looked at; others may name it as their parent, too.`;
}
