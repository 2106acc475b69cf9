/**
 * Lock files: mutual exclusion between vdkit processes where the system has no locks. `<image>.vdkit-lock` names the
 * process that writes the image. It appears complete, durable and atomically, and only if there is none.
 *
 * The lock file of a dead process is stale and may be replaced, by one process only: while it does so it holds another
 * lock file, `<image>.vdkit-lock.takeover`, made the same way. Only its owner, or the holder of the takeover lock, ever
 * removes a lock file; so a file found stale under that lock is still the same file when it is removed. A process is
 * dead if it ran on this machine, among the processes that can be seen from here, and is gone. Others are unknown:
 * their files count as live, and people have to remove them.
 *
 * A file without content was left by a power cut: no live process has one. Only where a file system has no links, a
 * lock file is empty for the moment in which it is made; there it must be some seconds old.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { ImageError, isImageError, printable } from '../../errors.ts';
import { companionName } from '../companion.ts';
import type { LockHolder, LockMode } from '../contract.ts';
import { calls } from './calls.ts';
import { writeFully } from './descriptor.ts';
import { errorCode, explained, isExhausted, systemError } from './errno.ts';
import { isMissingCall } from './native.ts';
import { randomHex } from './random.ts';

const SUFFIX = '.vdkit-lock';
const TAKEOVER_SUFFIX = '.takeover';
/** A lock file is a few hundred bytes; anything larger is something else. */
const MAX_BYTES = 4096;
const CAREFUL = (fs.constants.O_NONBLOCK ?? 0) | (fs.constants.O_NOFOLLOW ?? 0);
/** Lock files of lock files of lock files: each exists for microseconds only. */
const MAX_DEPTH = 3;
const MAX_ATTEMPTS = 5;
/** On a file system without links: an empty lock file older than this is not being written. */
const ABANDONED_MS = 10_000;

/** Content of a lock file. */
export interface LockRecord {
  readonly file: string;
  readonly mode: LockMode;
  readonly shareable: boolean;
  /** Empty when unreadable. */
  readonly holders: readonly LockHolder[];
  readonly host: string | null;
  readonly isOwn: boolean;
}

/** Content of a new lock file. Null: not available on this system. */
interface Content {
  readonly token: string;
  readonly pid: number;
  readonly host: string;
  /** The machine, its boot, and the PID namespace: the scope of `pid`. */
  readonly machine: string | null;
  readonly boot: string | null;
  readonly namespace: string | null;
  /** Distinguishes a process from a later one with the same number. */
  readonly started: string | null;
  readonly mode: LockMode;
  readonly shareable: boolean;
  readonly since: string;
}

/** The live lock file of an image; null when there is none, or only a stale one. */
export async function readLockFile(name: string): Promise<LockRecord | null> {
  const file = await lockFileName(name);
  const found = await explained(name, () => readFound(file));
  return found === null || (await isLeft(found)) ? null : recordOf(file, found.content);
}

/** A lock file of this process. */
export class LockFile {
  readonly name: string;
  readonly #token: string;

  private constructor(name: string, token: string) {
    this.name = name;
    this.#token = token;
  }

  /** Creates the lock file of an image, or returns the conflicting one. */
  static async take(
    image: string,
    how: { readonly mode: LockMode; readonly shareable: boolean },
  ): Promise<LockFile | LockRecord> {
    const file = await lockFileName(image);
    try {
      return await LockFile.#make(file, how, 1);
    } catch (error) {
      if (isImageError(error)) throw error;
      throw cannotMake(image, file, error);
    }
  }

