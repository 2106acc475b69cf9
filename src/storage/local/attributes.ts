/**
 * Owner, permissions, access lists and other extended attributes of local files. All through an open handle: a name may
 * be swapped for a link to a file of another user, which must not change owner.
 *
 * Without native calls there are no extended attributes, and access lists cannot be seen.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ImageError } from '../../errors.ts';
import { ACCESS_LIST, DEFAULT_ACCESS_LIST, limitedMode, parseAccessList } from '../attributes.ts';
import type { FileAttributes, PublishHow } from '../contract.ts';
import { calls } from './calls.ts';
import { errorCode } from './errno.ts';
import { encodeName } from './names.ts';
import { isMissingCall, type NativeCalls, nativeCalls } from './native.ts';

const O_EXACT = fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0) | (fs.constants.O_NONBLOCK ?? 0);
/** Attributes derived from the content or bound to the inode by the system: never copied to another file. */
const OF_THE_FILE_ALONE: readonly string[] = ['security.ima', 'security.evm'];
const READ_BY_OTHERS = 0o004;

/** All metadata that the system stores for an open file. */
export async function attributesOf(fd: number): Promise<FileAttributes> {
  const { uid, gid, mode, atimeMs, mtimeMs } = await calls.fstat(fd);
  const native = nativeCalls();
  return {
    owner: uid,
    group: gid,
    mode: mode & 0o7777,
    accessedMs: atimeMs,
    modifiedMs: mtimeMs,
    extended: native === null ? null : extendedOf(native, fd),
  };
}

function extendedOf(native: NativeCalls, fd: number): ReadonlyMap<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  try {
    for (const name of native.attributeNames(fd)) {
      const value = OF_THE_FILE_ALONE.includes(name) ? null : native.attribute(fd, name);
      if (value !== null) found.set(name, value);
    }
  } catch (error) {
    // A file system without such attributes.
    if (!isMissingCall(error)) throw error;
  }
  return found;
}

/** Gives a private file the permissions of an ordinary new file. */
export async function publishAsNew(name: string): Promise<void> {
  if (process.platform === 'win32') return calls.chmod(name, usualMode(name));
  await withFile(name, async (fd) => calls.fchmod(fd, usualMode(name)));
}

/** See {@link StorageProvider.publishLike}. */
export async function applyAttributes(name: string, how: PublishHow): Promise<readonly string[]> {
  // Windows keeps no such things with a file.
  if (process.platform === 'win32') return [];
  return withFile(name, async (fd) => {
    const lost =
      how.like === null
        ? await asNewWithin(fd, name, how.sources ?? [])
        : await new Likeness(fd, await attributesOf(fd), how.like).apply(how);
    await calls.fsync(fd);
    return lost;
  });
}

/** Opens a file that was just created; never follows a replacement. */
async function withFile<T>(name: string, use: (fd: number) => Promise<T>): Promise<T> {
  const fd = await calls.open(name, O_EXACT);
  try {
    const stat = await calls.fstat(fd);
    if (!stat.isFile() || stat.nlink > 1) {
      throw new ImageError('busy', 'Another program replaced the new file while it was being created', { path: name });
    }
    return await use(fd);
  } finally {
    await calls.close(fd);
  }
}

async function asNewWithin(fd: number, name: string, sources: readonly FileAttributes[]): Promise<string[]> {
  const made = await attributesOf(fd);
  const mode = limitedMode(usualMode(name), made.group, sources);
  // The directory's access list may name users without access to the sources.
  if ((mode & READ_BY_OTHERS) === 0) dropAccessList(fd, made);
  await calls.fchmod(fd, mode);
  return [];
}

function dropAccessList(fd: number, made: FileAttributes): void {
  if (made.extended?.has(ACCESS_LIST) === true) nativeCalls()?.removeAttribute(fd, ACCESS_LIST);
}

/** Transfer of attributes to a private file: at no time is it more readable than at the end. */
class Likeness {
  readonly #fd: number;
  readonly #made: FileAttributes;
  readonly #like: FileAttributes;
  readonly #lost: string[] = [];

  constructor(fd: number, made: FileAttributes, like: FileAttributes) {
    this.#fd = fd;
    this.#made = made;
    this.#like = like;
  }

