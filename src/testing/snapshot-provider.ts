/**
 * A medium as a provider that can be read and written: the files that a program finds after power returns. Files are
 * forks of shared pages, so that creating one is nearly free.
 */
import { checkArguments } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import type {
  CreateMode,
  LockMode,
  LockOptions,
  LockState,
  NameInfo,
  OpenMode,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  StorageProvider,
  WriteSource,
} from '../storage/contract.ts';
import { LockTable, lockedHere, stateOf } from '../storage/locks.ts';
import { RULES } from './kinds.ts';
import { PagedBytes } from './paged-bytes.ts';

/** Naming rules; any provider will do. */
export type NameRules = Pick<StorageProvider, 'resolve' | 'directory' | 'temporaryName'>;

interface SnapshotFile {
  readonly key: string;
  readonly content: PagedBytes;
  readonly locks: LockTable;
}

/** Files in memory, over pages that other snapshots share. */
export class SnapshotProvider implements StorageProvider {
  readonly #rules: NameRules;
  readonly #files = new Map<string, SnapshotFile>();
  #made = 0;

  constructor(rules: NameRules) {
    checkArguments('SnapshotProvider', { rules: [rules, RULES] });
    this.#rules = rules;
  }

  /** Adds a file. The content belongs to the provider. Files that share a content are one file. */
  add(name: string, content: PagedBytes): void {
    for (const file of this.#files.values()) {
      if (file.content === content) {
        this.#files.set(name, file);
        return;
      }
    }
    this.#files.set(name, { key: `snapshot:${this.#made++}`, content, locks: new LockTable() });
  }

  async open(name: string, mode: OpenMode): Promise<Storage> {
    if (!this.#files.has(name) && this.#isDirectory(name)) {
      throw new ImageError('unsupported', 'This is a directory, not an image', { path: name });
    }
    return new SnapshotStorage(this.#find(name), name, mode === 'write');
  }

  async create(name: string, how?: CreateMode): Promise<Storage> {
    if (this.#files.has(name)) throw existsError(name);
    this.add(name, new PagedBytes());
    return new SnapshotStorage(this.#find(name), how?.label ?? name, true);
  }

  async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    if (!this.#files.has(from) && this.#isDirectory(from)) return this.#renameDirectory(from, to);
    const file = this.#find(from);
    if (!how.replace && this.#files.has(to)) throw existsError(to);
    this.#files.delete(from);
    this.#files.set(to, file);
  }

  async link(from: string, to: string): Promise<void> {
    if (this.#files.has(to)) throw existsError(to);
    this.#files.set(to, this.#find(from));
  }

  async remove(name: string): Promise<void> {
    this.#find(name);
    this.#files.delete(name);
  }

  async makeDirectory(name: string): Promise<void> {
    if ((await this.lookUp(name)) !== null) throw existsError(name);
  }

  async removeDirectory(name: string): Promise<void> {
    if (this.#isDirectory(name)) throw existsError(name);
  }

  async #renameDirectory(from: string, to: string): Promise<void> {
    if ((await this.lookUp(to)) !== null) throw existsError(to);
    for (const [name, file] of [...this.#files]) {
      if (!name.startsWith(`${from}/`)) continue;
      this.#files.delete(name);
      this.#files.set(to + name.slice(from.length), file);
    }
  }

  /** The directories of the files are there; whether an empty one is does not matter to an image. */
  #isDirectory(name: string): boolean {
    return [...this.#files.keys()].some((one) => this.directory(one) === name);
  }

  async *list(directory: string): AsyncIterable<string> {
    for (const name of [...this.#files.keys()]) if (this.directory(name) === directory) yield name;
  }

  resolve(name: string, relativeTo: string): string {
    return this.#rules.resolve(name, relativeTo);
  }

  directory(name: string): string {
    return this.#rules.directory(name);
  }

  async lookUp(name: string): Promise<NameInfo | null> {
    const file = this.#files.get(name);
    if (file !== undefined) {
      const links = [...this.#files.values()].filter((one) => one === file).length;
      return { kind: 'file', size: file.content.size, key: file.key, links };
    }
    return this.#isDirectory(name) ? { kind: 'directory', size: 0, key: `snapshot-directory:${name}` } : null;
  }

  async realName(name: string): Promise<string> {
    if ((await this.lookUp(name)) === null) this.#find(name);
    return name;
  }

  temporaryName(name: string): string {
    return this.#rules.temporaryName(name);
  }

  async publishMode(): Promise<void> {}

  async publishLike(): Promise<readonly string[]> {
    return [];
  }

  async syncNames(): Promise<void> {}

  async freeSpace(): Promise<number | null> {
    return null;
  }

  #find(name: string): SnapshotFile {
    const file = this.#files.get(name);
    if (file === undefined) throw new ImageError('not-found', 'There is no such file', { path: name });
    return file;
  }
}

function existsError(name: string): ImageError {
  return new ImageError('exists', 'The file is already there', { path: name });
}

class SnapshotStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #file: SnapshotFile;
  #closed = false;

  constructor(file: SnapshotFile, label: string, write: boolean) {
    this.#file = file;
    this.label = label;
    this.can = { write, resize: write, random: true, punch: true, growsZeroed: true };
  }

  get size(): number {
    return this.#file.content.size;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    this.#check(offset, target.length);
    this.#file.content.read(offset, target);
    return true;
  }

  async read(offset: number, target: ReadTarget): Promise<void> {
    let at = offset;
    for (const part of listed(target)) {
      this.readNow(at, part);
      at += part.length;
    }
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    this.#checkWritable();
    let at = offset;
    for (const part of listed(source)) {
      this.#file.content.write(at, part);
      at += part.length;
    }
  }

  extentAt(): StorageExtent {
    return { start: 0, end: this.size, data: true };
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#checkWritable();
    this.#check(offset, length);
    this.#file.content.zero(offset, length);
  }

  async resize(size: number): Promise<void> {
    this.#checkWritable();
    this.#file.content.resize(size);
  }

  async flush(): Promise<void> {
    this.#checkOpen();
  }

  async identity(): Promise<StorageIdentity> {
    return { key: this.#file.key, kind: 'memory', allocatedSize: null, modifiedMs: null };
  }

  async lock(mode: LockMode, how?: LockOptions): Promise<void> {
    this.#checkOpen();
    const conflict = this.#file.locks.take(this, mode, how);
    if (conflict !== null) throw lockedHere(this.label, conflict, mode);
  }

  async lockState(): Promise<LockState> {
    return stateOf(this.#file.locks.claim);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#file.locks.release(this);
  }

  #check(offset: number, length: number): void {
    this.#checkOpen();
    if (offset >= 0 && offset + length <= this.size) return;
    throw new ImageError('out-of-bounds', 'The range lies outside the file', {
      path: this.label,
      offset,
      found: `${length} bytes`,
      expected: `at most ${Math.max(this.size - offset, 0)} bytes`,
    });
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (!this.can.write) throw new ImageError('read-only', 'The file is open for reading only', { path: this.label });
  }

  #checkOpen(): void {
    if (this.#closed) throw new ImageError('io', 'The file is closed', { path: this.label });
  }
}

function listed<T extends Uint8Array>(buffers: T | readonly T[]): readonly T[] {
  return buffers instanceof Uint8Array ? [buffers] : buffers;
}