  static async #make(
    file: string,
    how: { readonly mode: LockMode; readonly shareable: boolean },
    depth: number,
  ): Promise<LockFile | LockRecord> {
    const content: Content = { ...(await ownContent()), ...how };
    const text = `${JSON.stringify(content)}\n`;
    let found: Found | null = null;
    for (let attempt = 0; found === null && attempt < MAX_ATTEMPTS; attempt++) {
      const outcome = await appear(file, text);
      if (outcome === 'made') return new LockFile(file, content.token);
      // Null: it went away in between, so there may be room now.
      found = await readFound(file);
      if (outcome === 'being made') return recordOf(file, found?.content ?? null);
    }
    const theirs = found?.content ?? null;
    if (found === null || depth === MAX_DEPTH || !(await isLeft(found))) return recordOf(file, theirs);
    const takeover = await LockFile.#make(companionName(file, TAKEOVER_SUFFIX), how, depth + 1);
    if (!(takeover instanceof LockFile)) return takeover;
    try {
      await removeStale(file);
      return (await appear(file, text)) === 'made' ? new LockFile(file, content.token) : recordOf(file, null);
    } finally {
      await takeover.remove();
    }
  }

  /** Removes it, unless people did and another process has created a new one since. */
  async remove(): Promise<void> {
    const found = await readFound(this.name);
    if (found?.content?.token !== this.#token) return;
    await unlinkIfThere(this.name);
  }
}

/** All names of an image lead to one lock file. */
async function lockFileName(image: string): Promise<string> {
  const real = await calls.realpath(image).catch(() => image);
  return companionName(real, SUFFIX);
}

/**
 * `made`, or the obstacle: an existing file, or one that may be in the middle of being written.
 */
type Appearance = 'made' | 'taken' | 'being made';

/** Creates a file with all its content, durably, unless the name is taken. */
async function appear(file: string, text: string): Promise<Appearance> {
  const draft = path.join(path.dirname(file), `.vdkit-lock-${randomHex(8)}`);
  try {
    await writeDurably(draft, text);
    await calls.link(draft, file);
    return 'made';
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return 'taken';
    if (!isMissingCall(error) && errorCode(error) !== 'EPERM') throw error;
    return await createWith(file, text, draft);
  } finally {
    await unlinkIfThere(draft);
  }
}

async function writeDurably(file: string, text: string): Promise<void> {
  const handle = await calls.open(file, fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o644);
  try {
    await writeFully(handle, 0, new TextEncoder().encode(text));
    await calls.fsync(handle);
  } finally {
    await calls.close(handle);
  }
}

/** For file systems without links. `draft` was created just now, by the same clock. */
async function createWith(file: string, text: string, draft: string): Promise<Appearance> {
  try {
    await writeDurably(file, text);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
    const [found, now, then] = await Promise.all([readFound(file), modifiedMs(draft), modifiedMs(file)]);
    if (found?.empty !== true || now === null || then === null) return 'taken';
    return now - then > ABANDONED_MS ? 'taken' : 'being made';
  }
  // While it was empty it may have been taken for abandoned and replaced.
  const written = await readFound(file);
  return written?.content !== null && written?.content.token === parseContent(text)?.token ? 'made' : 'being made';
}

async function modifiedMs(file: string): Promise<number | null> {
  return calls.stat(file).then(
    ({ mtimeMs }) => mtimeMs,
    () => null,
  );
}

/** Called only under the takeover lock. */
async function removeStale(file: string): Promise<void> {
  const found = await readFound(file);
  if (found !== null && (await isLeft(found))) await unlinkIfThere(file);
}

/** True for a lock file without a living owner. */
async function isLeft({ empty, content }: Found): Promise<boolean> {
  return empty || (content !== null && (await isStale(content)));
}

