/**
 * Locks of whole images, the same for all formats. Each file is locked when it is opened, before any of its tables is
 * read: the main file by `image-file.ts`, the others by the `ImageFiles` that the format gets.
 */
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import type { DiskOpenOptions } from '../options.ts';
import type { Environment } from './environment.ts';

/** Options that affect locks. */
export type LockingOptions = Pick<DiskOpenOptions, 'shareable' | 'forceShare'> & { readonly environment: Environment };

/** Locks an open storage; closes it on failure. */
export async function locked(storage: Storage, ...how: Parameters<Storage['lock']>): Promise<Storage> {
  try {
    await storage.lock(...how);
    return storage;
  } catch (error) {
    await storage.close();
    throw error;
  }
}

/** True unless the caller declined. */
export function takesLocks({ environment, forceShare }: LockingOptions): boolean {
  return environment.lock && forceShare !== true;
}

/**
 * Throws if the locks of these storages hold only between vdkit processes. Called by operations that move content
 * around, which would ruin the disk of a program that has it open.
 */
export async function requireSystemLocks(storages: readonly Storage[], options: LockingOptions): Promise<void> {
  if (!takesLocks(options)) return;
  for (const storage of storages) {
    await storage.lock('exclusive', { shareable: options.shareable ?? false, structure: true });
  }
}

/** Rejects contradictory options. */
export function checkLocking(options: Pick<DiskOpenOptions, 'forceShare' | 'mode'>): void {
  if (options.forceShare !== true || options.mode !== 'write') return;
  throw new ImageError('invalid-argument', 'An image that others may be writing can only be read', {
    hint: 'Omit forceShare (--force-share) in order to write.',
  });
}

/** Warnings for a disk opened without locks. */
export function sharingWarnings(label: string, options: Pick<DiskOpenOptions, 'forceShare'>): string[] {
  if (options.forceShare !== true) return [];
  return [`${label} is read without a lock: if another program writes to it, the data read may be inconsistent.`];
}