  async apply({ times = false, sources = [] }: PublishHow): Promise<readonly string[]> {
    const like = this.#like;
    this.#setExtended();
    const group = await this.#setOwner();
    const wanted = like.mode & 0o777;
    const kept = limitedMode(wanted, group, group === like.group ? sources : [like, ...sources]);
    const list = like.extended?.get(ACCESS_LIST);
    const listed = list === undefined || sources.every((one) => isOpenToAll(one));
    const exact = kept === wanted && group === like.group && listed && this.#setAccessList();
    if (!exact) {
      dropAccessList(this.#fd, await attributesOf(this.#fd));
      if (list !== undefined) this.#lost.push('access list');
    }
    const mode = exact ? wanted : limitedMode(wanted, group, [like, ...sources]);
    await calls.fchmod(this.#fd, mode);
    if (mode !== wanted) this.#lost.push(`permissions ${wanted.toString(8)} (now ${mode.toString(8)})`);
    if (times) await calls.futimes(this.#fd, like.accessedMs / 1000, like.modifiedMs / 1000);
    return this.#lost;
  }

  /** Returns the resulting group. */
  async #setOwner(): Promise<number> {
    const { owner, group } = this.#like;
    const made = this.#made;
    if (owner === made.owner && group === made.group) return group;
    if (await this.#chown(owner, group)) return group;
    if (owner !== made.owner) this.#lost.push(`owner ${owner}`);
    if (group === made.group || (await this.#chown(made.owner, group))) return group;
    this.#lost.push(`group ${group}`);
    return made.group;
  }

  async #chown(owner: number, group: number): Promise<boolean> {
    try {
      await calls.fchown(this.#fd, owner, group);
      return true;
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
  }

  /** All attributes but the access list, which controls reading. */
  #setExtended(): void {
    for (const [name, value] of this.#like.extended ?? []) {
      if (name === ACCESS_LIST || isSame(this.#made.extended?.get(name), value)) continue;
      if (!this.#set(name, value)) this.#lost.push(`attribute ${name}`);
    }
  }

  /** True when it has the same list as the other file, or neither has one. */
  #setAccessList(): boolean {
    const list = this.#like.extended?.get(ACCESS_LIST);
    if (list !== undefined) return this.#set(ACCESS_LIST, list);
    dropAccessList(this.#fd, this.#made);
    return true;
  }

  #set(name: string, value: Uint8Array): boolean {
    const native = nativeCalls();
    if (native === null) return false;
    try {
      native.setAttribute(this.#fd, name, value);
      return true;
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
  }
}

/** True when everybody may read the file, so that a lost list denies no one access. */
function isOpenToAll(file: FileAttributes): boolean {
  return (limitedMode(file.mode, file.group, [file]) & READ_BY_OTHERS) !== 0;
}

function isRefusal(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'EPERM' || code === 'EACCES' || code === 'ENOSPC' || code === 'E2BIG' || isMissingCall(error);
}

function isSame(one: Uint8Array | undefined, other: Uint8Array): boolean {
  return one !== undefined && one.length === other.length && one.every((byte, at) => byte === other[at]);
}

/** Permissions from the directory's default access list; without one, from the umask. */
function usualMode(name: string): number {
  const list = defaultListOf(path.dirname(name));
  if (list === null) return 0o666 & ~currentUmask();
  const { owner, mask, group, other } = list;
  return 0o666 & ((owner << 6) | ((mask ?? group) << 3) | other);
}

function defaultListOf(directory: string): ReturnType<typeof parseAccessList> {
  const native = nativeCalls();
  if (native === null) return null;
  let fd: number | null = null;
  try {
    fd = fs.openSync(encodeName(directory), 'r');
    const value = native.attribute(fd, DEFAULT_ACCESS_LIST);
    return value === null ? null : parseAccessList(value);
  } catch (error) {
    // No such lists here, or the directory may not be read.
    if (errorCode(error) === null) throw error;
    return null;
  } finally {
    if (fd !== null) fs.closeSync(fd);
  }
}

/**
 * Read without changing it: `process.umask()` sets it to zero for a moment, in which another thread may create a file.
 */
function currentUmask(): number {
  if (process.platform === 'linux') {
    const digits = /^Umask:\s*([0-7]+)$/m.exec(readStatus())?.[1];
    if (digits !== undefined) return Number.parseInt(digits, 8);
  }
  return process.umask();
}

/** Synchronous: it is not on a medium. */
function readStatus(): string {
  try {
    return fs.readFileSync('/proc/self/status', 'latin1');
  } catch {
    return '';
  }
}
