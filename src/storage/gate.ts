/**
 * The open gate: a file named by an image is opened only if the gate permits it. The gate opens first and judges the
 * handle, by the system's own name for it, so that a name cannot be swapped between check and use.
 */
import { checkArguments, listOf, optional, TEXT, withFields } from '../arguments.ts';
import { ImageError, isImageError, withContext } from '../errors.ts';
import { PROVIDER } from './checks.ts';
import type { OpenMode, Storage, StorageProvider } from './contract.ts';

/** A file that an image refers to. */
export interface Reference {
  /** The name, resolved by the provider relative to the image. */
  readonly name: string;
  /** Role for messages: `parent image`, `extent`. */
  readonly role: string;
  /** The file holds some of the image itself. */
  readonly part?: boolean;
  /** It is not locked: a list that several open images read, and that another file takes the place of when it changes. */
  readonly unlocked?: boolean;
  /** The format opens it when it reads, and closes it itself: one of more files than stay open. It is not locked. */
  readonly passing?: boolean;
}

/** The image that contains the reference. */
export interface ReferenceOrigin {
  readonly provider: StorageProvider;
  readonly name: string;
}

/** Policy for the files that images may refer to. */
export interface OpenGate {
  /** Opens a referenced file, or throws `denied`. The handle belongs to the caller. */
  open(wanted: Reference, from: ReferenceOrigin, mode: OpenMode): Promise<Storage>;
  /**
   * Names in the image's own directory that may be probed in a search for a parent by UUID, listed lazily: the caller
   * sets a limit. Throws `denied` when none may be probed.
   */
  candidates(from: ReferenceOrigin): AsyncIterable<string>;
}

/** A gate that permits nothing. `reason`: for the message. */
export function denyAll(reason = 'nothing was allowed'): OpenGate {
  return {
    open: (wanted, from) => Promise.reject(denied(wanted, from, reason)),
    // biome-ignore lint/correctness/useYield: it ends before the first name
    async *candidates(from) {
      throw denied(directoryOf(from.provider.directory(from.name)), from, reason);
    },
  };
}

/** Options for a gate. */
export interface GateOptions {
  /**
   * Directories, with everything below them, for reading; or single files, for writing too: otherwise an image could
   * name any neighbour as a target for guest data.
   */
  readonly roots: readonly string[];
  /** Further roots, with links already resolved. */
  readonly realRoots?: readonly string[] | undefined;
  /** Provider that resolves the roots. Default: the provider of the image. */
  readonly provider?: StorageProvider | undefined;
}

/** Locations closed to images whatever the roots are. The handle is judged by its file system. */
const FORBIDDEN: readonly string[] = ['/proc', '/sys'];
/**
 * `nbd://host`, `json:{…}`. A single letter is a Windows drive, not a scheme.
 */
const SCHEME = /^[a-z][a-z0-9+.-]+:/i;

/**
 * False for names that refer to something other than a file, such as `nbd://host` and `json:{…}`: they are never
 * opened.
 */
export function isPlainName(name: string): boolean {
  return !SCHEME.test(name);
}

/** A relative name that no program takes for one with a scheme: `./a:b` for `a:b`. QEMU has schemes of one letter. */
export function withoutScheme(relative: string): string {
  return /^[^/\\]+:/.test(relative) ? `./${relative}` : relative;
}

/** The scheme of a name, lower case, without the colon; null for a plain name. */
export function schemeOf(name: string): string | null {
  return SCHEME.exec(name)?.[0].slice(0, -1).toLowerCase() ?? null;
}

const GATE = withFields('an object with roots', {
  roots: listOf(TEXT),
  provider: optional(PROVIDER),
});

const OUTSIDE = 'it is outside the allowed directories';
const NO_FILE = 'it is not a regular file';
const DEVICE = 'a device must be allowed by its exact name';
const CHANGED = 'it changed while it was opened';
const NOT_NAMED = 'writing to it requires its exact name in the allowed list';

/**
 * A gate that permits regular files inside the roots. Other names are not even opened, since opening alone can do harm
 * (a watchdog, a tape). A swapped link can defeat that check, so the location of the handle decides. A storage that
 * cannot tell its location (other systems than Linux, no /proc) is judged by a second look-up of its name, which is a
 * weaker proof.
 */
