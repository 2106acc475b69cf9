/**
 * A local file or block device as a storage. Uses plain descriptors with the callback functions of `node:fs`, which are
 * faster than file handles.
 *
 * The size is tracked: it is raised when a write starts. The last answer about holes is kept, since asking the system
 * for every run costs more than moving the data; a change invalidates it both when it starts and when it ends, because
 * an answer obtained in between may describe either state. Operations are counted: the number of a closed descriptor is
 * reused at once, so `close` waits for running operations.
 */
import * as fs from 'node:fs';
import { ImageError } from '../../errors.ts';
import { checkRange, checkSize, checkWriteRange, closedStorage, lengthOf, readOnlyStorage } from '../checks.ts';
import { nowMs } from '../clock.ts';
import {
  type FileAttributes,
  isPromise,
  type LockMode,
  type LockOptions,
  type LockState,
  type MaybePromise,
  type OpenMode,
  type OperationOptions,
  type ReadTarget,
  type Storage,
  type StorageCapabilities,
  type StorageExtent,
  type StorageIdentity,
  type StoragePlace,
  type StorageRevision,
  type WriteSource,
} from '../contract.ts';
import { checkSignal } from '../or-aborted.ts';
import { attributesOf } from './attributes.ts';
import { CachedReads } from './cached-reads.ts';
import { calls } from './calls.ts';
import { afterBytes, EndOfFile, readFully, readListFully, writeFully, writeListFully } from './descriptor.ts';
import { systemError } from './errno.ts';
import { fileKey } from './key.ts';
import { FileLock } from './lock.ts';
import { isMissingCall, loadedCalls, type NativeCalls, nativeCalls } from './native.ts';
import { placeOf } from './place.ts';
import { QuickWrites } from './quick-writes.ts';
import { TURN_BYTES, WriteTurns } from './write-turns.ts';

/** Parts of a `FileStorage`, which takes over the descriptor. */
export interface OpenedFile {
  readonly fd: number;
  readonly label: string;
  readonly mode: OpenMode;
  readonly size: number;
  readonly kind: 'file' | 'device';
  /** Name on the medium. Absent: the file is unnamed, so it needs no lock file. */
  readonly name?: string;
  /** The medium is local: small writes need no thread, and large ones take turns. Default false. */
  readonly atHand?: boolean;
}

/** Piece size for writing zeroes where the system has no call for it. */
const ZERO_PIECE = 1024 * 1024;
let zeroPiece: Uint8Array | null = null;

/**
 * File systems whose block count is 0 only for files without data, even before they reach the medium: ext, XFS, tmpfs.
 * Network and FUSE file systems report 0 for full files.
 */
const COUNTING_FILE_SYSTEMS: readonly number[] = [0xef53, 0x5846_5342, 0x0102_1994];
/** Files in memory are searched for holes page by page: this many bytes take milliseconds. */
const LONG_SEEK = 256 * 1024 * 1024;
/** A faster search means that the file system has a list of extents, whatever the length of the file. */
const SLOW_SEEK_MS = 1;
/** Smaller files may be stored in their inode, without a block. */
const MIN_COUNTED_SIZE = 64 * 1024;

