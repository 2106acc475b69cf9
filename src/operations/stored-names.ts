/** Stored names of other files, as seen from an image's old and new place. Nothing is opened here. */

import type { StoredName } from '../disk/open/parts.ts';
import { ImageError, printable } from '../errors.ts';
import type { Source, StorageProvider } from '../storage/contract.ts';
import { baseName, isOwnName, isPlainName, ownNameAfter, withoutScheme } from '../storage/gate.ts';

/** A file that moves with the image. */
export interface MovedPart {
  readonly from: string;
  readonly to: string;
}

/** New stored names for a move. */
export interface NamePlan {
  /** Keyed by stored name: names that resolve to the same file from both places. */
  readonly both: ReadonlyMap<string, string>;
  /** Keyed by those: shorter names that are correct at the new place. */
  readonly there: ReadonlyMap<string, string>;
  readonly parts: readonly MovedPart[];
  /** Keyed by stored name: names of parts that follow the image to its new one. */
  readonly renamed: ReadonlyMap<string, string>;
  readonly warnings: readonly string[];
}

/** Plans the names of a moving image. Throws `unsupported`, `not-found` when a file of the image is missing. */
export async function planNames(names: readonly StoredName[], from: Source, to: Source): Promise<NamePlan> {
  const both = new Map<string, string>();
  const there = new Map<string, string>();
  const parts: MovedPart[] = [];
  const renamed = new Map<string, string>();
  const warnings: string[] = [];
  for (const { role, stored, follows } of names) {
    if (!isPlainName(stored)) {
      warnings.push(`${to.name} refers to ${printable(stored)}, which is not a file name and was not changed.`);
      continue;
    }
    const here = from.provider.resolve(stored, from.name);
    const following = follows === true ? followed(stored, from, to) : null;
    if (role === 'part' && following === null && isLost(stored, from, to)) warnings.push(keptName(to.name, stored));
    const meant = to.provider.resolve(following ?? stored, to.name);
    if (following !== null) renamed.set(stored, following);
    else if (from.provider === to.provider && (await isSame(from.provider, here, meant))) continue;
    if (role === 'part' && isBelow(from.provider, here, from.provider.directory(from.name))) {
      if ((await from.provider.lookUp(here)) === null) throw missing(from.name, here);
      parts.push({ from: here, to: meant });
      continue;
    }
    if (from.provider !== to.provider) throw notThere(from.name, here);
    const short = await bestName(to, here);
    both.set(stored, here);
    if (short !== here) there.set(here, short);
  }
  return { both, there, parts, renamed, warnings };
}

/** The name of a part after its image has another one; null: it stays. */
function followed(stored: string, from: Source, to: Source): string | null {
  const name = ownNameAfter(stored, ownName(from), ownName(to));
  return name === stored ? null : name;
}

/** The name without its directory. */
function ownName({ provider, name }: Source): string {
  return baseName(name, provider.directory(name));
}

/** True for a part that needed no permission, and does under the new name of its image. */
function isLost(stored: string, from: Source, to: Source): boolean {
  return isOwnName(stored, ownName(from)) && !isOwnName(stored, ownName(to));
}

async function isSame(provider: StorageProvider, one: string, other: string): Promise<boolean> {
  if (one === other) return true;
  const [first, second] = [await provider.lookUp(one), await provider.lookUp(other)];
  return first !== null && first.key === second?.key;
}

/** The shortest name by which an image may refer to a file: relative if it lies in its directory or below. */
export async function bestName({ provider, name }: Source, file: string): Promise<string> {
  if ((await provider.lookUp(provider.directory(file))) === null) return file;
  const [own, other] = [await placeOf(provider, name), await placeOf(provider, file)];
  const directory = provider.directory(own);
  if (!isBelow(provider, other, directory)) return file;
  return withoutScheme(other.slice(directory.length).replace(/^[/\\]+/, ''));
}

function isBelow(provider: StorageProvider, name: string, directory: string): boolean {
  for (let at = provider.directory(name); ; at = provider.directory(at)) {
    if (at === directory) return true;
    if (provider.directory(at).length >= at.length) return false;
  }
}

/** The directory of a name, with links resolved, and the last part of the name: equal for equal names. */
export async function placeOf(provider: StorageProvider, name: string): Promise<string> {
  const directory = provider.directory(name);
  const real = await provider.realName(directory);
  const own = name.slice(directory.length).replace(/^[/\\]+/, '');
  return provider.resolve(own, `${real}/x`);
}

/** True when the name is a link to a file with another name. */
export async function isLink(provider: StorageProvider, name: string): Promise<boolean> {
  return (await provider.realName(name)) !== (await placeOf(provider, name));
}

function missing(path: string, part: string): ImageError {
  return new ImageError('not-found', 'A data file of the image is missing', {
    path,
    found: `no file ${printable(part)}`,
    hint: 'Restore it, or specify another one (on the command line: amend --option data_file=NAME).',
  });
}

function keptName(path: string, part: string): string {
  return `${path} keeps its file ${printable(part)}, whose name does not continue that of the image: opening it needs allow (on the command line: --allow FILE).`;
}

function notThere(path: string, file: string): ImageError {
  return new ImageError('unsupported', 'The image refers to a file that cannot be reached from the new place', {
    path,
    found: printable(file),
    hint: 'Copy the chain instead (copyChain; on the command line: copy).',
  });
}
