/** A provider around another one that hands everything on. Subclasses say what they put around each storage. */
import type { CreateMode, NameInfo, OpenMode, PublishHow, Storage, StorageProvider } from '../storage/contract.ts';

/** Base of providers that watch or disturb another one. */
export abstract class WrappedProvider implements StorageProvider {
  protected readonly inner: StorageProvider;

  constructor(inner: StorageProvider) {
    this.inner = inner;
  }

  abstract open(name: string, mode: OpenMode): Promise<Storage>;
  abstract create(name: string, how?: CreateMode): Promise<Storage>;
  abstract rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void>;
  abstract remove(name: string): Promise<void>;
  abstract syncNames(directory: string): Promise<void>;

  list(directory: string): AsyncIterable<string> {
    return this.inner.list(directory);
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

  freeSpace(directory: string): Promise<number | null> {
    return this.inner.freeSpace(directory);
  }
}
