/** Local files by name. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { ImageError, isImageError } from '../../errors.ts';
import { NAME_MAX, shortened } from '../companion.ts';
import type {
  CreateMode,
  DirectoryEntry,
  NameInfo,
  OpenMode,
  Permissions,
  PublishHow,
  Storage,
  StorageProvider,
} from '../contract.ts';
import { TEMPORARY_SUFFIX } from '../staged-set.ts';
import { applyAttributes, publishAsNew } from './attributes.ts';
import { calls } from './calls.ts';
import { errorCode, explained, systemError } from './errno.ts';
import { FileStorage, revisionOf } from './file.ts';
import { fileKey } from './key.ts';
import { decodeName, isEscaped, workingDirectory } from './names.ts';
import { isMissingCall, nativeCalls } from './native.ts';
import { isAtHand } from './quick-writes.ts';
import { randomHex } from './random.ts';
import { syncUnreadable } from './sync-unreadable.ts';

const { O_RDWR, O_RDONLY, O_CREAT, O_EXCL } = fs.constants;
/** Flags that Windows lacks. A terminal must not become the controlling one. */
const O_CAREFUL = (fs.constants.O_NONBLOCK ?? 0) | (fs.constants.O_NOCTTY ?? 0);

/** The files of this machine. Names are paths, relative to the working directory. */
export function localFiles(): StorageProvider {
  return LOCAL;
}

class LocalFiles implements StorageProvider {
  readonly open = openFile;
  readonly create = createFile;
  readonly rename = renameFile;
  readonly list = listFiles;
  readonly entries = listEntries;
  readonly lookUp = lookUp;
  readonly temporaryName = temporaryName;

  async link(from: string, to: string): Promise<void> {
    try {
      await calls.link(from, to);
    } catch (error) {
      const code = errorCode(error);
      const message = 'This file system does not support hard links';
      // Some file systems have no links, and some count them up to a limit.
      if (isMissingCall(error) || code === 'EPERM' || code === 'EMLINK')
        throw new ImageError('unsupported', message, { path: to });
      throw systemError(error, { path: code === 'ENOENT' ? from : to });
    }
  }

  remove(name: string): Promise<void> {
    return explained(name, () => calls.unlink(name));
  }

  makeDirectory(name: string): Promise<void> {
    return explained(name, () => calls.mkdir(name));
  }

  removeDirectory(name: string): Promise<void> {
    return explained(name, () => calls.rmdir(name));
  }

  resolve(name: string, relativeTo: string): string {
    const base = relativeTo === '' ? '' : path.dirname(relativeTo);
    if (path.isAbsolute(name) || path.isAbsolute(base)) return path.resolve(base, name);
    return path.resolve(workingDirectory(), base, name);
  }

  directory(name: string): string {
    return path.dirname(name);
  }

  realName(name: string): Promise<string> {
    return explained(name, () => calls.realpath(name));
  }

  publishMode(name: string): Promise<void> {
    return explained(name, () => publishAsNew(name));
  }

  publishLike(name: string, how: PublishHow): Promise<readonly string[]> {
    return explained(name, () => applyAttributes(name, how));
  }

  syncNames(directory: string): Promise<void> {
    return explained(directory, () => syncDirectory(directory));
  }

  freeSpace(directory: string): Promise<number | null> {
    return explained(directory, () => freeBytes(directory));
  }
}

const LOCAL = new LocalFiles();

/** Non-blocking: a FIFO would hang until its other end is opened. The handle shows the type of the file. */
async function openFile(name: string, mode: OpenMode): Promise<Storage> {
  const fd = await openCarefully(name, mode);
  try {
    const stat = await calls.fstat(fd, { bigint: true });
    if (stat.isFile()) {
      const atHand = mode === 'write' && (await isAtHand(name));
      return new FileStorage({ fd, label: name, name, mode, size: Number(stat.size), kind: 'file', atHand });
    }
    if (!stat.isBlockDevice()) throw notAnImage(name, stat);
    return new FileStorage({ fd, label: name, mode, size: await deviceSize(fd, stat.rdev), kind: 'device' });
  } catch (error) {
    await calls.close(fd);
    throw systemError(error, { path: name });
  }
}

