/** The trees of a VISO file: what its command line adds and takes out, in each name space. */
import { type HostContent, stateOf } from '../../blocks/iso9660/host-files.ts';
import { countEntry, readTree } from '../../blocks/iso9660/host-tree.ts';
import { ISO_LIMITS, type IsoAttributes, type IsoContent, type IsoNode } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';
import type { ImageFiles, NamedDirectory } from '../../image/files.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import { allBelow, attributesBy, Branch } from './branch.ts';
import type { AttributeRules, Change, IsoSource, Names, Space, Step, VisoCommand } from './command.ts';
import { openHost } from './host.ts';
import { nodeIn } from './iso-source.ts';

/** Content of the boot catalog, which the plan makes. */
const CATALOG_BYTES = 2048;

/** Trees of an image. */
export interface Trees {
  readonly iso: Branch;
  /** Null: there are no Joliet names. The same one as `iso` where all names are alike. */
  readonly joliet: Branch | null;
  /** The boot catalog, if it has a name. */
  readonly catalog: IsoContent | null;
  /** Newest time of a file. */
  readonly newestMs: number;
}

/** Makes the trees. Throws `not-found`, `denied`, `invalid-format`, `unsupported`, `limit`. */
export async function buildTrees(command: VisoCommand, files: ImageFiles, options: OperationOptions): Promise<Trees> {
  const builder = new Builder(command, files, options);
  for (const step of command.steps) await builder.run(step);
  return builder.trees();
}

class Builder {
  readonly #command: VisoCommand;
  readonly #files: ImageFiles;
  readonly #options: OperationOptions;
  readonly #iso: Branch;
  readonly #joliet: Branch | null;
  readonly #count = { entries: 0 };
  #catalog: IsoContent | null = null;

  constructor(command: VisoCommand, files: ImageFiles, options: OperationOptions) {
    this.#command = command;
    this.#files = files;
    this.#options = options;
    this.#iso = new Branch('', null, undefined);
    const alike = command.steps.every((step) => step.do === 'change' || step.names.iso === step.names.joliet);
    const own = alike && !command.transTables ? this.#iso : new Branch('', null, undefined);
    this.#joliet = command.joliet ? own : null;
  }