/** A local file or block device, with tracked size and cached holes. */
export class FileStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #fd: number;
  readonly #kind: 'file' | 'device';
  readonly #lock: FileLock;
  readonly #quick: QuickWrites | null;
  readonly #cached: CachedReads | null;
  readonly #turns: WriteTurns | null;
  #native: NativeCalls | null | undefined;
  #size: number;
  #running = 0;
  #idle: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  #extent: StorageExtent | null = null;
  /** Counts changes, so that a slow answer is not cached if the file changed in the meantime. */
  #changes = 0;
  /** The file system cannot seek holes: it is not asked again. */
  #cannotSeek = false;
  /** The file system searches page by page. Assumed until the first long search. */
  #slowSeeks = true;
  #cannotPunch = false;
  #cannotZero = false;

  constructor(file: OpenedFile) {
    const write = file.mode === 'write';
    this.#fd = file.fd;
    this.#kind = file.kind;
    const atHand = file.kind === 'file' && file.atHand === true;
    this.#quick = atHand ? new QuickWrites() : null;
    this.#turns = atHand ? new WriteTurns() : null;
    // A device may wait for its medium whatever it is asked.
    this.#cached = file.kind === 'file' ? new CachedReads(file.fd) : null;
    this.#size = file.size;
    this.label = file.label;
    this.#lock = new FileLock(file);
    this.can = new FileCapabilities(write, file.kind, () => this.#calls() !== null && !this.#cannotPunch);
  }

  get size(): number {
    return this.#size;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    if (this.#closing !== null) throw closedStorage(this.label);
    checkRange(this, offset, target.length);
    return this.#cached?.read(this.#calls(), offset, target) ?? false;
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The read');
    this.#start();
    try {
      checkRange(this, offset, lengthOf(target));
      const only = target instanceof Uint8Array ? target : target.length === 1 ? target[0] : undefined;
      if (only !== undefined && this.#cached?.readSmall(loadedCalls(), offset, only) === true) return;
      if (target instanceof Uint8Array) await readFully(this.#fd, offset, target);
      else await readListFully(this.#fd, offset, target);
    } catch (error) {
      throw this.#explain(error, offset);
    } finally {
      this.#end();
    }
  }

  async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The write');
    const length = lengthOf(source);
    this.#startChange();
    try {
      if (this.#kind === 'device') checkRange(this, offset, length);
      else checkWriteRange(this.label, offset, length);
      if (length === 0) return;
      this.#size = Math.max(this.#size, offset + length);
      this.#filled(offset, length);
      // A device may wait for its medium even for little.
      const quick = this.#quick?.write(this.#fd, offset, source, length) ?? 0;
      const done = isPromise(quick) ? await quick : quick;
      if (done === length) return;
      const rest = done === 0 ? source : afterBytes(source, done);
      const turns = length - done >= TURN_BYTES ? this.#turns : null;
      if (rest instanceof Uint8Array) await writeFully(this.#fd, offset + done, rest, turns);
      else await writeListFully(this.#fd, offset + done, rest, turns);
    } catch (error) {
      throw this.#explain(error, offset);
    } finally {
      this.#filled(offset, length);
      this.#end();
    }
  }

  extentAt(offset: number): MaybePromise<StorageExtent> {
    if (this.#closing !== null) throw closedStorage(this.label);
    checkRange(this, offset, 1);
    const known = this.#extent;
    if (known !== null && offset >= known.start && offset < known.end) return known;
    if (this.#cannotSeek || this.#kind === 'device') return this.#allData();
    const native = this.#calls();
    if (native === null) return this.#size < MIN_COUNTED_SIZE ? this.#allData() : this.#extentByBlocks();
    if (this.#slowSeeks && this.#size - offset >= LONG_SEEK) return this.#seekLong(native, offset);
    return this.#keep(this.#seekExtent(native, offset));
  }

  async zero(
    offset: number,
    length: number,
    how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    checkSignal(options, 'The write');
    this.#startChange();
    try {
      checkRange(this, offset, length);
      if (length === 0) return;
      this.#forget();
      if (!(await this.#zeroNatively(offset, length, how.punch))) await this.#writeZeroes(offset, length);
    } catch (error) {
      throw this.#explain(error, offset);
    } finally {
      this.#forget();
      this.#end();
    }
  }

  /**
   * Allocates space. Without a system call it writes: zeroes past the end, and the existing bytes before it. There must
   * be no other writes to the range at the same time.
   */
  adviseSequential(): void {
    this.#calls()?.adviseSequential(this.#fd);
  }

  async allocate(offset: number, length: number, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The write');
    this.#startChange();
    try {
      checkWriteRange(this.label, offset, length);
      if (this.#kind === 'device') checkRange(this, offset, length);
      if (length === 0 || this.#kind === 'device') return;
      const oldSize = this.#size;
      this.#size = Math.max(oldSize, offset + length);
      if (!(await this.#allocateNatively(offset, length))) await this.#allocateByWriting(offset, length, oldSize);
    } catch (error) {
      throw this.#explain(error, offset);
    } finally {
      this.#forget();
      this.#end();
    }
  }

  async resize(size: number, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The resize');
    this.#startChange();
    const oldSize = this.#size;
    try {
      checkSize(this.label, size);
      if (this.#kind === 'device') {
        throw new ImageError('unsupported', 'The size of a device is fixed', {
          path: this.label,
          hint: 'Copy the image into a file first (on the command line: convert).',
        });
      }
      this.#size = size;
      this.#forget();
      await calls.ftruncate(this.#fd, size);
    } catch (error) {
      if (this.#size === size) this.#size = oldSize;
      throw this.#explain(error);
    } finally {
      this.#forget();
      this.#end();
    }
  }

  /**
   * `fdatasync`: a larger size counts as data, and times are not worth a second write.
   */
  async flush(options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The flush');
    this.#start();
    try {
      await calls.fdatasync(this.#fd);
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#end();
    }
  }

  async identity(): Promise<StorageIdentity> {
    this.#start();
    try {
      const stat = await calls.fstat(this.#fd, { bigint: true });
      const allocatedSize = this.#kind === 'file' && process.platform !== 'win32' ? Number(stat.blocks) * 512 : null;
      const { mtimeMs } = stat;
      const own = { key: fileKey(stat), kind: this.#kind, allocatedSize, modifiedMs: Number(mtimeMs) };
      // The time of a device's name says nothing of its bytes.
      return this.#kind === 'file' ? { ...own, revision: revisionOf(stat) } : own;
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#end();
    }
  }

  async attributes(): Promise<FileAttributes | null> {
    if (this.#kind !== 'file') return null;
    this.#start();
    try {
      return await attributesOf(this.#fd);
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#end();
    }
  }

  async place(): Promise<StoragePlace | null> {
    this.#start();
    try {
      return await placeOf(this.#fd);
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#end();
    }
  }

  async lock(mode: LockMode, how: LockOptions = {}): Promise<void> {
    this.#start();
    try {
      await this.#lock.take(mode, how);
      this.#lookAgain();
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#end();
    }
  }

  /** Until the lock was taken another program may have changed the file: what was found when it was opened is old. */
  #lookAgain(): void {
    if (this.#kind !== 'file' || this.#running > 1) return;
    this.#size = fs.fstatSync(this.#fd).size;
    this.#forget();
  }

  async lockState(): Promise<LockState> {
    this.#start();
    try {
      return await this.#lock.state();
    } finally {
      this.#end();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    try {
      await this.#lock.release();
    } finally {
      await this.#closeDescriptor();
    }
  }

  async #closeDescriptor(): Promise<void> {
    try {
      await calls.close(this.#fd);
    } catch (error) {
      throw this.#explain(error);
    }
  }

  #start(): void {
    if (this.#closing !== null) throw closedStorage(this.label);
    this.#running++;
  }

  #startChange(): void {
    if (this.#closing !== null) throw closedStorage(this.label);
    if (!this.can.write) throw readOnlyStorage(this.label);
    this.#running++;
  }

  #end(): void {
    this.#running--;
    if (this.#running === 0) this.#idle?.();
  }

  #calls(): NativeCalls | null {
    if (this.#native === undefined) this.#native = nativeCalls();
    return this.#native;
  }

  #explain(error: unknown, offset?: number): unknown {
    if (error instanceof EndOfFile) {
      return new ImageError('io', 'The file became shorter while it was open', {
        path: this.label,
        offset: error.offset,
        status: 'VERR_EOF',
      });
    }
    return systemError(error, { path: this.label, offset });
  }

  /** A write turns a hole into data; data stays data. */
  #filled(offset: number, length: number): void {
    this.#changes++;
    const known = this.#extent;
    if (known !== null && !known.data && offset < known.end && offset + length > known.start) this.#extent = null;
  }

  #forget(): void {
    this.#changes++;
    this.#extent = null;
  }

  #allData(): StorageExtent {
    return { start: 0, end: this.#size, data: true };
  }

  /** Caches an answer; one that continues the last is joined with it. */
  #keep(answer: StorageExtent): StorageExtent {
    const last = this.#extent;
    const continues = last !== null && last.data === answer.data && last.end === answer.start;
    this.#extent = continues ? { ...answer, start: last.start } : answer;
    return this.#extent;
  }

  #seekExtent(native: NativeCalls, offset: number): StorageExtent {
    try {
      const data = native.seekData(this.#fd, offset) ?? this.#size;
      if (data > offset) return { start: offset, end: Math.min(data, this.#size), data: false };
      const hole = native.seekHole(this.#fd, offset);
      // A hole right here means that the file changed between the two calls: say the safe thing.
      return { start: offset, end: hole > offset ? Math.min(hole, this.#size) : offset + 1, data: true };
    } catch {
      // A file system that cannot tell. Everything is data: that is never wrong, only slower.
      this.#cannotSeek = true;
      return this.#allData();
    }
  }

  /**
   * Like `seek`, with long searches on a thread. A change in the meantime may invalidate the answer: then everything
   * counts as data.
   */
  async #seekLong(native: NativeCalls, offset: number): Promise<StorageExtent> {
    this.#start();
    try {
      const before = this.#changes;
      const data = native.seekData(this.#fd, offset) ?? this.#size;
      if (data > offset) return this.#keep({ start: offset, end: Math.min(data, this.#size), data: false });
      const started = nowMs();
      const hole = await native.findHole(this.#fd, offset);
      this.#slowSeeks = nowMs() - started >= SLOW_SEEK_MS;
      if (this.#changes !== before || hole <= offset) return { start: offset, end: offset + 1, data: true };
      return this.#keep({ start: offset, end: Math.min(hole, this.#size), data: true });
    } catch {
      this.#cannotSeek = true;
      return this.#allData();
    } finally {
      this.#end();
    }
  }

  /** Without the system call: a file without blocks is one hole, where the count is reliable. */
  async #extentByBlocks(): Promise<StorageExtent> {
    this.#start();
    try {
      const before = this.#changes;
      if (!(await isCountingFileSystem(this.#fd))) {
        this.#cannotSeek = true;
        return this.#allData();
      }
      const { blocks } = await calls.fstat(this.#fd);
      if (blocks > 0 || this.#changes !== before) {
        this.#cannotSeek = blocks > 0;
        return this.#allData();
      }
      return this.#keep({ start: 0, end: this.#size, data: false });
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#end();
    }
  }

  /** False: the call is not available. */
  async #zeroNatively(offset: number, length: number, punch: boolean): Promise<boolean> {
    const native = this.#calls();
    if (native === null) return false;
    if (punch && !this.#cannotPunch) {
      if (await supported(native.punchHole(this.#fd, offset, length))) return true;
      this.#cannotPunch = this.#kind === 'file';
    }
    if (this.#cannotZero) return false;
    if (await supported(native.zeroRange(this.#fd, offset, length))) return true;
    // A device refuses ranges that do not fit its sectors: another one may do.
    this.#cannotZero = this.#kind === 'file';
    return false;
  }

  async #writeZeroes(offset: number, length: number): Promise<void> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const extent = await this.#extentNow(at);
      if (!extent.data) {
        at = extent.end;
        continue;
      }
      const stop = Math.min(extent.end, end, at + ZERO_PIECE);
      await writeFully(this.#fd, at, zeroes(stop - at));
      at = stop;
    }
  }

  /** Like `extentAt`, also while the storage is closing and waits for the calling operation. */
  async #extentNow(offset: number): Promise<StorageExtent> {
    return this.#closing === null ? this.extentAt(offset) : this.#allData();
  }

  async #allocateNatively(offset: number, length: number): Promise<boolean> {
    const native = this.#calls();
    return native !== null && (await supported(native.allocate(this.#fd, offset, length)));
  }

  async #allocateByWriting(offset: number, length: number, oldSize: number): Promise<void> {
    const end = offset + length;
    const bytes = new Uint8Array(Math.min(ZERO_PIECE, Math.max(oldSize - offset, 0)));
    for (let at = offset; at < Math.min(end, oldSize); at += bytes.length) {
      const piece = bytes.subarray(0, Math.min(bytes.length, end - at, oldSize - at));
      await readFully(this.#fd, at, piece);
      await writeFully(this.#fd, at, piece);
    }
    for (let at = Math.max(offset, oldSize); at < end; at += ZERO_PIECE) {
      await writeFully(this.#fd, at, zeroes(Math.min(ZERO_PIECE, end - at)));
    }
  }
}

/**
 * `punch` is detected on first access: detection loads native code.
 */
class FileCapabilities implements StorageCapabilities {
  readonly write: boolean;
  readonly resize: boolean;
  readonly random = true;
  readonly growsZeroed = true;
  readonly #canPunch: () => boolean;

  constructor(write: boolean, kind: 'file' | 'device', canPunch: () => boolean) {
    this.write = write;
    this.resize = write && kind === 'file';
    this.#canPunch = canPunch;
  }

  get punch(): boolean {
    return this.write && this.#canPunch();
  }
}

async function supported(call: Promise<void>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if (isMissingCall(error)) return false;
    throw error;
  }
}

async function isCountingFileSystem(fd: number): Promise<boolean> {
  if (process.platform !== 'linux') return false;
  const { type } = await calls.statfs(`/proc/self/fd/${fd}`);
  return COUNTING_FILE_SYSTEMS.includes(type);
}

function zeroes(length: number): Uint8Array {
  zeroPiece ??= new Uint8Array(ZERO_PIECE);
  return length === ZERO_PIECE ? zeroPiece : zeroPiece.subarray(0, length);
}

/** Nanoseconds per second. Times without a fraction come from file systems that count in whole or double seconds. */
const SECOND_NS = 1_000_000_000n;
const COARSE_MS = 2500;
/** Resolution of file times on most systems. */
const FINE_MS = 50;

/** Both times: setting one back leaves a mark in the other. */
export function revisionOf({ mtimeNs, ctimeNs, size }: fs.BigIntStats): StorageRevision {
  const lastNs = mtimeNs > ctimeNs ? mtimeNs : ctimeNs;
  return {
    text: `${mtimeNs} ${ctimeNs} ${size}`,
    atMs: Number(lastNs / 1_000_000n),
    tickMs: ctimeNs % SECOND_NS === 0n ? COARSE_MS : FINE_MS,
  };
}
