/**
 * The open gate: nothing that an image names is opened unless the gate says so. It opens first and judges the handle,
 * by the name that the system has for the handle, so that a name cannot be exchanged between the check and the use.
 */
import { checkArguments, listOf, optional, TEXT, withFields } from '../arguments.ts';
import { ImageError, isImageError, withContext } from '../errors.ts';
import { PROVIDER } from './checks.ts';
import type { OpenMode, Storage, StorageProvider } from './contract.ts';

/** What an image wants opened. */
export interface Reference {
  /** The name, resolved by the provider against the image that holds it. */
  readonly name: string;
  /** What it is for, for messages: `parent image`, `extent`. */
  readonly role: string;
}

/** Who asks. */
export interface ReferenceOrigin {
  readonly provider: StorageProvider;
  readonly name: string;
}

/** Decides what an image may make vdkit open. */
export interface OpenGate {
  /** Opens what an image names, or throws `denied`. The handle belongs to the caller. */
  open(wanted: Reference, from: ReferenceOrigin, mode: OpenMode): Promise<Storage>;
  /**
   * Names in the image's own directory that may be looked at when a parent is searched by UUID, read as they are asked
   * for: who asks must stop somewhere. Throws `denied` when none may.
   */
  candidates(from: ReferenceOrigin): AsyncIterable<string>;
}

/** Lets nothing through. */
export function denyAll(): OpenGate {
  const reason = 'nothing was allowed';
  return {
    open: (wanted, from) => Promise.reject(denied(wanted, from, reason)),
    // biome-ignore lint/correctness/useYield: it ends before the first name
    async *candidates(from) {
      throw denied(directoryOf(from.provider.directory(from.name)), from, reason);
    },
  };
}

/** What a gate lets through. */
export interface GateOptions {
  /**
   * Directories with everything below them, for reading, or single files, which may be written too: an image could name
   * any of its neighbours, to have guest data written over it.
   */
  readonly roots: readonly string[];
  /** More of them, whose links were resolved already. */
  readonly realRoots?: readonly string[];
  /** Resolves the roots. Default: the provider of the image that asks. */
  readonly provider?: StorageProvider;
}

/** Places of which nothing is even opened for an image, whatever the roots say. The handle is judged by its file system. */
const FORBIDDEN: readonly string[] = ['/proc', '/sys'];
/** `nbd://host`, `json:{…}`. One letter is a drive of Windows, not a scheme. */
const SCHEME = /^[a-z][a-z0-9+.-]+:/i;

/** False for names that ask for something else than a file, as `nbd://host` and `json:{…}` do: they are never opened. */
export function isPlainName(name: string): boolean {
  return !SCHEME.test(name);
}

const GATE = withFields('an object with roots', {
  roots: listOf(TEXT),
  provider: optional(PROVIDER),
});

const OUTSIDE = 'it lies outside of what was allowed';
const NO_FILE = 'it is no regular file';
const CHANGED = 'it changed while it was opened';
const NOT_NAMED = 'to write to it, it must be allowed by its own name';

/**
 * Lets regular files inside the roots through. A name that leads elsewhere is not even opened, since opening alone
 * can do harm (a watchdog, a tape). That may be outrun by exchanging a link, so what counts is where the handle lies.
 * A storage that cannot tell (no Linux, no /proc) is judged by looking its name up again, which is a weaker proof.
 */
export function openGate(options: GateOptions): OpenGate {
  checkArguments('openGate', { options: [options, GATE] });
  const roots = new Roots(options);
  return {
    async open(wanted, from, mode) {
      const early = await objectionToName(wanted, from, mode, roots);
      if (early !== null) throw denied(wanted, from, early);
      const storage = await openWanted(wanted, from, mode);
      try {
        const late = await objectionToHandle(storage, wanted, from, mode, roots);
        if (late !== null) throw denied(wanted, from, late);
        return storage;
      } catch (error) {
        await storage.close();
        throw error;
      }
    },
    async *candidates(from) {
      const directory = from.provider.directory(await from.provider.realName(from.name));
      if (!(await isAllowed(directory, from, roots))) throw denied(directoryOf(directory), from, OUTSIDE);
      yield* from.provider.list(directory);
    },
  };
}