  run(step: Step): Promise<void> | void {
    if (step.do === 'add')
      return step.from === null
        ? this.#add(step.names, step.host, step.rules)
        : this.#take(step.names, nodeIn(step.from, step.host), step.rules);
    if (step.do === 'import') return this.#import(step.names, step.iso);
    if (step.do === 'remove') return this.#remove(step.names, step.must);
    if (step.do === 'change') return this.#change(step);
    this.#catalog ??= { size: CATALOG_BYTES };
    const node = { name: '', modifiedMs: 0, executable: false, children: null, content: this.#catalog, target: null };
    this.#putAll(step.names, node, step.rules);
  }

  trees(): Trees {
    const { path, joliet } = this;
    if (this.#iso.entries.size === 0) {
      const hasOthers = joliet !== null && joliet.entries.size > 0;
      if (hasOthers) throw new ImageError('unsupported', 'All files of the VISO file have Joliet names only', { path });
      throw new ImageError('invalid-format', 'The VISO file names no files', { path });
    }
    const roots = joliet === null || joliet === this.#iso ? [this.#iso] : [this.#iso, joliet];
    let newestMs = 0;
    for (const root of roots) for (const { modifiedMs } of allBelow(root)) newestMs = Math.max(newestMs, modifiedMs);
    return { iso: this.#iso, joliet, catalog: this.#catalog, newestMs };
  }

  get joliet(): Branch | null {
    return this.#joliet === null || this.#joliet.entries.size === 0 ? null : this.#joliet;
  }

  get path(): string {
    return this.#files.name;
  }

  async #add(names: Names, host: string, rules: AttributeRules): Promise<void> {
    const directory = await this.#files.entries?.(host);
    const isFile = directory === null || directory === undefined;
    const node = isFile ? await this.#fileNode(host, rules) : await this.#directoryNode(host, directory, rules);
    this.#putAll(names, node, rules);
  }

  /** Adds what another image has under a name. */
  #take(names: Names, node: IsoNode, rules: AttributeRules): void {
    this.#putAll(
      names,
      this.#copyOf(node, (one) => ({ ...one, attributes: takenBy(rules, one) })),
      rules,
    );
  }

  /** Adds all that another image has. Its boot catalog is that of the new one. */
  #import(names: Names, { root, catalog }: IsoSource): void {
    if (catalog !== null) this.#catalog ??= { size: CATALOG_BYTES };
    const node = this.#copyOf(root, (one) =>
      one.content === catalog?.content ? { ...one, content: this.#catalog } : one,
    );
    this.#putAll(names, node, this.#command.rules);
  }

  #copyOf(node: IsoNode, change: (node: IsoNode) => IsoNode): IsoNode {
    countEntry(this.#count, this.path);
    const children = node.children?.map((child) => this.#copyOf(child, change)) ?? null;
    return change({ ...node, children });
  }

  async #fileNode(host: string, rules: AttributeRules): Promise<IsoNode> {
    const storage = await openHost(this.#files, host);
    try {
      const { key, size, modifiedMs, revision } = await stateOf(storage);
      const permissions = (await storage.attributes?.()) ?? undefined;
      const executable = ((permissions?.mode ?? 0) & 0o111) !== 0;
      const content: HostContent = { path: host, key, size, modifiedMs: modifiedMs ?? 0, revision };
      const attributes = attributesBy(rules, 'file', executable, permissions);
      return {
        name: '',
        modifiedMs: content.modifiedMs,
        executable,
        children: null,
        content,
        target: null,
        attributes,
      };
    } finally {
      await storage.close();
    }
  }

  async #directoryNode(host: string, named: NamedDirectory, rules: AttributeRules): Promise<IsoNode> {
    const files = this.#files;
    const list = async function* (path: string) {
      const entries = path === host ? named.entries : (await files.entries?.(path))?.entries;
      if (entries !== undefined) yield* entries;
    };
    const attributes = attributesBy(rules, 'directory', true, named.permissions);
    const tree = await readTree(host, list, {
      ...this.#options,
      count: this.#count,
      onSkipped: (path) => {
        throw new ImageError('unsupported', 'A directory of the VISO file holds something other than files', {
          path,
          found: 'a device, a pipe or a socket',
          expected: 'files, directories and links',
          hint: 'Take it out of the directory, or name the files one by one.',
        });
      },
      attributes: ({ kind, executable, permissions }) => attributesBy(rules, kind, executable, permissions),
    });
    return { ...tree, modifiedMs: named.modifiedMs ?? 0, attributes };
  }

  #putAll(names: Names, node: IsoNode, rules: AttributeRules): void {
    for (const [root, name] of this.#roots(names)) {
      const place = partsOf(name, this.path);
      if (place.length > 0) this.#putAt(root, place, node, rules);
      else if (node.children === null) throw this.#nameless(node);
      else {
        root.attributes = node.attributes;
        for (const child of node.children) this.#put(root, child.name, child);
      }
    }
  }

  #putAt(root: Branch, place: readonly string[], node: IsoNode, rules: AttributeRules): void {
    const attributes = newDirectory(rules);
    const parent = root.parentOf(place, this.path, (name) => {
      countEntry(this.#count, this.path);
      return new Branch(name, null, attributes);
    });
    countEntry(this.#count, this.path);
    if (parent !== null) this.#put(parent, place.at(-1) ?? '', node);
  }

  /** Directories that are there get what is new; files are replaced. */
  #put(parent: Branch, name: string, node: IsoNode): void {
    if (node.target !== null && this.#command.rockRidge !== 'full') throw this.#unseenLink(name);
    if (node.children === null) {
      parent.entries.set(name, node.name === name ? node : { ...node, name });
      return;
    }
    const old = parent.entries.get(name);
    const branch = old instanceof Branch ? old : new Branch(name, node.modifiedMs, node.attributes);
    if (branch.ownModifiedMs === null) {
      branch.ownModifiedMs = node.modifiedMs;
      branch.attributes = node.attributes;
    }
    branch.modifiedMs = branch.ownModifiedMs;
    parent.entries.set(name, branch);
    for (const child of node.children) this.#put(branch, child.name, child);
  }

  #remove(names: Names, must: boolean): void {
    let removed = false;
    for (const [root, name] of this.#roots(names)) {
      const place = partsOf(name, this.path);
      removed = root.parentOf(place, this.path, null)?.entries.delete(place.at(-1) ?? '') === true || removed;
    }
    if (must && !removed) throw this.#notThere('removes', names.iso ?? names.joliet ?? '');
  }

  #change({ path, option, mode, user, group }: Change): void {
    const isThere = this.#iso.change(partsOf(path, this.path), (old) => ({
      mode: mode === undefined ? old.mode : (old.mode & mode.kept) | mode.set,
      user: user ?? old.user,
      group: group ?? old.group,
    }));
    if (!isThere) throw this.#notThere(`changes by ${option}`, path);
  }

  /** Trees that get a name, each with it. */
  *#roots(names: Names): Generator<[Branch, string]> {
    const spaces: readonly (readonly [Space, Branch | null])[] = [
      ['iso', this.#iso],
      ['joliet', this.#joliet === this.#iso ? null : this.#joliet],
    ];
    for (const [space, root] of spaces) {
      const name = names[space];
      if (root !== null && name !== null) yield [root, name];
    }
  }

  #nameless(node: IsoNode): ImageError {
    return new ImageError('invalid-format', 'A file of the VISO file has no name in the image', {
      path: this.path,
      found: (node.content as HostContent | null)?.path ?? 'the boot catalog',
      hint: 'Only the content of a directory can be added as /.',
    });
  }

  #notThere(does: string, name: string): ImageError {
    const found = name.slice(0, 80);
    return new ImageError('not-found', `The VISO file ${does} a name that is not there`, { path: this.path, found });
  }

  #unseenLink(name: string): ImageError {
    return new ImageError('unsupported', 'The VISO file has a link, which would be lost without Rock Ridge', {
      path: this.path,
      found: name.slice(0, 80),
      hint: 'Use --rock-ridge, or take the link out with =:remove:.',
    });
  }
}

