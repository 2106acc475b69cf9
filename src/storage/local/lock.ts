/**
 * Locks of local files. On Linux they are QEMU's: a read lock on byte 100 + p means "I use permission p", one on byte
 * 200 + p "no one else may". They are locks of the open file (OFD locks), which other handles of this process see too.
 * Each side first sets its own and then checks those of others, so that at most one of two simultaneous openers
 * succeeds.
 *
 * Without the system call (no koffi, another system, a file system that cannot) a writer makes a lock file beside the
 * image, which only vdkit respects; readers check for it. Both kinds look for the other: the table of locks in /proc
 * can be read without native code.
 */
import { type ErrorDetails, ImageError } from '../../errors.ts';
import type { LockHolder, LockMode, LockOptions, LockState } from '../contract.ts';
import {
  claimOf,
  describeConflict,
  findConflict,
  type LockClaim,
  type LockConflict,
  LockTable,
  lockedError,
  lockedHere,
  PERMISSION,
  type Permission,
  stateOf,
} from '../locks.ts';
import { calls } from './calls.ts';
import { errorCode } from './errno.ts';
import { fileKey } from './key.ts';
import { LockFile, type LockRecord, readLockFile } from './lock-file.ts';
import { isMissingCall, type NativeCalls, nativeCalls } from './native.ts';
import { type LockedRange, lockedRanges, lockHolders } from './proc.ts';

const USED_BASE = 100;
const REFUSED_BASE = 200;
/** All bytes used for locks. */
const ALL_BYTES = { start: USED_BASE, length: REFUSED_BASE + 64 - USED_BASE };
const PERMISSIONS: readonly Permission[] = Object.values(PERMISSION);
const FREE: LockClaim = { uses: [], refuses: [] };

/** Locks that this process holds without the system's help, so that at least its own handles see each other. */
const ownTables = new Map<string, LockTable>();

/** The open file to lock. */
export interface LockTarget {
  readonly fd: number;
  readonly label: string;
  readonly kind: 'file' | 'device';
  readonly name?: string;
}

/** Lock of one handle. */
export class FileLock {
  readonly #target: LockTarget;
  #held: LockClaim = FREE;
  #file: LockFile | null = null;
  #ownTable: { readonly key: string; readonly table: LockTable } | null = null;
  #own: { readonly mode: LockMode; readonly how: LockOptions } | null = null;

  constructor(target: LockTarget) {
    this.#target = target;
  }