async function openWanted(wanted: Reference, from: ReferenceOrigin, mode: OpenMode): Promise<Storage> {
  try {
    return await from.provider.open(wanted.name, mode);
  } catch (error) {
    throw withContext(error, { hint: `${from.name} names it as its ${wanted.role}.` });
  }
}

/** Why this name must not be opened, or null. A name outside is denied whether it exists or not: that is not told. */
async function objectionToName(
  wanted: Reference,
  from: ReferenceOrigin,
  mode: OpenMode,
  roots: Roots,
): Promise<string | null> {
  if (!isPlainName(wanted.name)) return 'it is no plain file name';
  const { provider } = from;
  const real = await realNameOrNull(provider, wanted.name);
  const place = real ?? (await realNameOrNull(provider, provider.directory(wanted.name)));
  if (place === null || !(await isAllowed(place, from, roots))) return OUTSIDE;
  if (real === null) return null;
  if (mode === 'write' && !(await isNamed(real, from, roots))) return NOT_NAMED;
  const info = await provider.lookUp(real);
  return info === null || info.kind === 'file' ? null : NO_FILE;
}

/** Why the opened handle must not be used, or null. */
async function objectionToHandle(
  storage: Storage,
  wanted: Reference,
  from: ReferenceOrigin,
  mode: OpenMode,
  roots: Roots,
): Promise<string | null> {
  const { key, kind } = await storage.identity();
  if (kind !== 'file' && kind !== 'memory' && kind !== 'blob') return NO_FILE;
  const place = (await storage.place?.()) ?? null;
  if (place?.ordinary === false) return NO_FILE;
  const real = place === null ? await namedNow(wanted, from, key) : place.name;
  if (real === null) return CHANGED;
  if (mode === 'write' && !(await isNamed(real, from, roots))) return NOT_NAMED;
  return (await isAllowed(real, from, roots)) ? null : OUTSIDE;
}

/** What the name leads to now, if that is what the handle is; else null: it was exchanged since it was opened. */
async function namedNow(wanted: Reference, { provider }: ReferenceOrigin, key: string): Promise<string | null> {
  const real = await provider.realName(wanted.name);
  return (await provider.lookUp(real))?.key === key ? real : null;
}

/** One of the roots is this very file. */
async function isNamed(real: string, from: ReferenceOrigin, roots: Roots): Promise<boolean> {
  return (await roots.real(from)).includes(real);
}

async function isAllowed(real: string, from: ReferenceOrigin, roots: Roots): Promise<boolean> {
  if (FORBIDDEN.some((place) => isBelow(real, place, from.provider))) return false;
  return (await roots.real(from)).some((place) => isBelow(real, place, from.provider));
}

/** What is allowed, each resolved once: a root that is exchanged later allows no more than before. */
class Roots {
  readonly #options: GateOptions;
  readonly #found = new Map<string, string>();

  constructor(options: GateOptions) {
    this.#options = options;
    for (const root of options.realRoots ?? []) this.#found.set(root, root);
  }

  /** Names with all links resolved, of those that are there. */
  async real(from: ReferenceOrigin): Promise<readonly string[]> {
    const provider = this.#options.provider ?? from.provider;
    for (const root of this.#options.roots) {
      const real = this.#found.get(root) ?? (await realNameOrNull(provider, root));
      if (real !== null) this.#found.set(root, real);
    }
    return [...this.#found.values()];
  }
}

/** Null when nothing is there, or it cannot be reached: then nothing below it can be allowed either. */
async function realNameOrNull(provider: StorageProvider, name: string): Promise<string | null> {
  try {
    return await provider.realName(name);
  } catch (error) {
    if (isImageError(error)) return null;
    throw error;
  }
}

/** True for the place itself and everything in it. The provider knows how names are built, so it does the climbing. */
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
  return new ImageError('denied', `The image wants ${wanted.name} opened as its ${wanted.role}: ${reason}`, {
    path: from.name,
    hint: 'Pass allow (on the command line: --allow DIRECTORY) if you trust the image.',
  });
}
