/**
 * Moving an image: to another name, directory or file system. Its bytes stay, except for names of other files that
 * would resolve differently there.
 *
 * Under another name on the same file system, in this order, each step durable before the next:
 *   1. names in the image are replaced by names that resolve to the same files from both places,
 *   2. the image gets its new name. Where children name it, it keeps the old one, too (or, where a file cannot have two
 *      names, this comes after 3),
 *   3. children that name it get the new name,
 *   4. the old name is deleted, with those of moved parts,
 *   5. names in the image are shortened.
 * Parts that follow the image to its new name get second names first; the main file, small then, is written again
 * with those in it, under its new name; after the children, the old names are deleted, that of the image first. So at
 * every moment a whole image is there under one of the names.
 *
 * On another file system all files of the image are copied, with such names in them as are right there, read back,
 * published, and only then, after the children, removed. So after an interruption there is always a name under which
 * the image and all its children open correctly, and the move can be repeated.
 */

import { removeFile, requireWritable } from '../disk/change/stack.ts';
import { refuseIncomplete } from '../disk/open/beside.ts';
import { type Resolved, SAME_DIRECTORY } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { refuseListed } from '../disk/open/listed-file.ts';
import { takesLocks } from '../disk/open/locking.ts';
import { openImage } from '../disk/open/open-image.ts';
import { mainStorage, type PartFile, partFiles, requireFile, storedNames } from '../disk/open/parts.ts';
import type { EnvironmentOptions } from '../disk/options.ts';
import { ImageError, isImageError, throwIfAborted } from '../errors.ts';
import type { ImageInfo, Progress } from '../image/contract.ts';
import { OpenedFiles } from '../image/files.ts';
import { parentNames } from '../image/parent.ts';
import type { LockMode, Source, Storage } from '../storage/contract.ts';
import { isPlainName } from '../storage/gate.ts';
import { keptOpen } from '../storage/kept-open.ts';
import { OverlayStorage } from '../storage/overlay.ts';
import type { Staged } from '../storage/staging.ts';
import { copyFile, sameBytes } from './byte-copy.ts';
import { closeDependants, type Dependants, openDependants } from './dependants.ts';
import { relocateDirectory } from './directories.ts';
import { type HeldPart, type HeldParts, holdParts, refuseShared } from './held-parts.ts';
import { inspectImage } from './inspect.ts';
import { cannotReaddress, exchanged, linkMoved, missingPart, otherDevice, partsStay, takenBy } from './move-errors.ts';
import { incompleteWarning } from './siblings.ts';
import { isLink, type NamePlan, placeOf, planNames } from './stored-names.ts';

/** Options for a move. */
export interface RelocateOptions extends EnvironmentOptions {
  /** Default: probed. */
  readonly format?: string | undefined;
  /** Proceed even if images that depend on it will not find it there. */
  readonly force?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Result of a move. */
export interface Relocated {
  readonly from: string;
  readonly to: string;
  readonly warnings: readonly string[];
}

/**
 * Moves an image; with `mayCopy` also to another file system. Throws `exists` if the name is taken, `busy` while images
 * need it in place, `locked`, `unsupported` (VERR_NOT_SAME_DEVICE).
 */
export async function relocate(
  from: Source,
  to: Source,
  options: Resolved<RelocateOptions>,
  mayCopy: boolean,
): Promise<Relocated> {
  const opened = await openAlone(from, 'read', options);
  if (opened.listedIn !== undefined) {
    await opened.image.close();
    refuseListed(opened.name, opened.listedIn);
  }
  if (opened.source.isDirectory === true) return moveDirectory(opened, to, options, mayCopy);
  const move = new Move({ from, to, options, mayCopy, opened });
  try {
    return await move.run();
  } finally {
    await move.close();
  }
}

/** Moves an image that is a directory. */
async function moveDirectory(
  opened: OpenedImage,
  to: Source,
  options: Resolved<RelocateOptions>,
  mayCopy: boolean,
): Promise<Relocated> {
  try {
    const warnings = await relocateDirectory(opened, to, options, mayCopy);
    return { from: opened.name, to: to.name, warnings };
  } finally {
    await opened.image.close();
  }
}

/** Opens the image for its names alone: an external data file stays closed. */
async function openAlone(
  source: Source,
  mode: 'read' | 'write',
  options: Resolved<RelocateOptions>,
): Promise<OpenedImage> {
  const opened = await openImage(source, { ...options, mode, withoutData: true });
  try {
    await requireFile(opened, { directories: true });
    if (mode === 'write') requireWritable(opened);
    return opened;
  } catch (error) {
    await opened.image.close();
    throw error;
  }
}

/** Occupant of the new name: none; the image itself, after an interrupted move; or a file that may be a copy of it. */
type Taken = 'free' | 'linked' | 'file';

interface MoveParts {
  readonly from: Source;
  readonly to: Source;
  readonly options: Resolved<RelocateOptions>;
  readonly mayCopy: boolean;
  readonly opened: OpenedImage;
}

/** One move. */
class Move {
  readonly #from: Source;
  readonly #to: Source;
  readonly #options: Resolved<RelocateOptions>;
  readonly #mayCopy: boolean;
  readonly #warnings: string[] = [];
  #opened: OpenedImage;
  #plan: NamePlan = { both: new Map(), there: new Map(), parts: [], renamed: new Map(), warnings: [] };
  #dependants: Dependants = { open: [], stuck: [], byUuid: [], complete: true };

