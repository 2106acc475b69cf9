/**
 * Storages and providers that stand in front of another one and hand everything on to it. A wrapper overrides what
 * differs and names nothing else, so that a new member of the contract is forwarded in one place: here.
 */
import { checkArguments, listOf, OBJECT, TEXT } from '../arguments.ts';
import { PROVIDER, STORAGE } from './checks.ts';
import type {
  CreateMode,
  DirectoryEntry,
  FileAttributes,
  LockMode,
  LockOptions,
  LockState,
  MaybePromise,
  NameInfo,
  OpenMode,
  OperationOptions,
  PublishHow,
  ReadTarget,
  StagedSet,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageHints,
  StorageIdentity,
  StoragePlace,
  StorageProvider,
  WriteSource,
} from './contract.ts';

const NAMES = listOf(TEXT);

/** Names of the members that an object of this type may lack. */
export type OptionalKeys<T> = { [K in keyof T]-?: Record<never, never> extends Pick<T, K> ? K : never }[keyof T];
/** All of them, each once; compiles only when the wrapper has each of them. */
type Listed<T, Wrapper> = { readonly [K in OptionalKeys<T>]: K extends keyof Wrapper ? true : never };

/** Callers look for the member, so one that the inner storage lacks is absent from the wrapper, overridden or not. */
const OPTIONAL_OF_STORAGE: Listed<Storage, ForwardingStorage> = {
  hints: true,
  readNow: true,
  allocate: true,
  adviseSequential: true,
  attributes: true,
  place: true,
};
const OPTIONAL_OF_PROVIDER: Listed<StorageProvider, ForwardingProvider> = {
  link: true,
  makeDirectory: true,
  removeDirectory: true,
  entries: true,
  stage: true,
};

/** A storage that hands every call on. `absent`: optional members that it lacks whatever the inner one has. */
export class ForwardingStorage implements Storage {
  protected inner: Storage;

  constructor(inner: Storage, absent: readonly OptionalKeys<Storage>[] = []) {
    checkArguments('ForwardingStorage', { inner: [inner, STORAGE], absent: [absent, NAMES] });
    this.inner = inner;
    leaveOut(this, inner, OPTIONAL_OF_STORAGE, absent);
  }

  get label(): string {
    return this.inner.label;
  }

  get size(): number {
    return this.inner.size;
  }

  get can(): StorageCapabilities {
    return this.inner.can;
  }

  get hints(): StorageHints | undefined {
    return this.inner.hints;
  }

  readNow?(offset: number, target: Uint8Array): boolean {
    return this.inner.readNow?.(offset, target) ?? false;
  }

  read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    return this.inner.read(offset, target, options);
  }

  write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    return this.inner.write(offset, source, options);
  }

  extentAt(offset: number, options?: OperationOptions): MaybePromise<StorageExtent> {
    return this.inner.extentAt(offset, options);
  }

  zero(offset: number, length: number, how: { readonly punch: boolean }, options?: OperationOptions): Promise<void> {
    return this.inner.zero(offset, length, how, options);
  }

  async allocate?(offset: number, length: number, options?: OperationOptions): Promise<void> {
    await this.inner.allocate?.(offset, length, options);
  }

  adviseSequential?(): void {
    this.inner.adviseSequential?.();
  }

  resize(size: number, options?: OperationOptions): Promise<void> {
    return this.inner.resize(size, options);
  }

  flush(options?: OperationOptions): Promise<void> {
    return this.inner.flush(options);
  }

  identity(options?: OperationOptions): Promise<StorageIdentity> {
    return this.inner.identity(options);
  }

  async attributes?(options?: OperationOptions): Promise<FileAttributes | null> {
    return (await this.inner.attributes?.(options)) ?? null;
  }

  async place?(options?: OperationOptions): Promise<StoragePlace | null> {
    return (await this.inner.place?.(options)) ?? null;
  }

  lock(mode: LockMode, how?: LockOptions, options?: OperationOptions): Promise<void> {
    return this.inner.lock(mode, how, options);
  }

  lockState(options?: OperationOptions): Promise<LockState> {
    return this.inner.lockState(options);
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}

