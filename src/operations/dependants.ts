/** Files in the directory of an image that name it, opened in order to store its new name. */

import { requireWritable } from '../disk/change/stack.ts';
import type { ImageBeside } from '../disk/open/beside.ts';
import type { Environment } from '../disk/open/environment.ts';
import { openImage } from '../disk/open/open-image.ts';
import { describeError, isImageError } from '../errors.ts';
import type { Image } from '../image/contract.ts';
import type { Source } from '../storage/contract.ts';
import { isPlainName } from '../storage/gate.ts';
import { lookAround, lookInto } from './siblings.ts';
import { bestName, isLink, placeOf } from './stored-names.ts';

/** An image that stores a name of the moving one, open for writing, with its new content. */
export interface Dependant {
  readonly name: string;
  readonly image: Image;
  readonly names: ReadonlyMap<string, string>;
}

/** All dependants of an image. */
export interface Dependants {
  readonly open: readonly Dependant[];
  /** Those that cannot store another name, with the reason. */
  readonly stuck: readonly { readonly name: string; readonly reason: string }[];
  /** Those that refer to it as their parent by UUID. */
  readonly byUuid: readonly string[];
  /** False when a limit was reached. */
  readonly complete: boolean;
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
  try {
    const affected = await affectedNames(moving.source);
    for await (const neighbour of around(here, moving.source, to, environment)) {
      if (seen.has(neighbour.key)) continue;
      const names = await affected(neighbour);
      if (names.length === 0) {
        const { parentUuid } = neighbour.info;
        if (neighbour.there || parentUuid === null || parentUuid !== moving.uuid) continue;
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
  return { open: open.sort(byName), stuck: stuck.sort(byName), byUuid: byUuid.sort(), complete: here.complete };
}

/** Files in the image's directory, and in the target's: it may have come from there. */
async function* around(
  here: AsyncIterable<ImageBeside>,
  from: Source,
  to: Source,
  environment: Environment,
): AsyncGenerator<ImageBeside & { readonly there: boolean }> {
  for await (const one of here) yield { ...one, there: false };
  if (from.provider !== to.provider) return;
  const { provider } = to;
  const [old, now] = [from, to].map(({ name }) => provider.realName(provider.directory(name)));
  const directory = (await now) ?? '';
  if ((await old) === directory) return;
  for await (const one of lookInto(directory, to, environment)) yield { ...one, there: true };
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
  return async (file) => {
    const found: string[] = [];
    for (const stored of file.named) {
      if (!isPlainName(stored)) continue;
      const meant = provider.resolve(stored, file.name);
      if ((await provider.lookUp(meant)) === null) continue;
      if ((await (link ? placeOf(provider, meant) : provider.realName(meant))) === wanted) found.push(stored);
    }
    return found;
  };
}

async function openDependant(
  name: string,
  stored: readonly string[],
  to: Source,
  environment: Environment,
): Promise<Dependant | { readonly name: string; readonly reason: string }> {
  const source: Source = { provider: to.provider, name };
  if (await isLink(source.provider, name)) return { name, reason: 'it is a link to a file elsewhere' };
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
      return { name, reason: `images of format ${opened.format} cannot be given another name` };
    } catch (error) {
      await image.close();
      throw error;
    }
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    return { name, reason: describeError(error) };
  }
}