export function openGate(options: GateOptions): OpenGate {
  checkArguments('openGate', { options: [options, GATE] });
  const roots = new Roots(options);
  return {
    open: (wanted, from, mode) => openJudged(wanted, from, mode, roots),
    async *candidates(from) {
      const directory = from.provider.directory(await from.provider.realName(from.name));
      if (!(await isAllowed(directory, from, roots))) throw denied(directoryOf(directory), from, OUTSIDE);
      yield* from.provider.list(directory);
    },
  };
}

/**
 * A gate for the headers of the files beside an image: regular files only, and never for writing, but also those that a
 * link leads to. Lists the directory of the name as given, and that of the file itself where the name is a link.
 */
export function gateForNeighbours(): OpenGate {
  return {
    open: (wanted, from, mode) => openJudged(wanted, from, mode, ANY_HEADER),
    async *candidates(from) {
      const { provider, name } = from;
      const own = await provider.realName(provider.directory(name));
      const real = provider.directory(await provider.realName(name));
      for (const directory of new Set([own, real])) {
        if (!(await isAllowed(directory, from, ANY_HEADER))) throw denied(directoryOf(directory), from, OUTSIDE);
        yield* provider.list(directory);
      }
    },
  };
}

/** The location of an image, with all links resolved. */
export interface OwnPlace {
  readonly provider: StorageProvider;
  readonly name: string;
  /** The image is this directory: all that lies below it belongs to it. */
  readonly isDirectory: boolean;
}

/**
 * The gate, which also lets an image have its own parts, for reading and writing: files in its directory, or below a
 * directory there, whose names continue its base name, as `disk-s001.vmdk` continues `disk.vmdk`, or its whole name, as
 * `disk.qcow2.data` does. A name that differs in its extension alone is that of another image. For all other files the
 * gate decides. The place of the image is asked for when a part is; null: it cannot be told, and nothing is a part.
 */
export function withOwnParts(gate: OpenGate, findOwn: () => Promise<OwnPlace | null>): OpenGate {
  let parts: OwnParts | null = null;
  return {
    candidates: (from) => gate.candidates(from),
    async open(wanted, from, mode) {
      if (wanted.part !== true) return gate.open(wanted, from, mode);
      const own = parts === null ? await findOwn() : null;
      if (own !== null) parts = new OwnParts(own);
      const place = parts === null ? null : await parts.placeOf(wanted.name);
      return parts === null || place === null
        ? gate.open(wanted, from, mode)
        : openJudged(wanted, from, mode, parts, place);
    },
  };
}

/** Rules about names with all links resolved. */
interface Rules {
  /** The file may be opened. */
  allows(real: string, from: ReferenceOrigin): Promise<boolean>;
  /** It may be written, too. */
  allowsWriting(real: string, from: ReferenceOrigin): Promise<boolean>;
  /** It may be a device. */
  allowsDevice(real: string, from: ReferenceOrigin): Promise<boolean>;
}

const ANY_HEADER: Rules = {
  allows: () => Promise.resolve(true),
  allowsWriting: () => Promise.resolve(false),
  allowsDevice: () => Promise.resolve(false),
};

/** `place`: of the name, where it was looked up already. */
async function openJudged(
  wanted: Reference,
  from: ReferenceOrigin,
  mode: OpenMode,
  rules: Rules,
  place?: Place,
): Promise<Storage> {
  const early = await objectionToName(wanted, from, mode, rules, place);
  if (early !== null) throw denied(wanted, from, early);
  const storage = await openWanted(wanted, from, mode);
  try {
    const late = await objectionToHandle(storage, wanted, from, mode, rules);
    if (late !== null) throw denied(wanted, from, late);
    return storage;
  } catch (error) {
    await storage.close();
    throw error;
  }
}

async function openWanted(wanted: Reference, from: ReferenceOrigin, mode: OpenMode): Promise<Storage> {
  try {
    return await from.provider.open(wanted.name, mode);
  } catch (error) {
    throw withContext(error, { hint: `${from.name} names it as its ${wanted.role}.` });
  }
}

