/** Blobs and chosen files under names, as sources of images. */
import { checkArguments, NAME, optional } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import { BLOB, BlobStorage, blobKey } from './blob.ts';
import { readOnlyStorage } from './checks.ts';
import type { CreateMode, DirectoryEntry, NameInfo, OpenMode, Source, Storage } from './contract.ts';
import { directoryKey, entryAt, MemoryProvider } from './memory.ts';

/**
 * A {@link MemoryProvider} that can also contain Blobs: files from an `<input>`, a drop or `fetch`. They are read in
 * place and never changed; new files are in memory.
 */
export class BlobProvider extends MemoryProvider {
  readonly #blobs = new Map<string, Blob>();

  /** Adds a Blob or File and returns its source. The name defaults to the file's own. */
  add(blob: Blob, name?: string): Source {
    checkArguments('provider.add', { blob: [blob, BLOB], name: [name, optional(NAME)] });
    const full = this.resolve(name ?? nameOf(blob), '');
    this.#blobs.set(full, blob);
    return { provider: this, name: full };
  }

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    const blob = this.#blobs.get(name);
    if (blob === undefined) return super.open(name, mode);
    if (mode === 'write') throw readOnlyStorage(name);
    return new BlobStorage(blob, name);
  }

  override async create(name: string, how: CreateMode = {}): Promise<Storage> {
    this.#refuseBlob(name);
    return super.create(name, how);
  }

  /** Replacing a Blob takes over its name and leaves the file itself alone. */
  override async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    if (this.#blobs.has(from)) throw readOnlyStorage(from);
    if (!how.replace) this.#refuseBlob(to);
    await super.rename(from, to, how);
    this.#blobs.delete(to);
  }

  /** Drops a Blob; deletes a file in memory. */
  override async remove(name: string): Promise<void> {
    if (!this.#blobs.delete(name)) await super.remove(name);
  }

  override async *list(directory: string): AsyncGenerator<string> {
    for (const name of [...this.#blobs.keys()]) if (this.directory(name) === directory) yield name;
    yield* super.list(directory);
  }

  override async *entries(directory: string): AsyncGenerator<DirectoryEntry> {
    for (const [path, blob] of [...this.#blobs]) {
      if (this.directory(path) !== directory) continue;
      yield { ...entryAt(path), kind: 'file', size: blob.size, key: blobKey(blob), modifiedMs: 0, revision: null };
    }
    const known = new Set<string>();
    for await (const entry of super.entries(directory)) {
      known.add(entry.path);
      yield entry;
    }
    const base = directory === '/' ? '' : directory;
    for (const path of [...this.#blobs.keys()]) {
      const [first = '', ...below] = path.startsWith(`${base}/`) ? path.slice(base.length + 1).split('/') : [];
      const within = `${base}/${first}`;
      if (below.length === 0 || known.has(within)) continue;
      known.add(within);
      yield {
        ...entryAt(within),
        kind: 'directory',
        size: 0,
        key: directoryKey(within),
        modifiedMs: 0,
        revision: null,
      };
    }
  }

  override async lookUp(name: string): Promise<NameInfo | null> {
    const blob = this.#blobs.get(name);
    if (blob !== undefined) return { kind: 'file', size: blob.size, key: blobKey(blob) };
    const found = await super.lookUp(name);
    if (found !== null) return found;
    const isDirectory = [...this.#blobs.keys()].some((one) => one.startsWith(`${name}/`));
    return isDirectory ? { kind: 'directory', size: 0, key: directoryKey(name) } : null;
  }

  #refuseBlob(name: string): void {
    if (!this.#blobs.has(name)) return;
    throw new ImageError('exists', 'A file of that name already exists', { path: name });
  }
}

function nameOf(blob: Blob): string {
  return 'name' in blob && typeof blob.name === 'string' ? blob.name : 'blob';
}