async function openCarefully(name: string, mode: OpenMode): Promise<number> {
  try {
    return await calls.open(name, (mode === 'write' ? O_RDWR : O_RDONLY) | O_CAREFUL);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENXIO' || code === 'EISDIR' || code === 'EOPNOTSUPP' || code === 'ENOTSUP') {
      // These have no handle to look at, so the message is made from the name. Nothing was opened.
      const stat = await calls.stat(name, { bigint: true }).catch(() => null);
      if (stat !== null && !stat.isFile() && !stat.isBlockDevice()) throw notAnImage(name, stat);
    }
    throw systemError(error, { path: name });
  }
}

function notAnImage(name: string, stat: fs.BigIntStats): ImageError {
  return new ImageError('unsupported', `This is ${describeKind(stat)}, not an image`, {
    path: name,
    hint: stat.isDirectory() ? 'Name a file inside it.' : 'Name a file; standard input is named "-".',
  });
}

function describeKind(stat: fs.BigIntStats): string {
  if (stat.isDirectory()) return 'a directory';
  if (stat.isFIFO()) return 'a FIFO';
  if (stat.isSocket()) return 'a socket';
  return stat.isCharacterDevice() ? 'a character device' : 'not a regular file';
}

/**
 * `stat` reports no size for devices: ask the driver, then the system's table of devices, then the medium itself.
 */
async function deviceSize(fd: number, device: bigint): Promise<number> {
  const native = nativeCalls();
  if (native !== null) return native.seekEnd(fd);
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffff_ff00n);
  try {
    const sectors = Number(await calls.readFile(`/sys/dev/block/${major}:${minor}/size`, 'latin1'));
    if (Number.isSafeInteger(sectors * 512)) return sectors * 512;
  } catch {
    // Another system, or one without that table: the size is found by reading.
  }
  return measuredSize(fd);
}

/** The first unreadable sector ends the device. A binary search finds it in about fifty reads. */
async function measuredSize(fd: number): Promise<number> {
  const sector = new Uint8Array(512);
  const exists = async (index: number): Promise<boolean> => {
    const { bytesRead } = await calls.read(fd, sector, 0, sector.length, index * sector.length);
    return bytesRead === sector.length;
  };
  let low = 0;
  let high = 1;
  while (high < 2 ** 43 && (await exists(high - 1))) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (await exists(middle - 1)) low = middle;
    else high = middle;
  }
  return low * sector.length;
}

async function createFile(name: string, how: CreateMode = {}): Promise<Storage> {
  const label = how.label ?? name;
  try {
    const fd = await calls.open(name, O_RDWR | O_CREAT | O_EXCL, how.private === true ? 0o600 : 0o666);
    const known = how.private === true ? {} : { name };
    const atHand = await isAtHand(name);
    return new FileStorage({ fd, label, mode: 'write', size: 0, kind: 'file', atHand, ...known });
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw systemError(error, { path: label });
    throw new ImageError('not-found', 'The directory of the new file does not exist', {
      path: path.dirname(name),
      status: 'VERR_PATH_NOT_FOUND',
      hint: 'Create the directory first (mkdir -p).',
      cause: error,
    });
  }
}

async function renameFile(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
  try {
    if (how.replace) await calls.rename(from, to);
    else await renameWithoutReplacing(from, to);
  } catch (error) {
    if (isImageError(error)) throw error;
    // A name that is taken is the new one; what is missing or refused is the old one, as far as anybody can tell.
    const path = errorCode(error) === 'ENOENT' ? from : to;
    throw systemError(error, { path });
  }
}

async function renameWithoutReplacing(from: string, to: string): Promise<void> {
  const native = nativeCalls();
  try {
    if (native !== null && !isEscaped(from) && !isEscaped(to)) return native.renameNoReplace(from, to);
  } catch (error) {
    if (!isMissingCall(error)) throw error;
  }
  if ((await calls.stat(from)).isDirectory()) return renameDirectory(from, to);
  try {
    // A hard link never replaces either. Between the two calls the file has both names, and is whole under both.
    await calls.link(from, to);
  } catch (error) {
    if (isMissingCall(error) || errorCode(error) === 'EPERM') return renameOverPlaceholder(from, to);
    throw error;
  }
  await calls.unlink(from);
}

/** An empty directory is replaced in one step, so that one reserves the name. Windows replaces none, not even that. */
async function renameDirectory(from: string, to: string): Promise<void> {
  if (process.platform === 'win32') return calls.rename(from, to);
  await calls.mkdir(to);
  try {
    await calls.rename(from, to);
  } catch (error) {
    await calls.rmdir(to);
    throw error;
  }
}

