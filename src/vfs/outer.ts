/**
 * State shared by the storages inside one outer disk or storage: its identity and its locks. Handles of the same range
 * lock each other out as handles of one file do; the outer storage is locked as strictly as any of them needs.
 */
import { ChainDisk } from '../disk/disk.ts';
import { mostPrivate } from '../storage/attributes.ts';
import type {
  FileAttributes,
  LockMode,
  LockOptions,
  LockState,
  OperationOptions,
  StorageIdentity,
} from '../storage/contract.ts';
import { LockTable, lockedHere, stateOf } from '../storage/locks.ts';
import { type Bytes, isStorage } from './bytes.ts';

let serial = 0;
const known = new WeakMap<Bytes, Outer>();

/** The shared record of an outer disk or storage. */
export function outerOf(bytes: Bytes): Outer {
  const found = known.get(bytes) ?? new Outer(bytes);
  known.set(bytes, found);
  return found;
}

/** State shared by all storages inside one outer disk or storage. */
export class Outer {
  readonly #bytes: Bytes;
  readonly #ownKey = `device:${++serial}`;
  readonly #tables = new Map<string, LockTable>();
  readonly #held = new WeakMap<object, { readonly mode: LockMode; readonly how: LockOptions | undefined }>();
  #mode: LockMode | null = null;

  constructor(bytes: Bytes) {
    this.#bytes = bytes;
  }

  /** Without the times and size of the outer file, which change with every write. */
  async identity(range: string, options?: OperationOptions): Promise<StorageIdentity> {
    const bytes = this.#bytes;
    if (isStorage(bytes)) {
      const { key, modifiedMs, revision } = await bytes.identity(options);
      const own = { key: `${key}@${range}`, kind: 'other', allocatedSize: null, modifiedMs } as const;
      return revision === undefined ? own : { ...own, revision };
    }
    const keys = bytes instanceof ChainDisk ? [...(await bytes.identities())].sort() : [this.#ownKey];
    return { key: `${keys.join(',')}@${range}`, kind: 'other', allocatedSize: null, modifiedMs: null };
  }

  /** Attributes of the outer file; for a disk those of its most private file, so that a copy is no more readable. */
  async attributes(options?: OperationOptions): Promise<FileAttributes | null> {
    const bytes = this.#bytes;
    if (isStorage(bytes)) return (await bytes.attributes?.(options)) ?? null;
    return bytes instanceof ChainDisk ? mostPrivate(await bytes.attributes()) : null;
  }

  /** Throws `locked` when another handle of the range or of the outer storage conflicts. */
  async lock(
    owner: { readonly label: string },
    range: string,
    mode: LockMode,
    how?: LockOptions,
    options?: OperationOptions,
  ): Promise<void> {
    const table = this.#tables.get(range) ?? new LockTable();
    this.#tables.set(range, table);
    const conflict = table.take(owner, mode, how);
    if (conflict !== null) throw lockedHere(owner.label, conflict, mode);
    try {
      await this.#lockOuter(mode, how, options);
    } catch (error) {
      // It keeps what it had.
      const before = this.#held.get(owner);
      if (before === undefined) table.release(owner);
      else table.take(owner, before.mode, before.how);
      throw error;
    }
    this.#held.set(owner, { mode, how });
  }

  /** A disk was locked when it was opened; a storage is locked as strictly as needed. */
  async #lockOuter(mode: LockMode, how: LockOptions | undefined, options: OperationOptions | undefined): Promise<void> {
    if (!isStorage(this.#bytes)) return;
    const strictest = this.#mode === 'exclusive' ? 'exclusive' : mode;
    await this.#bytes.lock(strictest, how, options);
    this.#mode = strictest;
  }

  /** The outer lock stays until the outer storage is closed: it cannot be released separately. */
  release(owner: object, range: string): void {
    const table = this.#tables.get(range);
    table?.release(owner);
    if (table?.isEmpty === true) this.#tables.delete(range);
  }

  async lockState(range: string, options?: OperationOptions): Promise<LockState> {
    if (isStorage(this.#bytes)) return this.#bytes.lockState(options);
    const table = this.#tables.get(range);
    return table === undefined ? { held: 'none', holders: [] } : stateOf(table.claim);
  }
}
