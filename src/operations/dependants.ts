/** Files in the directory of an image that name it, opened in order to store its new name. */

import { requireWritable } from '../disk/change/stack.ts';
import type { ImageBeside, ImagesBeside, SearchExtent } from '../disk/open/beside.ts';
import type { Environment } from '../disk/open/environment.ts';
import { openImage } from '../disk/open/open-image.ts';
import { describeError, isImageError } from '../errors.ts';
import type { Image } from '../image/contract.ts';
import { parentNames } from '../image/parent.ts';
import type { Source } from '../storage/contract.ts';
import { isPlainName } from '../storage/gate.ts';
import { extentOf, lookAround, lookInto, placesOf } from './siblings.ts';
import { bestName, isLink, placeOf } from './stored-names.ts';

/** An image that stores a name of the moving one, open for writing, with its new content. */
export interface Dependant {
  readonly name: string;
  readonly image: Image;
  readonly names: ReadonlyMap<string, string>;
}

/** All dependants of an image. */
export interface Dependants extends SearchExtent {
  readonly open: readonly Dependant[];
  /** Those that cannot store another name, with the reason. */
  readonly stuck: readonly { readonly name: string; readonly reason: string }[];
  /** Those that refer to it as their parent by UUID. */
  readonly byUuid: readonly string[];
}

/** The image that moves. */
export interface Moving {
  readonly source: Source;
  readonly key: string;
  readonly uuid: string | null;
}

/** Finds and opens images that refer to the old name. Close them with `closeDependants`. */
export async function openDependants(moving: Moving, to: Source, environment: Environment): Promise<Dependants> {
  const open: Dependant[] = [];
  const stuck: { name: string; reason: string }[] = [];
  const byUuid: string[] = [];
  const seen = new Set<string>([moving.key]);
  const here = await lookAround(moving.source, environment, new Map([[moving.source.name, null]]));
  const there = await lookAtTarget(moving.source, to, environment);
  try {
    const affected = await affectedNames(moving.source);
    for await (const neighbour of both(here, there)) {
      if (seen.has(neighbour.key)) continue;
      const names = await affected(neighbour);
      if (names.length === 0) {
        const { parentUuid } = neighbour.info;
        if (neighbour.beside !== here || parentUuid === null || parentUuid !== moving.uuid) continue;
        byUuid.push(neighbour.name);
      } else {
        const one = await openDependant(neighbour.name, names, to, environment);
        if ('reason' in one) stuck.push(one);
        else open.push(one);
      }
      seen.add(neighbour.key);
    }
  } catch (error) {
    await closeDependants({ open });
    throw error;
  }
  const byName = (one: { name: string }, other: { name: string }): number => (one.name < other.name ? -1 : 1);
  return {
    open: open.sort(byName),
    stuck: stuck.sort(byName),
    byUuid: byUuid.sort(),
    ...extentOf(here.complete && there !== null ? there : here),
  };
}

/** The files in the target's directory, since the image may have come from there; null when it is the same. */
async function lookAtTarget(from: Source, to: Source, environment: Environment): Promise<ImagesBeside | null> {
  const { provider } = to;
  if (from.provider !== provider) return null;
  const now = await provider.realName(provider.directory(to.name));
  const old = await provider.realName(provider.directory(from.name));
  return old === now ? null : lookInto(now, to, environment);
}

async function* both(
  here: ImagesBeside,
  there: ImagesBeside | null,
): AsyncGenerator<ImageBeside & { readonly beside: ImagesBeside }> {
  for (const beside of [here, there]) {
    if (beside === null) continue;
    for await (const one of beside) yield { ...one, beside };
  }
}

/** Closes all of them, even if one fails. */
export async function closeDependants({ open }: Pick<Dependants, 'open'>): Promise<void> {
  await Promise.allSettled(open.map(({ image }) => image.close()));
}

/**
 * Decides which stored names of a neighbour lead to the image by the old name: another hard link stays as it is, and a
 * link in its place moves without the file.
 */
async function affectedNames({ provider, name }: Source): Promise<(file: ImageBeside) => Promise<string[]>> {
  const link = await isLink(provider, name);
  const wanted = await (link ? placeOf(provider, name) : provider.realName(name));
  const leadsHere = async (stored: string, file: ImageBeside): Promise<boolean | null> => {
    let found: boolean | null = null;
    for (const place of await placesOf(provider, file.name)) {
      const meant = provider.resolve(stored, place);
      if ((await provider.lookUp(meant)) === null) continue;
      found ||= (await (link ? placeOf(provider, meant) : provider.realName(meant))) === wanted;
    }
    return found;
  };
  return async (file) => {
    const found: string[] = [];
    const [lost, beside] = [new Set<string>(), file.info.parent?.beside ?? null];
    for (const stored of file.named.filter(isPlainName)) {
      const here = await leadsHere(stored, file);
      if (here === true) found.push(stored);
      if (here === null) lost.add(stored);
    }
    // A name from another system: the child finds the file beside it by the last part.
    const hint = parentNames(file.info).find((one) => lost.has(one));
    if (hint !== undefined && beside !== null && (await leadsHere(beside, file)) === true) found.push(hint);
    return [...new Set(found)];
  };
}

async function openDependant(
  name: string,
  stored: readonly string[],
  to: Source,
  environment: Environment,
): Promise<Dependant | { readonly name: string; readonly reason: string }> {
  const source: Source = { provider: to.provider, name };
  if (await isLink(source.provider, name))
    return { name, reason: 'it is a symbolic link to a file in another directory' };
  try {
    const opened = await openImage(source, {
      environment: environment.with({ allow: 'none' }),
      mode: 'write',
      withoutData: true,
    });
    const { image } = opened;
    try {
      requireWritable(opened);
      if (image.readdress !== undefined) {
        const other = await bestName(source, to.name);
        return { name, image, names: new Map(stored.map((one) => [one, other])) };
      }
      await image.close();
      return { name, reason: `images of format ${opened.format} cannot store another name` };
    } catch (error) {
      await image.close();
      throw error;
    }
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    return { name, reason: describeError(error) };
  }
}
