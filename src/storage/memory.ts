/** Storages in memory, sparse, for tests, browsers and small images. */
import { checkArguments, oneOf, TEXT } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import { allOf, checkRange, checkSize, checkWriteRange, closedStorage, lengthOf, readOnlyStorage } from './checks.ts';
import type {
  CreateMode,
  DirectoryEntry,
  LockMode,
  LockOptions,
  LockState,
  NameInfo,
  OpenMode,
  OperationOptions,
  PublishHow,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  StorageProvider,
  WriteSource,
} from './contract.ts';
import { LockTable, lockedHere, stateOf } from './locks.ts';
import { checkSignal } from './or-aborted.ts';
import { SparseBytes } from './sparse-bytes.ts';
import { TEMPORARY_SUFFIX } from './staged-set.ts';
import { THIS_RUN } from './this-run.ts';

let serial = 0;

/** Bytes behind a name, shared by several handles. */
class MemoryFile {
  readonly key = `memory:${++serial}`;
  readonly bytes = new SparseBytes();
  readonly locks = new LockTable();
  modifiedMs = Date.now();
  /** Number of names. */
  links = 0;
  /** Number of changes. */
  changes = 0;

  noteChange(): void {
    this.modifiedMs = Date.now();
    this.changes++;
  }
}

/** A byte store in memory. Pages never written take no space. */
export class MemoryStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #file: MemoryFile;
  #closed = false;

  constructor(label = 'memory', file = new MemoryFile(), mode: OpenMode = 'write') {
    checkArguments('MemoryStorage', { label: [label, TEXT], mode: [mode, oneOf('read', 'write')] });
    const write = mode === 'write';
    this.label = label;
    this.#file = file;
    this.can = { write, resize: write, random: true, punch: write, growsZeroed: true };
  }

  get size(): number {
    return this.#file.bytes.size;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    this.#checkOpen();
    checkRange(this, offset, target.length);
    this.#file.bytes.read(offset, target);
    return true;
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The read');
    this.#checkOpen();
    checkRange(this, offset, lengthOf(target));
    let at = offset;
    for (const buffer of allOf(target)) {
      this.#file.bytes.read(at, buffer);
      at += buffer.length;
    }
  }

  async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The write');
    this.#checkWritable();
    checkWriteRange(this.label, offset, lengthOf(source));
    let at = offset;
    for (const buffer of allOf(source)) {
      this.#file.bytes.write(at, buffer);
      at += buffer.length;
    }
    this.#file.noteChange();
  }

  extentAt(offset: number): StorageExtent {
    this.#checkOpen();
    checkRange(this, offset, 1);
    return this.#file.bytes.extentAt(offset);
  }

  async zero(
    offset: number,
    length: number,
    _how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    checkSignal(options, 'The write');
    this.#checkWritable();
    checkRange(this, offset, length);
    this.#file.bytes.zero(offset, length);
    this.#file.noteChange();
  }

  async resize(size: number, options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The resize');
    this.#checkWritable();
    checkSize(this.label, size);
    this.#file.bytes.resize(size);
    this.#file.noteChange();
  }

  async flush(options?: OperationOptions): Promise<void> {
    checkSignal(options, 'The flush');
    this.#checkOpen();
  }

  async identity(): Promise<StorageIdentity> {
    this.#checkOpen();
    const { key, bytes, modifiedMs, changes } = this.#file;
    const revision = { text: `${THIS_RUN} ${changes}`, atMs: modifiedMs, tickMs: 0 };
    return { key, kind: 'memory', allocatedSize: bytes.allocatedSize, modifiedMs, revision };
  }

  async lock(mode: LockMode, how?: LockOptions): Promise<void> {
    this.#checkOpen();
    const conflict = this.#file.locks.take(this, mode, how);
    if (conflict !== null) throw lockedHere(this.label, conflict, mode);
  }

  async lockState(): Promise<LockState> {
    this.#checkOpen();
    return stateOf(this.#file.locks.claim);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#file.locks.release(this);
  }

  #checkOpen(): void {
    if (this.#closed) throw closedStorage(this.label);
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (!this.can.write) throw readOnlyStorage(this.label);
  }
}

/** Files in memory. Paths use `/`; directories exist implicitly. */
export class MemoryProvider implements StorageProvider {
  readonly #files = new Map<string, MemoryFile>();
  /** Number of files below each directory that has any. */
  readonly #directories = new Map<string, number>();

  async open(name: string, mode: OpenMode): Promise<Storage> {
    const info = await this.lookUp(name);
    if (info?.kind === 'directory') {
      throw new ImageError('unsupported', 'This is a directory, not an image', {
        path: name,
        hint: 'Name a file inside it.',
      });
    }
    return new MemoryStorage(name, this.#find(name), mode);
  }

  async create(name: string, how: CreateMode = {}): Promise<Storage> {
    this.#refuseExisting(name);
    const file = new MemoryFile();
    this.#enter(name, file);
    return new MemoryStorage(how.label ?? name, file);
  }

  async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    if ((await this.lookUp(from))?.kind === 'directory') return this.#renameDirectory(from, to);
    const file = this.#find(from);
    if (how.replace && from === to) return;
    if (!how.replace) this.#refuseExisting(to);
    this.#leave(from);
    this.#enter(to, file);
  }