/**
 * The reason not to open this name, or null. A name outside is denied whether it exists or not: its existence is not
 * disclosed.
 */
async function objectionToName(
  wanted: Reference,
  from: ReferenceOrigin,
  mode: OpenMode,
  rules: Rules,
  known?: Place,
): Promise<string | null> {
  // Beside an image with a scheme every name has it.
  if (!isPlainName(wanted.name) && schemeOf(wanted.name) !== schemeOf(from.name)) return 'it is not a plain file name';
  const { provider } = from;
  const place = known ?? (await placeOf(provider, wanted.name));
  if (place === null || !(await isAllowed(place.name, from, rules))) return OUTSIDE;
  if (!place.exists) return null;
  const real = place.name;
  if (mode === 'write' && !(await rules.allowsWriting(real, from))) return NOT_NAMED;
  const info = await provider.lookUp(real);
  if (info?.isBlockDevice === true) return (await rules.allowsDevice(real, from)) ? null : DEVICE;
  return info === null || info.kind === 'file' ? null : NO_FILE;
}

/** The reason not to use the opened handle, or null. */
async function objectionToHandle(
  storage: Storage,
  wanted: Reference,
  from: ReferenceOrigin,
  mode: OpenMode,
  rules: Rules,
): Promise<string | null> {
  const { key, kind } = await storage.identity();
  if (kind !== 'file' && kind !== 'memory' && kind !== 'blob' && kind !== 'device') return NO_FILE;
  const place = (await storage.place?.()) ?? null;
  if (place?.ordinary === false) return NO_FILE;
  const real = place === null ? await namedNow(wanted, from, key) : place.name;
  if (real === null) return CHANGED;
  if (kind === 'device' && !(await rules.allowsDevice(real, from))) return DEVICE;
  if (mode === 'write' && !(await rules.allowsWriting(real, from))) return NOT_NAMED;
  return (await isAllowed(real, from, rules)) ? null : OUTSIDE;
}

/** The current target of the name if it is the opened handle; null if it was swapped since. */
async function namedNow(wanted: Reference, { provider }: ReferenceOrigin, key: string): Promise<string | null> {
  const real = await provider.realName(wanted.name);
  return (await provider.lookUp(real))?.key === key ? real : null;
}

async function isAllowed(real: string, from: ReferenceOrigin, rules: Rules): Promise<boolean> {
  if (FORBIDDEN.some((place) => isBelow(real, place, from.provider))) return false;
  return rules.allows(real, from);
}

/** Permitted locations, each resolved once: swapping a root later permits no more than before. */
class Roots implements Rules {
  readonly #options: GateOptions;
  readonly #found = new Map<string, string>();

  constructor(options: GateOptions) {
    this.#options = options;
    for (const root of options.realRoots ?? []) this.#found.set(root, root);
  }