  /** Takes or changes it. Throws `locked`. */
  async take(mode: LockMode, how: LockOptions): Promise<void> {
    const native = nativeCalls();
    if (native !== null && (await this.#takeNatively(native, mode, how))) return;
    if (how.structure === true) throw this.#onlyLockFile();
    await this.#takeOwn(mode, how);
  }

  async release(): Promise<void> {
    const { fd } = this.#target;
    // Closing would do, but a process that was started meanwhile may still have the descriptor for a moment.
    if (this.#held !== FREE) nativeCalls()?.setLock(fd, 'none', ALL_BYTES.start, ALL_BYTES.length);
    this.#held = FREE;
    this.#releaseTable();
    await this.#removeFile();
  }

  /** Without native code, so that a look costs no start-up time. */
  async state(): Promise<LockState> {
    const { fd, name } = this.#target;
    const [ranges, record, own] = await Promise.all([
      lockedRanges(fd),
      name === undefined ? null : readLockFile(name),
      this.#ownClaim(),
    ]);
    if (record !== null) return stateOf(claimOf(record.mode), record.holders);
    if (own !== null) return stateOf(own, [{ pid: process.pid, name: null }]);
    if (ranges === null) return { held: null, holders: [] };
    const { held } = stateOf(claimIn(ranges));
    return { held, holders: held === 'none' ? [] : await lockHolders(fd) };
  }

  /** Claims of this process's handles without the system's help; null for none. */
  async #ownClaim(): Promise<LockClaim | null> {
    if (ownTables.size === 0) return null;
    return ownTables.get(await this.#key())?.claim ?? null;
  }

  /** False: the system or file system has no such locks. */
  async #takeNatively(native: NativeCalls, mode: LockMode, how: LockOptions): Promise<boolean> {
    const claim = claimOf(mode, how);
    const before = this.#held;
    let conflict: LockConflict | null;
    try {
      this.#setBytes(native, claim, 'read');
      this.#held = claim;
      conflict = findConflict(claim, this.#claimOfOthers(native));
      if (conflict === null) await this.#refuseLockFile(mode, how);
    } catch (error) {
      const code = errorCode(error);
      if (isMissingCall(error) || code === 'ENOLCK') return false;
      this.#restore(native, before);
      if (code !== 'EAGAIN' && code !== 'EACCES') throw error;
      // Somebody has a write lock there, as no QEMU takes it: nothing at all may be done with this file.
      conflict = { kind: 'refused', permission: PERMISSION.read };
    }
    if (conflict === null) {
      this.#restore(native, claim);
      return true;
    }
    this.#restore(native, before);
    throw await this.#locked(conflict, mode);
  }

  #setBytes(native: NativeCalls, claim: LockClaim, kind: 'read' | 'none'): void {
    for (const byte of bytesOf(claim)) native.setLock(this.#target.fd, kind, byte, 1);
  }

  /** Releases all locks not in `claim`. */
  #restore(native: NativeCalls, claim: LockClaim): void {
    const kept = bytesOf(claim);
    const all = bytesOf({ uses: PERMISSIONS, refuses: PERMISSIONS });
    for (const byte of all) if (!kept.includes(byte)) native.setLock(this.#target.fd, 'none', byte, 1);
    this.#held = claim;
  }

  /** Claims of other open files; this one's own locks do not count. */
  #claimOfOthers(native: NativeCalls): LockClaim {
    const { fd } = this.#target;
    return {
      uses: PERMISSIONS.filter((permission) => native.isLocked(fd, USED_BASE + permission, 1)),
      refuses: PERMISSIONS.filter((permission) => native.isLocked(fd, REFUSED_BASE + permission, 1)),
    };
  }

  async #takeOwn(mode: LockMode, how: LockOptions): Promise<void> {
    const { fd, label } = this.#target;
    const table = await this.#joinTable();
    const conflict = table.take(this, mode, how);
    if (conflict !== null) throw lockedHere(label, conflict, mode);
    const file = this.#file;
    try {
      await this.#takeLockFile(mode, how);
      const foreign = findConflict(claimOf(mode, how), claimIn((await lockedRanges(fd)) ?? []));
      if (foreign !== null) throw await this.#locked(foreign, mode);
      this.#own = { mode, how };
    } catch (error) {
      await this.#backToOwn(table, file);
      throw error;
    }
    if (mode === 'shared') await this.#removeFile();
  }

  /** Restores the previous lock of the handle. */
  async #backToOwn(table: LockTable, file: LockFile | null): Promise<void> {
    if (file === null) await this.#removeFile();
    if (this.#own === null) table.release(this);
    else table.take(this, this.#own.mode, this.#own.how);
  }

  async #removeFile(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.remove();
  }

  async #takeLockFile(mode: LockMode, how: LockOptions): Promise<void> {
    const { name, kind } = this.#target;
    // Beside a device nothing can be put, and a file unknown to others needs none.
    if (name === undefined || kind === 'device' || this.#file !== null) return;
    if (mode === 'shared') return this.#refuseLockFile(mode, how);
    const found = await LockFile.take(name, { mode, shareable: how.shareable === true });
    if (found instanceof LockFile) this.#file = found;
    else this.#refuseRecord(found, mode, how);
  }

  /** A writer without system locks is visible only by its lock file. */
  async #refuseLockFile(mode: LockMode, how: LockOptions): Promise<void> {
    const { name, kind } = this.#target;
    if (name === undefined || kind === 'device') return;
    const record = await readLockFile(name);
    if (record !== null) this.#refuseRecord(record, mode, how);
  }