  async #renameDirectory(from: string, to: string): Promise<void> {
    if ((await this.lookUp(to)) !== null) throw taken(to);
    for (const [name, file] of [...this.#files]) {
      if (!name.startsWith(`${from}/`)) continue;
      this.#leave(name);
      this.#enter(to + name.slice(from.length), file);
    }
  }

  /** There is a directory wherever there is a file in it. */
  async makeDirectory(name: string): Promise<void> {
    if ((await this.lookUp(name)) !== null) throw taken(name);
  }

  async removeDirectory(name: string): Promise<void> {
    if ((await this.lookUp(name)) === null) return;
    throw new ImageError('exists', 'The directory is not empty', { path: name });
  }

  async link(from: string, to: string): Promise<void> {
    this.#refuseExisting(to);
    this.#enter(to, this.#find(from));
  }

  async remove(name: string): Promise<void> {
    this.#find(name);
    this.#leave(name);
  }

  async *list(directory: string): AsyncGenerator<string> {
    for (const name of [...this.#files.keys()]) if (this.directory(name) === directory) yield name;
  }

  async *entries(directory: string): AsyncGenerator<DirectoryEntry> {
    for (const [path, file] of [...this.#files]) {
      if (this.directory(path) !== directory) continue;
      const { key, bytes, modifiedMs, changes } = file;
      const revision = `${THIS_RUN} ${changes}`;
      yield { ...entryAt(path), kind: 'file', size: bytes.size, key, modifiedMs, revision };
    }
    for (const path of [...this.#directories.keys()]) {
      if (path === '/' || this.directory(path) !== directory) continue;
      yield { ...entryAt(path), kind: 'directory', size: 0, key: directoryKey(path), modifiedMs: 0, revision: null };
    }
  }

  resolve(name: string, relativeTo: string): string {
    const whole = name.startsWith('/') || relativeTo === '' ? name : `${this.directory(relativeTo)}/${name}`;
    const parts: string[] = [];
    for (const part of whole.split('/')) {
      if (part === '..') parts.pop();
      else if (part !== '' && part !== '.') parts.push(part);
    }
    return `/${parts.join('/')}`;
  }

  directory(name: string): string {
    const end = name.lastIndexOf('/');
    return end <= 0 ? '/' : name.slice(0, end);
  }

  async lookUp(name: string): Promise<NameInfo | null> {
    const file = this.#files.get(name);
    if (file !== undefined) return { kind: 'file', size: file.bytes.size, key: file.key, links: file.links };
    const isDirectory = name === '/' || this.#directories.has(name);
    return isDirectory ? { kind: 'directory', size: 0, key: directoryKey(name) } : null;
  }

  async realName(name: string): Promise<string> {
    return this.resolve(name, '');
  }

  temporaryName(name: string): string {
    const base = name.slice(name.lastIndexOf('/') + 1);
    return `${this.directory(name).replace(/\/$/, '')}/.${base}.${++serial}${TEMPORARY_SUFFIX}`;
  }

  async publishMode(name: string): Promise<void> {
    this.#find(name);
  }

  /** Memory has no owner. */
  async publishLike(name: string, _how: PublishHow): Promise<readonly string[]> {
    this.#find(name);
    return [];
  }

  async syncNames(_directory: string): Promise<void> {}

  async freeSpace(_directory: string): Promise<number | null> {
    return null;
  }

  #enter(name: string, file: MemoryFile): void {
    if (this.#files.has(name)) this.#leave(name);
    this.#files.set(name, file);
    file.links++;
    this.#count(name, 1);
  }

  #leave(name: string): void {
    const file = this.#find(name);
    this.#files.delete(name);
    file.links--;
    this.#count(name, -1);
  }

  #count(name: string, change: 1 | -1): void {
    for (let end = name.lastIndexOf('/'); end > 0; end = name.lastIndexOf('/', end - 1)) {
      const directory = name.slice(0, end);
      const count = (this.#directories.get(directory) ?? 0) + change;
      if (count === 0) this.#directories.delete(directory);
      else this.#directories.set(directory, count);
    }
  }

  #find(name: string): MemoryFile {
    const file = this.#files.get(name);
    if (file !== undefined) return file;
    throw new ImageError('not-found', 'No storage of that name exists', { path: name });
  }

  #refuseExisting(name: string): void {
    if (this.#files.has(name)) throw taken(name);
  }
}

function taken(path: string): ImageError {
  return new ImageError('exists', 'A storage of that name already exists', { path });
}

/** There are no rights in memory. */
/** What an entry tells by its name. */
export function entryAt(path: string): Pick<DirectoryEntry, 'name' | 'path' | 'executable'> {
  return { name: path.slice(path.lastIndexOf('/') + 1), path, executable: false };
}

/** The key of a directory, which has no bytes. */
export function directoryKey(name: string): string {
  return `memory-directory:${name}`;
}
