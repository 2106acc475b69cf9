/**
 * The open gate: nothing that an image names is opened unless the gate says so. It opens first and judges the handle,
 * so that a name cannot be exchanged between the check and the use.
 */
import { ImageError, isImageError, withContext } from '../errors.ts';
import { LIMITS } from '../limits.ts';
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
  /** Names in the image's own directory that may be looked at when a parent is searched by UUID. Throws `denied` when none may. */
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
  /** Resolves the roots. Default: the provider of the image that asks. */
  readonly provider?: StorageProvider;
}

/** Places that are never opened for an image, whatever the roots say. */
const FORBIDDEN: readonly string[] = ['/proc', '/sys', '/dev'];
/** `nbd://host`, `json:{…}`. One letter is a drive of Windows, not a scheme. */
const SCHEME = /^[a-z][a-z0-9+.-]+:/i;

/** False for names that ask for something else than a file, as `nbd://host` and `json:{…}` do: they are never opened. */
export function isPlainName(name: string): boolean {
  return !SCHEME.test(name);
}

const OUTSIDE = 'it lies outside of what was allowed';
const NO_FILE = 'it is no regular file';
const NOT_NAMED = 'to write to it, it must be allowed by its own name';

/**
 * Lets regular files inside the roots through. A name that leads elsewhere is not even opened, since opening alone
 * can do harm (a watchdog, a tape). That may be outrun by exchanging a link, so what counts is judged by the handle.
 */
export function openGate(options: GateOptions): OpenGate {
  return {
    async open(wanted, from, mode) {
      const early = await objectionToName(wanted, from, mode, options);
      if (early !== null) throw denied(wanted, from, early);
      const storage = await openWanted(wanted, from, mode);
      try {
        const late = await objectionToHandle(storage, wanted, from, mode, options);
        if (late !== null) throw denied(wanted, from, late);
        return storage;
      } catch (error) {
        await storage.close();
        throw error;
      }
    },
    async *candidates(from) {
      const directory = from.provider.directory(await from.provider.realName(from.name));
      if (!(await isAllowed(directory, from, options))) throw denied(directoryOf(directory), from, OUTSIDE);
      let count = 0;
      for await (const name of from.provider.list(directory)) {
        if (++count > LIMITS.parentCandidates) return;
        yield name;
      }
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
  options: GateOptions,
): Promise<string | null> {
  if (!isPlainName(wanted.name)) return 'it is no plain file name';
  const { provider } = from;
  const real = await realNameOrNull(provider, wanted.name);
  const place = real ?? (await realNameOrNull(provider, provider.directory(wanted.name)));
  if (place === null || !(await isAllowed(place, from, options))) return OUTSIDE;
  if (real === null) return null;
  if (mode === 'write' && !(await isNamed(real, from, options))) return NOT_NAMED;
  const info = await provider.lookUp(real);
  return info === null || info.kind === 'file' ? null : NO_FILE;
}

/** Why the opened handle must not be used, or null. */
async function objectionToHandle(
  storage: Storage,
  wanted: Reference,
  from: ReferenceOrigin,
  mode: OpenMode,
  options: GateOptions,
): Promise<string | null> {
  const { key, kind } = await storage.identity();
  if (kind !== 'file' && kind !== 'memory' && kind !== 'blob') return NO_FILE;
  const real = await from.provider.realName(wanted.name);
  // The name may have been exchanged since it was opened: what the name is now must be what the handle is.
  if ((await from.provider.lookUp(real))?.key !== key) return 'it changed while it was opened';
  if (mode === 'write' && !(await isNamed(real, from, options))) return NOT_NAMED;
  return (await isAllowed(real, from, options)) ? null : OUTSIDE;
}

/** One of the roots is this very file. */
async function isNamed(real: string, from: ReferenceOrigin, options: GateOptions): Promise<boolean> {
  const provider = options.provider ?? from.provider;
  for (const root of options.roots) if ((await realNameOrNull(provider, root)) === real) return true;
  return false;
}

async function isAllowed(real: string, from: ReferenceOrigin, options: GateOptions): Promise<boolean> {
  if (FORBIDDEN.some((place) => isBelow(real, place, from.provider))) return false;
  const provider = options.provider ?? from.provider;
  for (const root of options.roots) {
    const place = await realNameOrNull(provider, root);
    if (place !== null && isBelow(real, place, from.provider)) return true;
  }
  return false;
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
