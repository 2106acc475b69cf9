/**
 * A provider that records all operations on its storages, for the enumeration of cut states.
 *
 * Operations reach the inner storage when they start and are reported as complete some turns of the microtask queue
 * later. That makes two writers, or a writer and a flush, overlap as on a real disk, without a clock and reproducibly.
 */
import { checkArguments, OBJECT } from '../arguments.ts';
import { equalBytes } from '../codec/bytes.ts';
import { PROVIDER } from '../storage/checks.ts';
import type {
  CreateMode,
  NameInfo,
  OpenMode,
  OperationOptions,
  ReadTarget,
  Storage,
  StorageProvider,
  WriteSource,
} from '../storage/contract.ts';
import { ForwardingProvider, ForwardingStorage } from '../storage/forwarding.ts';
import {
  type FlushOperation,
  type LoggedFile,
  type MediumOperation,
  type MovedFile,
  type NameOperation,
  OperationLog,
} from './operation-log.ts';
import { PagedBytes } from './paged-bytes.ts';

/** Bytes read at once when a file is first seen. */
const CAPTURE_BYTES = 1024 * 1024;

/** Behaviour of the recorded storages. */
export interface RecordingOptions {
  /** Turns of the microtask queue until the next operation is reported as complete. Default: none. */
  readonly turns?: ((operation: 'read' | 'write' | 'flush' | 'names') => number) | undefined;
}

/** Records all operations into `log`. */
export class RecordingProvider extends ForwardingProvider {
  readonly log = new OperationLog();
  readonly #turns: NonNullable<RecordingOptions['turns']>;

  constructor(inner: StorageProvider, options: RecordingOptions = {}) {
    super(inner);
    checkArguments('RecordingProvider', { inner: [inner, PROVIDER], options: [options, OBJECT] });
    this.#turns = options.turns ?? ((): number => 0);
  }

  override async open(name: string, mode: OpenMode): Promise<Storage> {
    const file = await this.#see(name);
    const storage = await this.inner.open(name, mode);
    return new RecordingStorage(storage, file ?? this.log.addExisting(name, await capture(storage)), this);
  }

  override async create(name: string, how?: CreateMode): Promise<Storage> {
    const file = this.log.addFile(name);
    const directories = [this.directory(name)];
    const storage = await this.#change({ kind: 'create', file, to: name, directories }, () =>
      this.inner.create(name, how),
    );
    return new RecordingStorage(storage, file, this);
  }

  override async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    await this.#see(to);
    const file = await this.#see(from);
    if (file === null) return this.#renameDirectory(from, to, how);
    const directories = [...new Set([this.directory(from), this.directory(to)])];
    await this.#change({ kind: 'rename', file, from, to, replace: how.replace, directories }, () =>
      this.inner.rename(from, to, how),
    );
  }

  override async link(from: string, to: string): Promise<void> {
    await this.#see(to);
    const file = await this.#see(from);
    if (file === null) return super.link?.(from, to);
    await this.#change({ kind: 'link', file, from, to, directories: [this.directory(to)] }, async () =>
      super.link?.(from, to),
    );
  }

  /** A directory is renamed in one step, whether or not it may replace. */
  async #renameDirectory(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    const moved: MovedFile[] = [];
    for (const name of await this.#namesIn(from)) {
      const file = await this.#see(name);
      if (file !== null) moved.push({ file, from: name, to: to + name.slice(from.length) });
    }
    const [first] = moved;
    // The inner provider knows best how to complain about a name that is not there.
    if (first === undefined) return this.inner.rename(from, to, how);
    const directories = [...new Set([this.directory(from), this.directory(to)])];
    const draft = { kind: 'rename', file: first.file, from, to, replace: true, moved, directories } as const;
    await this.#change(draft, () => this.inner.rename(from, to, how));
  }

  async #namesIn(directory: string): Promise<string[]> {
    const names: string[] = [];
    if ((await this.inner.lookUp(directory))?.kind !== 'directory') return names;
    for await (const name of this.inner.list(directory)) names.push(name);
    return names;
  }

  override async remove(name: string): Promise<void> {
    const file = await this.#see(name);
    if (file === null) return this.inner.remove(name);
    await this.#change({ kind: 'remove', file, from: name, directories: [this.directory(name)] }, () =>
      this.inner.remove(name),
    );
  }

  override async lookUp(name: string): Promise<NameInfo | null> {
    await this.#see(name);
    return this.inner.lookUp(name);
  }

  override async *list(directory: string): AsyncIterable<string> {
    for await (const name of this.inner.list(directory)) {
      await this.#see(name);
      yield name;
    }
  }

  override async syncNames(directory: string): Promise<void> {
    await this.timed(this.log.startFlush(directory), 'names', () => this.inner.syncNames(directory));
  }

  /** Runs an operation started in the log, and records its outcome. */
  async timed(
    operation: MediumOperation | FlushOperation,
    turns: 'write' | 'flush' | 'names',
    run: () => Promise<void>,
  ): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.log.fail(operation);
      throw error;
    }
    await this.pause(turns);
    this.log.end(operation);
  }

  /** Lets others run, as a slow medium would. */
  async pause(operation: 'read' | 'write' | 'flush' | 'names'): Promise<void> {
    for (let turn = this.#turns(operation); turn > 0; turn--) await null;
  }

  async #change<T>(draft: Parameters<OperationLog['start']>[0], run: () => Promise<T>): Promise<T> {
    const operation = this.log.start(draft) as NameOperation;
    let result: T;
    try {
      result = await run();
    } catch (error) {
      this.log.withdraw(operation);
      throw error;
    }
    this.log.applyNames(operation);
    await this.pause('names');
    this.log.end(operation);
    return result;
  }

  /** The file behind a name; its content is captured if it existed before the recording. */
  async #see(name: string): Promise<LoggedFile | null> {
    const known = this.log.names.get(name);
    if (known !== undefined) return known;
    const info = await this.inner.lookUp(name);
    if (info?.kind !== 'file') return null;
    const storage = await this.inner.open(name, 'read');
    try {
      const content = await capture(storage);
      return this.log.names.get(name) ?? this.log.addExisting(name, content);
    } finally {
      await storage.close();
    }
  }
}

