/** Local files by name. */
import * as fs from 'node:fs';
import { constants } from 'node:fs';
import * as path from 'node:path';
import { randomBytes } from 'node:crypto';
import { ImageError } from '../../errors.ts';
import type { CreateMode, NameInfo, OpenMode, Storage, StorageProvider } from '../contract.ts';
import { errorCode, systemError } from './errno.ts';
import { FileStorage, fileKey } from './file.ts';
import { isMissingCall, nativeCalls } from './native.ts';

/** Longest name of a file on the usual file systems, bytes. */
const NAME_MAX = 255;
/** Temporary names carry these around the real one, so that people can tell what was left behind by a crash. */
const TEMPORARY_SUFFIX = '.vdkit-tmp';

/** The files of this machine. */
export function localFiles(): StorageProvider {
  return LOCAL;
}

const LOCAL: StorageProvider = {
  open: openFile,
  create: createFile,
  rename: renameFile,
  remove: (name) => attempt(name, () => fs.promises.unlink(name)),
  list: listFiles,
  resolve: (name, relativeTo) => (relativeTo === '' ? path.resolve(name) : path.resolve(path.dirname(relativeTo), name)),
  directory: (name) => path.dirname(name),
  lookUp,
  realName: (name) => attempt(name, () => fs.promises.realpath(name)),
  temporaryName,
  publishMode: (name) => attempt(name, () => fs.promises.chmod(name, 0o666 & ~process.umask())),
  syncNames,
  freeSpace,
};

async function attempt<T>(name: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw systemError(error, { path: name });
  }
}

/** Without blocking: a FIFO would hang until somebody opens its other end. What it is shows in the handle. */
async function openFile(name: string, mode: OpenMode): Promise<Storage> {
  const access = mode === 'write' ? constants.O_RDWR : constants.O_RDONLY;
  const fd = await attempt(name, () => openDescriptor(name, access | constants.O_NONBLOCK));
  try {
    const stat = fs.fstatSync(fd);
    if (stat.isFile()) return new FileStorage({ fd, label: name, mode, size: stat.size, kind: 'file' });
    if (stat.isBlockDevice()) return new FileStorage({ fd, label: name, mode, size: deviceSize(fd), kind: 'device' });
    throw notAnImage(name, stat);
  } catch (error) {
    fs.closeSync(fd);
    throw systemError(error, { path: name });
  }
}

function openDescriptor(name: string, flags: number, permissions = 0o666): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(name, flags, permissions, (error, fd) => (error === null ? resolve(fd) : reject(error)));
  });
}

function notAnImage(name: string, stat: fs.Stats): ImageError {
  const found = describeKind(stat);
  const hint = stat.isDirectory()
    ? 'Name a file inside it.'
    : 'Name a file; to read from standard input, name it "-".';
  return new ImageError('unsupported', `This is ${found}, not an image`, { path: name, hint });
}

function describeKind(stat: fs.Stats): string {
  if (stat.isDirectory()) return 'a directory';
  if (stat.isFIFO()) return 'a FIFO';
  if (stat.isSocket()) return 'a socket';
  return stat.isCharacterDevice() ? 'a character device' : 'no regular file';
}

/** `stat` reports no size for devices. Without the system call it is found by reading: halving what is left. */
function deviceSize(fd: number): number {
  const native = nativeCalls();
  if (native !== null) return native.seekEnd(fd);
  const byte = Buffer.alloc(1);
  const readable = (at: number): boolean => fs.readSync(fd, byte, 0, 1, at) === 1;
  let low = 0;
  let high = 512;
  while (readable(high - 1) && high < Number.MAX_SAFE_INTEGER / 2) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (readable(middle - 1)) low = middle;
    else high = middle;
  }
  return low;
}

async function createFile(name: string, how: CreateMode = {}): Promise<Storage> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const label = how.label ?? name;
  try {
    const fd = await openDescriptor(name, flags, how.private === true ? 0o600 : 0o666);
    return new FileStorage({ fd, label, mode: 'write', size: 0, kind: 'file' });
  } catch (error) {
    throw systemError(error, { path: label });
  }
}

async function renameFile(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
  if (how.replace) return attempt(to, () => fs.promises.rename(from, to));
  const native = nativeCalls();
  try {
    if (native !== null) return native.renameNoReplace(from, to);
  } catch (error) {
    if (!isMissingCall(error)) throw systemError(error, { path: to });
  }
  // A hard link never replaces either; between the two calls the file has both names, and both are whole.
  await attempt(to, () => fs.promises.link(from, to));
  await attempt(from, () => fs.promises.unlink(from));
}

async function* listFiles(directory: string): AsyncGenerator<string> {
  const entries = await attempt(directory, () => fs.promises.opendir(directory));
  for await (const entry of entries) {
    if (entry.isFile() || entry.isSymbolicLink()) yield path.join(directory, entry.name);
  }
}

async function lookUp(name: string): Promise<NameInfo | null> {
  try {
    const stat = await fs.promises.stat(name);
    return { kind: kindOf(stat), size: stat.size, key: fileKey(stat) };
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw systemError(error, { path: name });
  }
}

function kindOf(stat: fs.Stats): NameInfo['kind'] {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isFIFO()) return 'pipe';
  return stat.isBlockDevice() || stat.isCharacterDevice() ? 'device' : 'other';
}

function temporaryName(name: string): string {
  const ending = `.${randomBytes(6).toString('hex')}${TEMPORARY_SUFFIX}`;
  let base = path.basename(name);
  while (Buffer.byteLength(base) + ending.length + 1 > NAME_MAX) base = base.slice(0, -1);
  return path.join(path.dirname(name), `.${base}${ending}`);
}

async function syncNames(directory: string): Promise<void> {
  // Windows has no handle on a directory that could be flushed; its file systems keep a journal of names.
  if (process.platform === 'win32') return;
  await attempt(directory, async () => {
    const handle = await fs.promises.open(directory, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
}

async function freeSpace(directory: string): Promise<number | null> {
  const { bavail, bsize } = await attempt(directory, () => fs.promises.statfs(directory));
  return bavail * bsize;
}