/** For file systems without links: an exclusively created empty file reserves the name first. */
async function renameOverPlaceholder(from: string, to: string): Promise<void> {
  await calls.stat(from);
  await calls.close(await calls.open(to, O_RDWR | O_CREAT | O_EXCL, 0o600));
  await calls.rename(from, to);
}

/** Names of a directory that are looked at together. */
const LOOKED_AT_TOGETHER = 32;

/** Its names are bytes, one a character. */
function openDirectory(directory: string): Promise<fs.Dir> {
  return calls.opendir(directory, { encoding: 'latin1' });
}

async function* listFiles(directory: string): AsyncGenerator<string> {
  const entries = await explained(directory, () => openDirectory(directory));
  try {
    for await (const entry of entries) {
      if (entry.isFile() || entry.isSymbolicLink())
        yield path.resolve(directory, decodeName(Buffer.from(entry.name, 'latin1')));
    }
  } catch (error) {
    throw systemError(error, { path: directory });
  }
}

async function* listEntries(directory: string): AsyncGenerator<DirectoryEntry> {
  const entries = await explained(directory, () => openDirectory(directory));
  try {
    let together: string[] = [];
    for await (const { name } of entries) {
      together.push(decodeName(Buffer.from(name, 'latin1')));
      if (together.length < LOOKED_AT_TOGETHER) continue;
      yield* await Promise.all(together.map((one) => entryAt(directory, one)));
      together = [];
    }
    yield* await Promise.all(together.map((one) => entryAt(directory, one)));
  } catch (error) {
    throw systemError(error, { path: directory });
  }
}

async function entryAt(directory: string, name: string): Promise<DirectoryEntry> {
  const full = path.resolve(directory, name);
  const stat = await calls.lstat(full, { bigint: true });
  const isLink = stat.isSymbolicLink();
  return {
    name,
    path: full,
    kind: isLink ? 'link' : stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : 'other',
    size: Number(stat.size),
    key: fileKey(stat),
    modifiedMs: Number(stat.mtimeMs),
    revision: revisionOf(stat).text,
    executable: (stat.mode & 0o111n) !== 0n,
    permissions: permissionsOf(stat),
    ...(isLink ? { target: await calls.readlink(full) } : {}),
  };
}

async function lookUp(name: string): Promise<NameInfo | null> {
  try {
    const stat = await calls.stat(name, { bigint: true });
    return {
      kind: kindOf(stat),
      ...(stat.isBlockDevice() ? { isBlockDevice: true } : {}),
      size: Number(stat.size),
      key: fileKey(stat),
      links: Number(stat.nlink),
      volume: `${stat.dev}`,
      modifiedMs: Number(stat.mtimeMs),
      permissions: permissionsOf(stat),
    };
  } catch (error) {
    const code = errorCode(error);
    // A name that is too long for the file system does not exist.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG') return null;
    throw systemError(error, { path: name });
  }
}

function permissionsOf(stat: fs.BigIntStats): Permissions {
  return { mode: Number(stat.mode & 0o7777n), owner: Number(stat.uid), group: Number(stat.gid) };
}

function kindOf(stat: fs.BigIntStats): NameInfo['kind'] {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isFIFO()) return 'pipe';
  return stat.isBlockDevice() || stat.isCharacterDevice() ? 'device' : 'other';
}

function temporaryName(name: string): string {
  const ending = `.${randomHex(8)}${TEMPORARY_SUFFIX}`;
  const base = shortened(path.basename(name), NAME_MAX - ending.length - 1);
  return path.join(path.dirname(name), `.${base}${ending}`);
}

async function openOrNull(directory: string): Promise<number | null> {
  try {
    return await calls.open(directory, 'r');
  } catch (error) {
    if (errorCode(error) === 'EACCES') return null;
    throw error;
  }
}

async function syncDirectory(directory: string): Promise<void> {
  // Windows has no handle on a directory that could be flushed; its file systems keep a journal of names.
  if (process.platform === 'win32') return;
  const handle = await openOrNull(directory);
  // The names in it may be changed by users who may not read it.
  if (handle === null) return syncUnreadable(directory);
  try {
    await calls.fsync(handle);
  } catch (error) {
    // Some network file systems cannot flush a directory; there a name is durable when the server answered.
    if (!isMissingCall(error)) throw error;
  } finally {
    await calls.close(handle);
  }
}

async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await calls.statfs(directory, { bigint: true });
  return Number(bavail * bsize);
}