  #refuseRecord(record: LockRecord, mode: LockMode, how: LockOptions): void {
    const theirs = claimOf(record.mode, { shareable: record.shareable });
    const conflict = findConflict(claimOf(mode, how), theirs);
    if (conflict === null || record.file === this.#file?.name) return;
    throw lockedError({
      path: this.#target.label,
      conflict,
      mode,
      who: record.isOwn ? 'This process' : 'Another process',
      lock: `the lock file ${record.file}`,
      hint: record.isOwn
        ? 'Close the other disk object first.'
        : `${holderOf(record)} If that process has ended, remove the lock file.`,
    });
  }

  async #joinTable(): Promise<LockTable> {
    if (this.#ownTable !== null) return this.#ownTable.table;
    const key = await this.#key();
    const table = ownTables.get(key) ?? new LockTable();
    ownTables.set(key, table);
    this.#ownTable = { key, table };
    return table;
  }

  async #key(): Promise<string> {
    return fileKey(await calls.fstat(this.#target.fd, { bigint: true }));
  }

  #releaseTable(): void {
    if (this.#ownTable === null) return;
    const { key, table } = this.#ownTable;
    table.release(this);
    if (table.isEmpty) ownTables.delete(key);
    this.#ownTable = null;
  }

  async #locked(conflict: LockConflict, mode: LockMode): Promise<ImageError> {
    const { fd, label } = this.#target;
    const holders = await lockHolders(fd);
    const own = holders.length > 0 && holders.every(({ pid }) => pid === process.pid);
    const byte = (conflict.kind === 'used' ? USED_BASE : REFUSED_BASE) + conflict.permission;
    return lockedError({
      path: label,
      conflict,
      mode,
      who: own ? 'This process' : 'Another process',
      lock: `byte ${byte}, ${describeConflict(conflict)}`,
      hint: own ? 'Close the other disk object first.' : howToLook(label, holders),
    });
  }

  #onlyLockFile(): ImageError {
    const details: ErrorDetails = {
      path: this.#target.label,
      hint: 'Install the optional package koffi; or, if no other program has the image open, use lock: false (--no-lock).',
    };
    return new ImageError('unsupported', 'The image cannot be locked against programs other than vdkit here', details);
  }
}

function holderOf({ holders, host }: LockRecord): string {
  const [holder] = holders;
  if (holder === undefined) return 'The lock file does not name its owner.';
  return `It is process ${holder.pid}${host === null ? '' : ` on ${host}`}.`;
}

function howToLook(label: string, holders: readonly LockHolder[]): string {
  const found = holders.filter(({ pid }) => pid !== process.pid);
  const names = found.map(({ pid, name }) => (name === null ? `process ${pid}` : `${name} (process ${pid})`));
  const who = names.length === 0 ? '' : `It is ${names.join(', ')}. `;
  return `${who}"fuser -v ${label}", "lsof ${label}" and "lslocks" show who has it open.`;
}

function bytesOf({ uses, refuses }: LockClaim): readonly number[] {
  return [
    ...uses.map((permission) => USED_BASE + permission),
    ...refuses.map((permission) => REFUSED_BASE + permission),
  ];
}

/** The claims expressed by locks on the bytes of a file. */
function claimIn(ranges: readonly LockedRange[]): LockClaim {
  const isLocked = (byte: number): boolean => ranges.some(({ start, last }) => byte >= start && byte <= last);
  return {
    uses: PERMISSIONS.filter((permission) => isLocked(USED_BASE + permission)),
    refuses: PERMISSIONS.filter((permission) => isLocked(REFUSED_BASE + permission)),
  };
}
