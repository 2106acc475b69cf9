/** The files below a directory of the host, as the tree of an image. Links are kept and never followed. */
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { DirectoryEntry, OperationOptions } from '../../storage/contract.ts';
import type { HostContent } from './host-files.ts';
import { ISO_LIMITS, type IsoAttributes, type IsoNode } from './tree.ts';

/** Lists a directory of the host. */
export type ListDirectory = (directory: string) => AsyncIterable<DirectoryEntry>;

/** Options for reading a tree. */
export interface TreeOptions extends OperationOptions {
  /** A full name that is left out: the image that is made of the tree. */
  readonly except?: ReadonlySet<string> | undefined;
  /** Owner and permissions in the image. Left out, or undefined: those of `attributesOf`. */
  readonly attributes?: ((entry: DirectoryEntry) => IsoAttributes | undefined) | undefined;
  /** Counts the entries of several trees together. */
  readonly count?: { entries: number } | undefined;
  /** Called for what cannot be stored and is left out. */
  readonly onSkipped?: ((path: string) => void) | undefined;
}

/** Reads a directory with everything below it. Throws `limit`, `invalid-argument` for names that cannot be stored. */
export async function readTree(directory: string, list: ListDirectory, options: TreeOptions = {}): Promise<IsoNode> {
  const reader = new TreeReader(list, options);
  return reader.read({ name: '', path: directory, modifiedMs: 0 }, 0);
}

class TreeReader {
  readonly #list: ListDirectory;
  readonly #options: TreeOptions;
  /** Files with several names come once. */
  readonly #contents = new Map<string, HostContent>();
  readonly #count: { entries: number };

  constructor(list: ListDirectory, options: TreeOptions) {
    this.#list = list;
    this.#options = options;
    this.#count = options.count ?? { entries: 0 };
  }

  async read(
    own: { name: string; path: string; modifiedMs: number; attributes?: IsoAttributes | undefined },
    depth: number,
  ): Promise<IsoNode> {
    const { signal } = this.#options;
    if (depth > ISO_LIMITS.depth)
      throw tooMuch(own.path, `at most ${ISO_LIMITS.depth} directories inside of each other`);
    const entries: DirectoryEntry[] = [];
    for await (const entry of this.#list(own.path)) {
      throwIfAborted(signal, 'Reading the directory');
      countEntry(this.#count, own.path);
      entries.push(entry);
    }
    entries.sort((one, other) => (one.name < other.name ? -1 : 1));
    const children: IsoNode[] = [];
    for (const entry of entries) {
      const child = await this.#nodeOf(entry, depth);
      if (child !== null) children.push(child);
    }
    const { name, modifiedMs, attributes } = own;
    return { name, modifiedMs, executable: true, children, content: null, target: null, attributes };
  }

  async #nodeOf(entry: DirectoryEntry, depth: number): Promise<IsoNode | null> {
    const { name, path, kind, modifiedMs, executable, target } = entry;
    if (this.#options.except?.has(path) === true) return null;
    checkName(name, path);
    const attributes = this.#options.attributes?.(entry);
    if (kind === 'directory') return this.read({ name, path, modifiedMs, attributes }, depth + 1);
    const node = { name, modifiedMs, executable, children: null, attributes };
    if (kind === 'link') return { ...node, content: null, target: target ?? '' };
    if (kind === 'file') return { ...node, content: this.#contentOf(entry), target: null };
    this.#options.onSkipped?.(path);
    return null;
  }

  #contentOf({ path, key, size, modifiedMs, revision }: DirectoryEntry): HostContent {
    const known = this.#contents.get(key);
    if (known !== undefined) return known;
    const content = { path, key, size, modifiedMs, revision };
    this.#contents.set(key, content);
    return content;
  }
}

/** Counts an entry. Throws `limit`. */
export function countEntry(count: { entries: number }, path: string): void {
  if (++count.entries > ISO_LIMITS.entries) throw tooMuch(path, `at most ${ISO_LIMITS.entries} files`);
}

function checkName(name: string, path: string): void {
  const length = new TextEncoder().encode(name).length;
  if (length <= ISO_LIMITS.nameBytes && !name.includes('\0')) return;
  throw tooMuch(path, `a name of at most ${ISO_LIMITS.nameBytes} bytes`);
}

function tooMuch(path: string, expected: string): ImageError {
  return new ImageError('limit', 'The directory cannot be stored in an ISO 9660 image', { path, expected });
}
