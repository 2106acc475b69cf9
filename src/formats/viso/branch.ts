/** Directories of a tree that is being built. */
import { attributesOf } from '../../blocks/iso9660/rock-ridge.ts';
import type { IsoAttributes, IsoNode } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';
import type { Permissions } from '../../storage/contract.ts';
import type { AttributeRules } from './command.ts';

/** A directory that gets and loses entries. */
export class Branch implements IsoNode {
  readonly name: string;
  /** Null: the directory stands only in names, and gets the newest time of the image. */
  ownModifiedMs: number | null;
  modifiedMs = 0;
  attributes: IsoAttributes | undefined;
  readonly executable = true;
  readonly content = null;
  readonly target = null;
  readonly entries = new Map<string, IsoNode>();
  /** Set by `seal`. */
  children: IsoNode[] = [];

  constructor(name: string, modifiedMs: number | null, attributes: IsoAttributes | undefined) {
    this.name = name;
    this.ownModifiedMs = modifiedMs;
    this.attributes = attributes;
  }

  /** The entry with that path; undefined: there is none. */
  find(parts: readonly string[]): IsoNode | undefined {
    let node: IsoNode | undefined = this;
    for (const part of parts) node = node instanceof Branch ? node.entries.get(part) : undefined;
    return node;
  }

  /** Puts other attributes on the entry with that path, of which the root is one; false: there is none. */
  change(parts: readonly string[], how: (old: IsoAttributes) => IsoAttributes): boolean {
    const node = this.find(parts);
    if (node === undefined) return false;
    const attributes = how(attributesOf(node));
    const parent = this.find(parts.slice(0, -1));
    if (node instanceof Branch) node.attributes = attributes;
    else if (parent instanceof Branch) parent.entries.set(node.name, { ...node, attributes });
    return true;
  }

  /** The directories on a path, made as needed by `make`; null: one is not there. Throws where a file is in the way. */
  parentOf(parts: readonly string[], path: string, make: ((name: string) => Branch) | null): Branch | null {
    let parent: Branch = this;
    for (const part of parts.slice(0, -1)) {
      let next = parent.entries.get(part);
      if (next === undefined) {
        if (make === null) return null;
        next = make(part);
        parent.entries.set(part, next);
      }
      if (!(next instanceof Branch)) {
        const found = parts.join('/').slice(0, 80);
        throw new ImageError('invalid-format', 'A name of the VISO file leads through a file', { path, found });
      }
      parent = next;
    }
    return parent;
  }
}

/** Every entry below a root, the root first. */
export function* allBelow(root: IsoNode): Generator<IsoNode> {
  const waiting: IsoNode[] = [root];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    yield node;
    if (node instanceof Branch) for (const child of node.entries.values()) waiting.push(child);
  }
}

/** Owner and permissions of what is added by rules; undefined: those that any entry has. */
export function attributesBy(
  { strict, fileMode, directoryMode }: AttributeRules,
  kind: 'file' | 'directory' | 'link' | 'other',
  executable: boolean,
  host: Permissions | undefined,
): IsoAttributes | undefined {
  const owner = strict && host !== undefined ? { user: host.owner, group: host.group } : { user: 0, group: 0 };
  const forced = kind === 'file' ? fileMode : kind === 'directory' ? directoryMode : null;
  const ownMode = strict
    ? host?.mode
    : kind === 'directory' && host !== undefined
      ? (host.mode & 0o1000) | 0o555
      : null;
  const mode = forced ?? ownMode ?? null;
  if (mode === null && owner.user === 0 && owner.group === 0) return undefined;
  const usual = kind === 'link' ? 0o777 : kind === 'directory' || executable ? 0o555 : 0o444;
  return { mode: mode ?? usual, ...owner };
}