/** A provider that hands every call on. `absent`: optional members that it lacks whatever the inner one has. */
export class ForwardingProvider implements StorageProvider {
  protected readonly inner: StorageProvider;

  constructor(inner: StorageProvider, absent: readonly OptionalKeys<StorageProvider>[] = []) {
    checkArguments('ForwardingProvider', { inner: [inner, PROVIDER], absent: [absent, NAMES] });
    this.inner = inner;
    leaveOut(this, inner, OPTIONAL_OF_PROVIDER, absent);
  }

  open(name: string, mode: OpenMode): Promise<Storage> {
    return this.inner.open(name, mode);
  }

  create(name: string, how?: CreateMode): Promise<Storage> {
    return this.inner.create(name, how);
  }

  rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    return this.inner.rename(from, to, how);
  }

  async link?(from: string, to: string): Promise<void> {
    await this.inner.link?.(from, to);
  }

  remove(name: string): Promise<void> {
    return this.inner.remove(name);
  }

  async makeDirectory?(name: string): Promise<void> {
    await this.inner.makeDirectory?.(name);
  }

  async removeDirectory?(name: string): Promise<void> {
    await this.inner.removeDirectory?.(name);
  }

  list(directory: string): AsyncIterable<string> {
    return this.inner.list(directory);
  }

  entries?(directory: string): AsyncIterable<DirectoryEntry> {
    const all = this.inner.entries?.(directory);
    if (all === undefined) throw new Error('internal: absent where the inner provider lacks it');
    return all;
  }

  resolve(name: string, relativeTo: string): string {
    return this.inner.resolve(name, relativeTo);
  }

  directory(name: string): string {
    return this.inner.directory(name);
  }

  lookUp(name: string): Promise<NameInfo | null> {
    return this.inner.lookUp(name);
  }

  realName(name: string): Promise<string> {
    return this.inner.realName(name);
  }

  temporaryName(name: string): string {
    return this.inner.temporaryName(name);
  }

  publishMode(name: string): Promise<void> {
    return this.inner.publishMode(name);
  }

  publishLike(name: string, how: PublishHow): Promise<readonly string[]> {
    return this.inner.publishLike(name, how);
  }

  syncNames(directory: string): Promise<void> {
    return this.inner.syncNames(directory);
  }

  freeSpace(directory: string): Promise<number | null> {
    return this.inner.freeSpace(directory);
  }

  stage?(): StagedSet {
    const set = this.inner.stage?.();
    if (set === undefined) throw new Error('internal: absent where the inner provider lacks it');
    return set;
  }
}

/** The storage with some members of the caller's own; everything else is handed on. */
export function forwardedStorage(inner: Storage, own: Partial<Storage>): Storage {
  checkArguments('forwardedStorage', { inner: [inner, STORAGE], own: [own, OBJECT] });
  return withOwn(new ForwardingStorage(inner), own);
}

/** The provider with some members of the caller's own; everything else is handed on. */
export function forwardedProvider(inner: StorageProvider, own: Partial<StorageProvider>): StorageProvider {
  checkArguments('forwardedProvider', { inner: [inner, PROVIDER], own: [own, OBJECT] });
  return withOwn(new ForwardingProvider(inner), own);
}

/** Getters stay getters. */
function withOwn<T extends object>(wrapper: T, own: Partial<T>): T {
  return Object.defineProperties(wrapper, Object.getOwnPropertyDescriptors(own));
}

function leaveOut<T extends object>(
  wrapper: T,
  inner: T,
  optional: Readonly<Record<OptionalKeys<T>, true>>,
  absent: readonly OptionalKeys<T>[],
): void {
  for (const name of Object.keys(optional) as OptionalKeys<T>[]) {
    if (inner[name] !== undefined && !absent.includes(name)) continue;
    Object.defineProperty(wrapper, name, { value: undefined, writable: true, configurable: true });
  }
}