  constructor({ from, to, options, mayCopy, opened }: MoveParts) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    this.#mayCopy = mayCopy;
    this.#opened = opened;
  }

  async close(): Promise<void> {
    await closeDependants(this.#dependants);
    await this.#opened.image.close();
  }

  async run(): Promise<Relocated> {
    const [from, to] = [this.#from, this.#to];
    const { key, image } = this.#opened;
    const { info } = image;
    const elsewhere = await this.#isElsewhere();
    if (elsewhere && !this.#mayCopy) throw otherDevice(to.name);
    const taken = await this.#lookAtTarget(elsewhere);
    this.#dependants = await openDependants({ source: from, key, uuid: info.uuid }, to, this.#options.environment);
    this.#refuseDependants();
    this.#plan = await planNames(storedNames(image), from, to);
    for (const text of this.#plan.warnings) this.#warnings.push(text);
    // An image of the new name is compared later: it may be this one, of before an interruption.
    const sharing = { ...this.#options, besides: to.name };
    for (const text of await refuseShared(this.#opened, 'moved', this.#parts(), sharing)) this.#warnings.push(text);
    const distant = !(await this.#isSameDirectory());
    if (elsewhere || !(await this.#byName(taken))) await this.#byBytes();
    if (distant) await this.#lookForParent(info);
    return { from: from.name, to: to.name, warnings: this.#warnings };
  }

  /** True when surely on another file system; if that cannot be told, renaming shows it. */
  async #isElsewhere(): Promise<boolean> {
    const [from, to] = [this.#from, this.#to];
    if (from.provider !== to.provider) return true;
    const directory = await to.provider.lookUp(to.provider.directory(to.name));
    const volume = (await from.provider.lookUp(from.name))?.volume;
    return volume !== undefined && directory?.volume !== undefined && volume !== directory.volume;
  }

  async #isSameDirectory(): Promise<boolean> {
    const [from, to] = [this.#from, this.#to];
    if (from.provider !== to.provider) return false;
    const [old, now] = [from, to].map(({ provider, name }) => provider.realName(provider.directory(name)));
    return (await old) === (await now);
  }

  /** Nothing is ever replaced; checking first gives better messages, also for a missing directory. */
  async #lookAtTarget(elsewhere: boolean): Promise<Taken> {
    const { provider, name } = this.#to;
    const present = await provider.lookUp(name);
    if (present === null) {
      await requireDirectory(this.#to);
      return 'free';
    }
    const same = present.key === this.#opened.key && (present.links ?? 0) > 1;
    if (same && (await placeOf(provider, name)) !== (await placeOf(provider, this.#from.name))) return 'linked';
    if ((elsewhere || this.#hasFollowers()) && present.kind === 'file') return 'file';
    throw takenBy(name);
  }

  /** Its parts get other names with it: the main file is written again, and may be there from an interruption. */
  #hasFollowers(): boolean {
    return this.#opened.image.parts?.().some(({ follows }) => follows === true) === true;
  }

  /** Throws for images that would not find the image any more, or could not be updated. */
  #refuseDependants(): void {
    const { byUuid, stuck, complete } = this.#dependants;
    const { name } = this.#from;
    const force = this.#options.force === true;
    const [first] = byUuid;
    if (first !== undefined && !force) {
      const others = byUuid.length > 1 ? ` and ${byUuid.length - 1} more` : '';
      throw new ImageError(
        'busy',
        `The image cannot be moved: ${first}${others} in the same directory ${byUuid.length > 1 ? 'depend' : 'depends'} on it`,
        {
          path: name,
          hint: 'Delete or merge those first, or proceed with option force (on the command line: --force).',
        },
      );
    }
    const [held] = stuck;
    if (held !== undefined && !force) {
      throw new ImageError(
        'busy',
        `The image cannot be moved: ${listOf(stuck)} in the same directory cannot store its new name`,
        {
          path: name,
          found: held.reason,
          hint: 'Convert those images first, or proceed with option force (on the command line: --force) and lose the link.',
        },
      );
    }
    if (!force) refuseIncomplete(name, this.#dependants);
    for (const one of byUuid) this.#warnings.push(`${one} finds its parent ${name} only in its own directory.`);
    for (const one of stuck) {
      this.#warnings.push(
        `${one.name} still names ${name}, and cannot be read until it names ${this.#to.name} (rebase --unsafe).`,
      );
    }
    if (!complete) this.#warnings.push(incompleteWarning(name, this.#dependants));
  }

  /**
   * False: the file system cannot do it, so the files must be copied. The order is essential: see the comment at the
   * top of this module.
   */
  async #byName(taken: Taken): Promise<boolean> {
    const { provider, name } = this.#from;
    const { renamed } = this.#plan;
    const link = await isLink(provider, name);
    if (renamed.size > 0) {
      if (!link && (await this.#byNewNames())) return true;
      await this.#leaveNames();
    }
    const { parts, both } = this.#plan;
    if (link && both.size + parts.length > 0) throw linkMoved(name, await provider.realName(name));
    // No program may write to them until then, and what goes along must be allowed as if it were written.
    await using _held = await this.#holdParts('shared');
    if (both.size > 0) await this.#readdress(both);
    for (const part of parts) {
      if (await this.#linkPart(part.from, part.to)) continue;
      if (this.#mayCopy) return false;
      throw partsStay(name, part.from);
    }
    try {
      await this.#takeName(taken, link);
    } catch (error) {
      if (this.#mayCopy && !link && isOtherDevice(error)) return false;
      throw error;
    }
    for (const part of parts) await removeFile({ provider, name: part.from });
    await this.#shorten();
    return true;
  }

  /** See the end of the comment at the top of this module. False: the parts cannot have two names. */
  async #byNewNames(): Promise<boolean> {
    const { provider } = this.#from;
    const { parts } = this.#plan;
    await using held = await this.#holdParts('shared');
    const linked: string[] = [];
    const made: Made[] = [];
    const undo = async (): Promise<void> => {
      for (const { staged } of made) await staged?.discard();
      // An image that has its name needs its parts, whatever failed behind that.
      if ((await provider.lookUp(this.#to.name)) !== null) return;
      for (const one of linked) await removeFile({ provider, name: one });
    };
    try {
      for (const { from, to } of parts) {
        const isNew = (await provider.lookUp(to)) === null;
        const done = await this.#linkPart(from, to);
        if (!done) {
          await undo();
          return false;
        }
        if (isNew) linked.push(to);
      }
      const main = (await this.#files(held.held)).at(-1);
      if (main === undefined) throw new Error('internal: an image has a main file');
      made.push(await this.#copy(main, () => {}));
      await publishAll(made, (lost) => this.#warnings.push(lost));
    } catch (error) {
      await undo();
      throw error;
    }
    await this.#tellDependants();
    await removeFile(this.#from);
    for (const part of parts) await removeFile({ provider, name: part.from });
    return true;
  }

  /** Parts that cannot have two names keep the one that they have. */
  async #leaveNames(): Promise<void> {
    const names = storedNames(this.#opened.image).map(({ role, stored }) => ({ role, stored }));
    this.#plan = await planNames(names, this.#from, this.#to);
    this.#warnings.push(`The files of ${this.#to.name} keep their names, which begin with another one.`);
  }

  /** The files that go along. */
  #parts(): PartFile[] {
    const names = new Set(this.#plan.parts.map(({ from }) => from));
    return partFiles(this.#opened).filter(({ file }) => names.has(file));
  }

  async #holdParts(mode: LockMode): Promise<HeldParts> {
    const parts = await holdParts(this.#opened, this.#parts(), mode, this.#options.environment);
    const [missing] = parts.missing;
    if (missing === undefined) return parts;
    await parts[Symbol.asyncDispose]();
    throw missingPart(this.#from.name, missing.file);
  }

  /** Also handles a part linked before an interruption. False: it cannot have two names. */
  async #linkPart(from: string, to: string): Promise<boolean> {
    const { provider } = this.#from;
    const [old, now] = [await provider.lookUp(from), await provider.lookUp(to)];
    if (now !== null && now.key !== old?.key) {
      // It may be a copy from before an interruption.
      if (this.#mayCopy) return false;
      throw takenBy(to);
    }
    if (now === null && !(await this.#link(from, to))) return false;
    await provider.syncNames(provider.directory(to));
    return true;
  }

  async #link(from: string, to: string): Promise<boolean> {
    const { provider } = this.#from;
    if (provider.link === undefined) return false;
    try {
      await provider.link(from, to);
      return true;
    } catch (error) {
      if (isImageError(error) && error.kind === 'unsupported') return false;
      throw error;
    }
  }

  /** Creates the new name, updates children, deletes the old name. */
  async #takeName(taken: Taken, link: boolean): Promise<void> {
    const [{ provider, name }, to] = [this.#from, this.#to];
    const [old, now] = [provider.directory(name), provider.directory(to.name)];
    const two = taken === 'linked' || (this.#dependants.open.length > 0 && !link && (await this.#link(name, to.name)));
    if (two) {
      await provider.syncNames(now);
      await this.#tellDependantsOrNone(taken);
      return removeFile(this.#from);
    }
    await this.#tellDependants();
    try {
      await provider.rename(name, to.name, { replace: false });
    } catch (error) {
      await this.#tellDependantsBack();
      throw error;
    }
    if (link && (await provider.lookUp(to.name))?.key !== this.#opened.key) {
      await provider.rename(to.name, name, { replace: false });
      throw linkMoved(name, await provider.realName(name));
    }
    // The new name first: cut between the two, the image has both names, never none.
    await provider.syncNames(now);
    if (old !== now) await provider.syncNames(old);
  }

  /** When the first of them cannot store the new name, the image has only its old one again. */
  async #tellDependantsOrNone(taken: Taken): Promise<void> {
    const before = this.#warnings.length;
    try {
      await this.#tellDependants();
    } catch (error) {
      if (taken === 'free' && this.#warnings.length === before) await removeFile(this.#to);
      throw error;
    }
  }

  async #tellDependants(): Promise<void> {
    for (const { image, name, names } of this.#dependants.open) {
      await image.readdress?.(names);
      this.#warnings.push(`${name} now refers to ${this.#to.name} instead of ${this.#from.name}.`);
    }
  }

  /** The image stays in place. */
  async #tellDependantsBack(): Promise<void> {
    const count = this.#dependants.open.length;
    for (const { image, names } of this.#dependants.open) {
      await image.readdress?.(new Map([...names].map(([old, now]) => [now, old])));
    }
    this.#warnings.splice(this.#warnings.length - count, count);
  }

  /** Only shortens: the stored names are already correct. */
  async #shorten(): Promise<void> {
    const { there } = this.#plan;
    if (there.size === 0) return;
    // Under other names of the file a short name would mean something else.
    if (((await this.#to.provider.lookUp(this.#to.name))?.links ?? 1) > 1) return;
    await this.#opened.image.readdress?.(there);
  }

  async #readdress(names: ReadonlyMap<string, string>): Promise<void> {
    const { key, image } = this.#opened;
    await image.close();
    this.#opened = await openAlone(this.#from, 'write', this.#options);
    if (this.#opened.key !== key) throw exchanged(this.#from.name);
    if (this.#opened.image.readdress === undefined) throw cannotReaddress(this.#opened);
    await this.#opened.image.readdress(names);
  }

  /** Moves to another file system; see the comment at the top of this module. */
  async #byBytes(): Promise<void> {
    const { signal } = this.#options.environment;
    const { name, provider } = this.#from;
    if (await isLink(provider, name)) throw linkMoved(name, await provider.realName(name));
    await using parts = await this.#holdParts('exclusive');
    const files = await this.#files(parts.held);
    const made: Made[] = [];
    try {
      const progress = progressOf(files, this.#options);
      for (const file of files) {
        throwIfAborted(signal, 'The move');
        made.push(await this.#copy(file, progress));
      }
      throwIfAborted(signal, 'The move');
      await publishAll(made, (lost) => this.#warnings.push(lost));
      await this.#tellDependants();
      // The image first: what is left of its parts after a cut does no harm.
      for (const file of [...files].reverse()) await removeFile({ provider, name: file.from });
    } catch (error) {
      for (const { staged } of made) await staged?.discard();
      throw error;
    }
  }

  /** All files to move, the image last, with the content to write. */
  async #files(held: readonly HeldPart[]): Promise<MovedFile[]> {
    const files: MovedFile[] = held.map(({ part, storage }) => {
      const name = this.#plan.parts.find(({ from }) => from === part.file)?.to ?? part.file;
      return { original: storage, storage, from: part.file, to: { ...this.#to, name } };
    });
    const main = mainStorage(this.#opened.image);
    // No other program may write to the original between its copy and its end.
    if (takesLocks(this.#options)) await main.lock('exclusive');
    const seen = await this.#seenFromThere(main);
    return [...files, { original: main, storage: seen, from: this.#from.name, to: this.#to }];
  }

  /** The file of the image with names that are correct at the new place. */
  async #seenFromThere(main: Storage): Promise<Storage> {
    const { both, there, renamed } = this.#plan;
    if (both.size + renamed.size === 0) return main;
    const shorter = [...both].map(([old, here]) => [old, there.get(here) ?? here] as const);
    const names = new Map([...there, ...shorter, ...renamed]);
    const changed = new OverlayStorage(keptOpen(main).storage);
    const files = new OpenedFiles({ source: this.#from, main: keptOpen(changed).storage });
    const format = this.#options.environment.registry.find(this.#opened.format);
    const image = await format.open(files, { mode: 'write', withoutData: true });
    try {
      requireWritable({ ...this.#opened, image });
      if (image.readdress === undefined) throw cannotReaddress(this.#opened);
      await image.readdress(names);
    } finally {
      await image.close();
    }
    return changed;
  }

  /** An unpublished copy; or one published before an interruption. */
  async #copy({ original, storage, to }: MovedFile, onBytes: (count: number) => void): Promise<Made> {
    const { lock, signal } = this.#options.environment;
    const how = { signal, onBytes };
    if ((await to.provider.lookUp(to.name)) !== null) {
      const present = await to.provider.open(to.name, 'read');
      try {
        if (!(await sameBytes(storage, present, how))) throw takenBy(to.name);
      } finally {
        await present.close();
      }
      return { to, staged: null };
    }
    const continues = await original.attributes?.();
    const stage = {
      force: false,
      lock,
      ...(continues === undefined || continues === null ? {} : { continues }),
    };
    return { to, staged: await copyFile(storage, to, stage, how) };
  }

  /** A parent found by an identity must be in the same directory, or where its stored name leads. */
  async #lookForParent(info: ImageInfo): Promise<void> {
    const { differencing, parentUuid, parent } = info;
    if (!differencing || (parentUuid === null && (parent?.beside ?? null) === null)) return;
    const { name } = this.#to;
    const { provider, name: old } = this.#from;
    const named = parentNames(info).filter(isPlainName);
    const places = named.map((stored) => provider.directory(provider.resolve(stored, old)));
    try {
      const environment = this.#options.environment.with({ allow: [SAME_DIRECTORY, ...places], lock: false });
      await inspectImage(this.#to, { environment, chain: true, format: this.#opened.format });
    } catch (error) {
      if (!isImageError(error) || error.kind === 'aborted') throw error;
      this.#warnings.push(
        `${name} finds its parent only in its own directory, where it is missing: move the parent too, or specify it with --parent.`,
      );
    }
  }
}

interface MovedFile {
  /** The original file, and the content to write. */
  readonly original: Storage;
  readonly storage: Storage;
  readonly from: string;
  readonly to: Source;
}

interface Made {
  readonly to: Source;
  /** Null: already in place. */
  readonly staged: Staged | null;
}

/** Publishes all or none. */
async function publishAll(made: readonly Made[], tell: (text: string) => void): Promise<void> {
  const done: Source[] = [];
  try {
    for (const { staged, to } of made) {
      for (const text of (await staged?.publish()) ?? []) tell(text);
      if (staged !== null) done.push(to);
    }
  } catch (error) {
    for (const one of done) {
      await removeFile(one).catch(() => {
        // What went wrong first matters more.
      });
    }
    throw error;
  }
}

/** Every byte is copied and verified. */
function progressOf(files: readonly MovedFile[], { onProgress }: RelocateOptions): (count: number) => void {
  const total = 2 * files.reduce((sum, { storage }) => sum + storage.size, 0);
  let done = 0;
  return (count) => {
    done += count;
    onProgress?.({ operation: 'move', done, total });
  };
}

async function requireDirectory({ provider, name }: Source): Promise<void> {
  const directory = provider.directory(name);
  if ((await provider.lookUp(directory))?.kind === 'directory') return;
  throw new ImageError('not-found', 'The directory of the new name does not exist', {
    path: directory,
    status: 'VERR_PATH_NOT_FOUND',
    hint: 'Create the directory first (mkdir -p).',
  });
}

/** A few of them by name. */
function listOf(files: readonly { readonly name: string }[]): string {
  const [first, second, ...more] = files.map(({ name }) => name);
  if (second === undefined) return first ?? '';
  return more.length === 0 ? `${first} and ${second}` : `${first}, ${second} and ${more.length} more`;
}

function isOtherDevice(error: unknown): boolean {
  return isImageError(error) && error.kind === 'unsupported' && error.status === 'VERR_NOT_SAME_DEVICE';
}