async function capture(storage: Storage): Promise<PagedBytes> {
  const content = new PagedBytes();
  for (let offset = 0; offset < storage.size; offset += CAPTURE_BYTES) {
    const piece = new Uint8Array(Math.min(CAPTURE_BYTES, storage.size - offset));
    await storage.read(offset, piece);
    content.write(offset, piece);
  }
  return content;
}

/** One handle; all handles of a file share its log. */
class RecordingStorage extends ForwardingStorage {
  readonly #file: LoggedFile;
  readonly #provider: RecordingProvider;

  constructor(inner: Storage, file: LoggedFile, provider: RecordingProvider) {
    super(inner);
    this.#file = file;
    this.#provider = provider;
  }

  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    await this.inner.read(offset, target, options);
    await this.#provider.pause('read');
  }

  override async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    const bytes = joined(source);
    const before = this.size;
    const operation = this.#log.start({
      kind: 'write',
      file: this.#file,
      offset,
      length: bytes.length,
      bytes,
      sizes: [before, Math.max(before, offset + bytes.length)],
    });
    await this.#provider.timed(operation, 'write', () => this.inner.write(offset, bytes, options));
    if (!equalBytes(joined(source), bytes)) {
      this.#log.hazards.push(`The buffer of write ${operation.id} changed while the write was running`);
    }
  }

  override async zero(
    offset: number,
    length: number,
    how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    const operation = this.#log.start({ kind: 'zero', file: this.#file, offset, length });
    await this.#provider.timed(operation, 'write', () => this.inner.zero(offset, length, how, options));
  }

  override async allocate(offset: number, length: number, options?: OperationOptions): Promise<void> {
    const before = this.size;
    await super.allocate?.(offset, length, options);
    if (this.size === before) return;
    this.#log.end(this.#log.start({ kind: 'resize', file: this.#file, sizes: [before, this.size] }));
  }

  override async resize(size: number, options?: OperationOptions): Promise<void> {
    const operation = this.#log.start({ kind: 'resize', file: this.#file, sizes: [this.size, size] });
    await this.#provider.timed(operation, 'write', () => this.inner.resize(size, options));
  }

  override async flush(options?: OperationOptions): Promise<void> {
    await this.#provider.timed(this.#log.startFlush(this.#file), 'flush', () => this.inner.flush(options));
  }

  get #log(): OperationLog {
    return this.#provider.log;
  }
}

function joined(source: WriteSource): Uint8Array {
  if (source instanceof Uint8Array) return source.slice();
  const bytes = new Uint8Array(source.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of source) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