async function unlinkIfThere(file: string): Promise<void> {
  try {
    await calls.unlink(file);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** Content of a lock file as found. */
interface Found {
  /** Null for anything but a readable lock file. */
  readonly content: Content | null;
  /** Never written: a file of no bytes, or of zeroes after a power cut. */
  readonly empty: boolean;
}

/** Null when there is nothing. */
async function readFound(file: string): Promise<Found | null> {
  let handle: number;
  try {
    handle = await calls.open(file, fs.constants.O_RDONLY | CAREFUL);
  } catch (error) {
    const code = errorCode(error);
    // This says nothing about the file.
    if (isExhausted(error)) throw error;
    // Where no file can be, none is: the name is too long, or a part of it is no directory.
    const missing = code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG';
    return missing ? null : { content: null, empty: false };
  }
  try {
    const bytes = new Uint8Array(MAX_BYTES);
    const { bytesRead } = await calls.read(handle, bytes, 0, MAX_BYTES, 0);
    const read = bytes.subarray(0, bytesRead);
    const { size } = await calls.fstat(handle);
    const empty = size === bytesRead && read.every((byte) => byte === 0);
    return { content: parseContent(new TextDecoder().decode(read)), empty };
  } catch {
    return { content: null, empty: false };
  } finally {
    await calls.close(handle);
  }
}

function parseContent(text: string): Content | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { token, pid, host, machine, boot, namespace, started, mode, shareable } = value as Record<string, unknown>;
  if (typeof token !== 'string' || typeof host !== 'string' || !Number.isSafeInteger(pid) || Number(pid) <= 0)
    return null;
  return {
    token,
    pid: Number(pid),
    host,
    machine: textOrNull(machine),
    boot: textOrNull(boot),
    namespace: textOrNull(namespace),
    started: textOrNull(started),
    mode: mode === 'shared' ? 'shared' : 'exclusive',
    shareable: shareable === true,
    since: '',
  };
}

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/** An unreadable lock file excludes everyone, as the strictest lock would. */
function recordOf(file: string, content: Content | null): LockRecord {
  if (content === null) {
    return { file, mode: 'exclusive', shareable: false, holders: [], host: null, isOwn: false };
  }
  const { mode, shareable, pid, host } = content;
  const isOwn = pid === process.pid && host === os.hostname();
  return { file, mode, shareable, holders: [{ pid, name: 'vdkit' }], host: printable(host), isOwn };
}

async function ownContent(): Promise<Omit<Content, 'mode' | 'shareable'>> {
  const [place, started] = await Promise.all([ownPlace(), processStart(process.pid)]);
  return {
    token: randomHex(12),
    pid: process.pid,
    host: os.hostname(),
    ...place,
    started,
    since: new Date().toISOString(),
  };
}

async function ownPlace(): Promise<Pick<Content, 'machine' | 'boot' | 'namespace'>> {
  const read = (file: string): Promise<string | null> =>
    calls.readFile(file, 'latin1').then(
      (text) => text.trim() || null,
      () => null,
    );
  const [machine, boot, namespace] = await Promise.all([
    read('/etc/machine-id'),
    read('/proc/sys/kernel/random/boot_id'),
    calls.readlink('/proc/self/ns/pid').catch(() => null),
  ]);
  return { machine, boot, namespace };
}

async function isStale(content: Content): Promise<boolean> {
  const here = await ownPlace();
  if (content.host !== os.hostname() || content.machine !== here.machine) return false;
  if (content.boot !== here.boot) {
    // The same machine was started again, if it is the same: a name alone many may have.
    return content.machine !== null && content.boot !== null && here.boot !== null;
  }
  if (content.namespace !== here.namespace) return false;
  if (!isAlive(content.pid)) return true;
  const started = await processStart(content.pid);
  return started !== null && content.started !== null && started !== content.started;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== 'ESRCH';
  }
}

/** Clock ticks from the start of the system to that of the process. */
async function processStart(pid: number): Promise<string | null> {
  const text = await calls.readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  // The name before it may hold anything, but it ends at the last bracket.
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

function cannotMake(image: string, file: string, cause: unknown): unknown {
  const system = systemError(cause, { path: image });
  if (!isImageError(system)) return system;
  if (isExhausted(cause)) return system;
  return new ImageError(system.kind, `The lock file next to the image cannot be created: ${system.message}`, {
    path: image,
    status: system.status,
    field: 'lock',
    found: file,
    hint: 'If no other program has the image open, write without a lock: lock: false (--no-lock).',
    cause,
  });
}