  async allows(real: string, from: ReferenceOrigin): Promise<boolean> {
    return (await this.#real(from)).some((place) => isBelow(real, place, from.provider));
  }

  /** One of the roots is exactly this file. */
  async allowsWriting(real: string, from: ReferenceOrigin): Promise<boolean> {
    return (await this.#real(from)).includes(real);
  }

  async allowsDevice(real: string, from: ReferenceOrigin): Promise<boolean> {
    return this.allowsWriting(real, from);
  }

  /** Existing roots with all links resolved. */
  async #real(from: ReferenceOrigin): Promise<readonly string[]> {
    const provider = this.#options.provider ?? from.provider;
    for (const root of this.#options.roots) {
      const real = this.#found.get(root) ?? (await realNameOrNull(provider, root));
      if (real !== null) this.#found.set(root, real);
    }
    return [...this.#found.values()];
  }
}

/** The parts of one image, by their names. Its main file is not one of them: guest data must not be written there. */
class OwnParts implements Rules {
  readonly #own: OwnPlace;
  readonly #directory: string;

  constructor(own: OwnPlace) {
    const { provider, name, isDirectory } = own;
    this.#own = own;
    this.#directory = isDirectory ? name : provider.directory(name);
  }

  /** The place of a name that is one of the parts; null for others. */
  async placeOf(name: string): Promise<Place | null> {
    const place = isPlainName(name) ? await placeOf(this.#own.provider, name) : null;
    return place !== null && this.#includes(place.name) ? place : null;
  }

  async allows(real: string): Promise<boolean> {
    return this.#includes(real);
  }

  async allowsWriting(real: string): Promise<boolean> {
    return this.#includes(real);
  }

  async allowsDevice(): Promise<boolean> {
    return false;
  }

  #includes(real: string): boolean {
    const { provider, name, isDirectory } = this.#own;
    if (real === name || !isBelow(real, this.#directory, provider)) return false;
    if (isDirectory) return true;
    return isOwnName(baseName(real, this.#directory), baseName(name, this.#directory));
  }
}

/** Follows the base name of an image in the name of a part: `-s001.vmdk`. */
const CONTINUES = /^[-_]/;
/** Follows the whole name: `disk.qcow2.data`. */
const WHOLE_CONTINUES = /^[-_.]/;
/** Follows the stem in the name of a segment: `.002.dmgpart`. */
const SEGMENT = /^\.\d{3,}\.dmgpart$/i;

/** True if a name, relative to the directory of an image, makes a file part of the image named `own` there. */
export function isOwnName(relative: string, own: string): boolean {
  const [first = '', ...below] = relative.split(/[/\\]/);
  if (first.startsWith(own)) return WHOLE_CONTINUES.test(first.slice(own.length));
  const stem = stemOf(own);
  const rest = first.startsWith(stem) ? first.slice(stem.length) : '';
  // `disk.vdi` is no part of `disk.qcow2`, but another image.
  if (below.length === 0 && SEGMENT.test(rest)) return true;
  return CONTINUES.test(rest) || (below.length > 0 && rest.startsWith('.'));
}

/** The name of a part after its image `old` is named `now`, in its directory; null: it does not continue that of the image. */
export function ownNameAfter(part: string, old: string, now: string): string | null {
  if (/[/\\]/.test(part) || !isOwnName(part, old)) return null;
  const stem = stemOf(old);
  const rest = part.slice(stem.length);
  return CONTINUES.test(rest) || SEGMENT.test(rest) ? stemOf(now) + rest : now + part.slice(old.length);
}

/** A base name without its extension; all of a name that is nothing else. */
function stemOf(name: string): string {
  return name.replace(/(?<=.)\.[^.]*$/, '');
}

/** The name without the directory it lies in. */
export function baseName(name: string, directory: string): string {
  return name.slice(directory.length).replace(/^[/\\]+/, '');
}

/** A name with all links resolved. */
interface Place {
  readonly name: string;
  /** False: it is the name that something would have. */
  readonly exists: boolean;
}

/** The place of a name; null when not even its directory exists. */
async function placeOf(provider: StorageProvider, name: string): Promise<Place | null> {
  const own = await realNameOrNull(provider, name);
  if (own !== null) return { name: own, exists: true };
  const directory = provider.directory(name);
  const real = await realNameOrNull(provider, directory);
  return real === null ? null : { name: provider.resolve(baseName(name, directory), `${real}/x`), exists: false };
}

/** Null when the name does not exist or cannot be reached: nothing below it can be permitted either. */
async function realNameOrNull(provider: StorageProvider, name: string): Promise<string | null> {
  try {
    return await provider.realName(name);
  } catch (error) {
    if (isImageError(error)) return null;
    throw error;
  }
}

/** True for the place itself and everything below it. The provider climbs, since it understands its names. */
function isBelow(name: string, place: string, provider: StorageProvider): boolean {
  for (let at = name; ; ) {
    if (at === place) return true;
    const above = provider.directory(at);
    if (above.length >= at.length) return false;
    at = above;
  }
}

function directoryOf(directory: string): Reference {
  return { name: directory, role: 'directory of parent images' };
}

function denied(wanted: Reference, from: ReferenceOrigin, reason: string): ImageError {
  return new ImageError(
    'denied',
    `The image refers to ${wanted.name} as its ${wanted.role}, which is not allowed: ${reason}`,
    {
      path: from.name,
      hint: `Pass allow (on the command line: --allow ${reason === NOT_NAMED || reason === DEVICE ? 'FILE' : 'DIRECTORY'}) if you trust the image.`,
    },
  );
}