/** As for a file of the host, whose permissions an image may tell. */
function takenBy(
  rules: AttributeRules,
  { children, target, executable, attributes }: IsoNode,
): IsoAttributes | undefined {
  const kind = children !== null ? 'directory' : target !== null ? 'link' : 'file';
  const owned =
    attributes === undefined ? undefined : { mode: attributes.mode, owner: attributes.user, group: attributes.group };
  return attributesBy(rules, kind, executable, owned);
}

function newDirectory({ directoryMode, newDirectoryMode }: AttributeRules): IsoAttributes | undefined {
  const mode = directoryMode ?? newDirectoryMode;
  return mode === null ? undefined : { mode, user: 0, group: 0 };
}

/** Parts of a name in the image. */
export function partsOf(name: string, path: string): string[] {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  const length = (part: string): number => new TextEncoder().encode(part).length;
  const isFine = parts.every((part) => part !== '..' && !part.includes('\0') && length(part) <= ISO_LIMITS.nameBytes);
  if (isFine && parts.length <= ISO_LIMITS.depth) return parts;
  throw new ImageError('invalid-format', 'A name of the VISO file is not valid', { path, found: name.slice(0, 80) });
}

/** Completes the trees: times of directories that only names tell, and of files made for the image, and the lists that the plan reads. */
export function seal({ iso, joliet, catalog, newestMs }: Trees): void {
  const isMade = ({ content }: IsoNode): boolean =>
    content !== null && (content === catalog || content.bytes !== undefined);
  for (const root of joliet === null ? [iso] : [iso, joliet]) {
    for (const node of allBelow(root)) {
      if (!(node instanceof Branch)) continue;
      node.modifiedMs = node.ownModifiedMs ?? newestMs;
      node.children = [...node.entries.values()].map((child) =>
        isMade(child) ? { ...child, modifiedMs: newestMs } : child,
      );
    }
  }
}
