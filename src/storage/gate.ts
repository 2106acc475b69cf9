/**
 * The open gate: nothing that an image names is opened unless the gate says so. It opens first and judges the handle,
 * so that a name cannot be exchanged between the check and the use.
 */
import { ImageError, withContext } from '../errors.ts';
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

export interface OpenGate {
  /** Opens what an image names, or throws `denied`. The handle belongs to the caller. */
  open(wanted: Reference, from: ReferenceOrigin, mode: OpenMode): Promise<Storage>;
  /** Names in the image's own directory that may be looked at when a parent is searched by UUID. Throws `denied` when none may. */
  candidates(from: ReferenceOrigin): AsyncIterable<string>;
}

/** Lets nothing through. */
export function denyAll(): OpenGate {
  return {
    open: (wanted, from) => Promise.reject(denied(wanted, from, 'no file was allowed')),
    // biome-ignore lint/correctness/useYield: it ends before the first name
    async *candidates(from) {
      throw denied({ name: from.provider.directory(from.name), role: 'directory of parent images' }, from, 'no file was allowed');
    },
  };
}

/** What a gate lets through. */
export interface GateOptions {
  /** Directories with everything below them, or single files. */
  readonly roots: readonly string[];
  /** Resolves the roots. */
  readonly provider: StorageProvider;
}

/** Places that are never opened for an image, whatever the roots say. */
const FORBIDDEN = ['/proc', '/sys', '/dev'];

/** Lets regular files inside the roots through: judged by the opened handle, links resolved. */
export function openGate(options: GateOptions): OpenGate {
  return {
    async open(wanted, from, mode) {
      if (/^[a-z][a-z0-9+.-]*:/i.test(wanted.name)) throw denied(wanted, from, 'it is no plain file name');
      let storage: Storage;
      try {
        storage = await from.provider.open(wanted.name, mode);
      } catch (error) {
        throw withContext(error, { hint: `${from.name} names it as its ${wanted.role}.` });
      }
      try {
        const reason = await objection(storage, wanted, from, options);
        if (reason !== null) throw denied(wanted, from, reason);
        return storage;
      } catch (error) {
        await storage.close();
        throw error;
      }
    },
    async *candidates(from) {
      const directory = await from.provider.realName(from.provider.directory(from.name));
      if (!(await isInside(directory, options))) {
        throw denied({ name: directory, role: 'directory of parent images' }, from, 'it is outside of what was allowed');
      }
      let count = 0;
      for await (const name of from.provider.list(directory)) {
        if (++count > LIMITS.parentCandidates) return;
        yield name;
      }
    },
  };
}

/** Why the opened handle must not be used, or null. */
async function objection(
  storage: Storage,
  wanted: Reference,
  from: ReferenceOrigin,
  options: GateOptions,
): Promise<string | null> {
  const { key, kind } = await storage.identity();
  if (kind !== 'file' && kind !== 'memory') return 'it is no regular file';
  const real = await from.provider.realName(wanted.name);
  // The name may have been exchanged since it was opened: what the name is now must be what the handle is.
  if ((await from.provider.lookUp(real))?.key !== key) return 'it changed while it was opened';
  if (FORBIDDEN.some((place) => isBelow(real, place))) return 'it is a system file';
  return (await isInside(real, options)) ? null : 'it is outside of what was allowed';
}

async function isInside(real: string, options: GateOptions): Promise<boolean> {
  for (const root of options.roots) {
    const place = await options.provider.realName(root).catch(() => null);
    if (place !== null && isBelow(real, place)) return true;
  }
  return false;
}

function isBelow(name: string, place: string): boolean {
  const folder = /[/\\]$/.test(place) ? place : `${place}/`;
  return name === place || name.replaceAll('\\', '/').startsWith(folder.replaceAll('\\', '/'));
}

function denied(wanted: Reference, from: ReferenceOrigin, reason: string): ImageError {
  return new ImageError('denied', `The image wants ${wanted.name} opened as its ${wanted.role}: ${reason}`, {
    path: from.name,
    hint: 'Allow it if you trust the image: option allow, on the command line --allow DIRECTORY.',
  });
}
