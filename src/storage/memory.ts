/** Storages in memory, sparse, for tests, browsers and small images. */
import { ImageError } from '../errors.ts';
import { allOf, checkRange, closedStorage } from './checks.ts';
import type {
  CreateMode,
  NameInfo,
  OpenMode,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
  StorageProvider,
  WriteSource,
} from './contract.ts';

const PAGE = 64 * 1024;
let serial = 0;

/** The bytes behind a name: several handles may share them. */
class MemoryFile {
  readonly key = `memory:${++serial}`;
  readonly pages = new Map<number, Uint8Array>();
  size = 0;
}

/** A byte store in memory. Pages that were never written cost nothing. */
export class MemoryStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities;
  readonly #file: MemoryFile;
  #closed = false;

  constructor(label = 'memory', file = new MemoryFile(), mode: OpenMode = 'write') {
    const write = mode === 'write';
    this.label = label;
    this.#file = file;
    this.can = { write, resize: write, random: true, punch: write, growsZeroed: true };
  }

  get size(): number {
    return this.#file.size;
  }

  readNow(offset: number, target: Uint8Array): boolean {
    this.#checkOpen();
    checkRange(this, offset, target.length);
    this.#fill(offset, target);
    return true;
  }

  async read(offset: number, target: ReadTarget): Promise<void> {
    this.#checkOpen();
    const buffers = allOf(target);
    checkRange(this, offset, buffers.reduce((sum, buffer) => sum + buffer.length, 0));
    let at = offset;
    for (const buffer of buffers) {
      this.#fill(at, buffer);
      at += buffer.length;
    }
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    this.#checkWritable();
    let at = offset;
    for (const buffer of allOf(source)) {
      this.#store(at, buffer);
      at += buffer.length;
    }
    this.#file.size = Math.max(this.#file.size, at);
  }

  extentAt(offset: number): StorageExtent {
    this.#checkOpen();
    checkRange(this, offset, 1);
    const data = this.#file.pages.has(Math.floor(offset / PAGE));
    let first = Math.floor(offset / PAGE);
    let last = first + 1;
    // A bound keeps the answer cheap on large storages; the caller asks again.
    const bound = first + 65_536;
    while (last * PAGE < this.size && last < bound && this.#file.pages.has(last) === data) last++;
    while (first > 0 && data && this.#file.pages.has(first - 1)) first--;
    return { start: first * PAGE, end: Math.min(last * PAGE, this.size), data };
  }

  async zero(offset: number, length: number, _how: { readonly punch: boolean }): Promise<void> {
    this.#checkWritable();
    checkRange(this, offset, length);
    for (let at = offset; at < offset + length; ) {
      const index = Math.floor(at / PAGE);
      const end = Math.min((index + 1) * PAGE, offset + length);
      if (end - at === PAGE) this.#file.pages.delete(index);
      else this.#file.pages.get(index)?.fill(0, at - index * PAGE, end - index * PAGE);
      at = end;
    }
  }

  async resize(size: number): Promise<void> {
    this.#checkWritable();
    const keep = Math.ceil(size / PAGE);
    if (size < this.size) {
      for (const index of this.#file.pages.keys()) if (index >= keep) this.#file.pages.delete(index);
      this.#file.pages.get(keep - 1)?.fill(0, size - (keep - 1) * PAGE);
    }
    this.#file.size = size;
  }

  async flush(): Promise<void> {
    this.#checkOpen();
  }

  async identity(): Promise<StorageIdentity> {
    return { key: this.#file.key, kind: 'memory', allocatedSize: this.#file.pages.size * PAGE, modifiedMs: null };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #checkOpen(): void {
    if (this.#closed) throw closedStorage(this.label);
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (!this.can.write) throw new ImageError('read-only', 'The storage is open for reading only', { path: this.label });
  }

  #fill(offset: number, target: Uint8Array): void {
    for (let at = 0; at < target.length; ) {
      const index = Math.floor((offset + at) / PAGE);
      const start = offset + at - index * PAGE;
      const count = Math.min(PAGE - start, target.length - at);
      const page = this.#file.pages.get(index);
      if (page === undefined) target.fill(0, at, at + count);
      else target.set(page.subarray(start, start + count), at);
      at += count;
    }
  }

  #store(offset: number, source: Uint8Array): void {
    for (let at = 0; at < source.length; ) {
      const index = Math.floor((offset + at) / PAGE);
      const start = offset + at - index * PAGE;
      const count = Math.min(PAGE - start, source.length - at);
      const page = this.#file.pages.get(index) ?? new Uint8Array(PAGE);
      this.#file.pages.set(index, page);
      page.set(source.subarray(at, at + count), start);
      at += count;
    }
  }
}

/** Names in memory. Paths use `/`; directories exist by being named. */
export class MemoryProvider implements StorageProvider {
  readonly #files = new Map<string, MemoryFile>();

  async open(name: string, mode: OpenMode): Promise<Storage> {
    return new MemoryStorage(name, this.#find(name), mode);
  }

  async create(name: string, how: CreateMode = {}): Promise<Storage> {
    this.#refuseExisting(name);
    const file = new MemoryFile();
    this.#files.set(name, file);
    return new MemoryStorage(how.label ?? name, file);
  }

  async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    const file = this.#find(from);
    if (!how.replace) this.#refuseExisting(to);
    this.#files.delete(from);
    this.#files.set(to, file);
  }

  async remove(name: string): Promise<void> {
    this.#find(name);
    this.#files.delete(name);
  }

  async *list(directory: string): AsyncGenerator<string> {
    for (const name of [...this.#files.keys()]) if (this.directory(name) === directory) yield name;
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
    if (file !== undefined) return { kind: 'file', size: file.size, key: file.key };
    const prefix = name === '/' ? '/' : `${name}/`;
    const isDirectory = name === '/' || [...this.#files.keys()].some((one) => one.startsWith(prefix));
    return isDirectory ? { kind: 'directory', size: 0, key: `memory-directory:${name}` } : null;
  }

  async realName(name: string): Promise<string> {
    return this.resolve(name, '');
  }

  temporaryName(name: string): string {
    return `${this.directory(name).replace(/\/$/, '')}/.vdkit-${++serial}.tmp`;
  }

  async publishMode(name: string): Promise<void> {
    this.#find(name);
  }

  async syncNames(_directory: string): Promise<void> {}

  async freeSpace(_directory: string): Promise<number | null> {
    return null;
  }

  #find(name: string): MemoryFile {
    const file = this.#files.get(name);
    if (file !== undefined) return file;
    throw new ImageError('not-found', 'There is no such storage', { path: name });
  }

  #refuseExisting(name: string): void {
    if (!this.#files.has(name)) return;
    throw new ImageError('exists', 'There is a storage of that name already', { path: name });
  }
}
