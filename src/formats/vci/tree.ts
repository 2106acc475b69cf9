/** The tree of a cache, which maps blocks of the disk to blocks of the file. Written and read as a whole. */
import type { StructValue } from '../../binary/struct.ts';
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { BLOCK, CHILD, CHILDREN, EXTENT, EXTENTS, MAX_DEPTH, NODE, NODE_BLOCKS, NODE_TYPE } from './layout.ts';

/** Blocks of the disk in the file. All numbers are blocks. */
export interface CacheExtent {
  readonly first: number;
  readonly count: number;
  readonly address: number;
}

/** Nodes needed for this many extents, the root included. */
export function nodesFor(extents: number): number {
  let nodes = Math.max(Math.ceil(extents / EXTENTS), 1);
  for (let level = nodes; level > 1; ) {
    level = Math.ceil(level / CHILDREN);
    nodes += level;
  }
  return nodes;
}

/** Writes the tree of extents in disk order, from a block of the file on. Returns the address of its root. */
export async function writeTree(storage: Storage, extents: readonly CacheExtent[], at: number): Promise<number> {
  let next = at;
  const put = async (node: Uint8Array): Promise<number> => {
    const address = next;
    await storage.write(address * BLOCK, node);
    next += NODE_BLOCKS;
    return address;
  };
  let level: CacheExtent[] = [];
  for (let from = 0; from === 0 || from < extents.length; from += EXTENTS) {
    const part = extents.slice(from, from + EXTENTS);
    level.push({ ...covering(part), address: await put(leaf(part)) });
  }
  while (level.length > 1) {
    const above: CacheExtent[] = [];
    for (let from = 0; from < level.length; from += CHILDREN) {
      const part = level.slice(from, from + CHILDREN);
      above.push({ ...covering(part), address: await put(internal(part)) });
    }
    level = above;
  }
  return level[0]?.address ?? at;
}

function covering(part: readonly CacheExtent[]): { first: number; count: number } {
  const [first, last] = [part[0], part.at(-1)];
  if (first === undefined || last === undefined) return { first: 0, count: 0 };
  return { first: first.first, count: last.first + last.count - first.first };
}

function leaf(part: readonly CacheExtent[]): Uint8Array {
  const node = new Uint8Array(NODE);
  node[0] = NODE_TYPE.leaf;
  for (const [slot, extent] of part.entries()) {
    node.set(EXTENT.encode({ older: 0, newer: 0, flags: 0, reserved: 0, ...extent }), 1 + slot * EXTENT.size);
  }
  return node;
}

function internal(part: readonly CacheExtent[]): Uint8Array {
  const node = new Uint8Array(NODE);
  node[0] = NODE_TYPE.internal;
  for (const [slot, child] of part.entries()) node.set(CHILD.encode(child), 1 + slot * CHILD.size);
  return node;
}

/** Bounds of a tree. */
export interface TreeBounds {
  /** Address of the root. */
  readonly root: number;
  /** First block that may contain nodes or data. */
  readonly start: number;
  /** End of the file in blocks. */
  readonly end: number;
}

/** Content of a tree. */
export interface Tree {
  readonly extents: readonly CacheExtent[];
  /** Addresses of its nodes. */
  readonly nodes: readonly number[];
}

/**
 * Reads a tree. Throws `corrupt` for repeated nodes, ranges that overlap or are out of order, and ranges outside the
 * file or their parent's range.
 */
export async function readTree(storage: Storage, bounds: TreeBounds): Promise<Tree> {
  const extents: CacheExtent[] = [];
  const nodes: number[] = [];
  await visit({ storage, bounds, seen: new Set(), extents, nodes }, bounds.root, null, 1);
  return { extents, nodes };
}

interface Walk {
  readonly storage: Storage;
  readonly bounds: TreeBounds;
  readonly seen: Set<number>;
  readonly extents: CacheExtent[];
  readonly nodes: number[];
}

async function visit(walk: Walk, address: number, range: CacheExtent | null, depth: number): Promise<void> {
  const { storage, bounds } = walk;
  if (depth > MAX_DEPTH) throw wrong(storage, address, 'The tree is too deep');
  if (walk.seen.has(address)) throw wrong(storage, address, 'A node of the tree has two parents');
  if (address < bounds.start || address + NODE_BLOCKS > bounds.end) {
    throw wrong(storage, address, 'A node of the tree is outside the file');
  }
  walk.seen.add(address);
  walk.nodes.push(address);
  const node = new Uint8Array(NODE);
  await storage.read(address * BLOCK, node);
  if (node[0] === NODE_TYPE.leaf) {
    for (const { first, count, address: place } of slots(node, EXTENT, EXTENTS)) {
      const extent = { first, count, address: place };
      checkOrder(walk, address, extent, range, walk.extents.at(-1));
      if (place < bounds.start || place + count > bounds.end) {
        throw wrong(storage, address, 'Cached blocks are outside the file');
      }
      walk.extents.push(extent);
    }
    return;
  }
  if (node[0] !== NODE_TYPE.internal) throw wrong(storage, address, 'A node of the tree has an unknown type');
  let before: CacheExtent | undefined;
  for (const child of slots(node, CHILD, CHILDREN)) {
    checkOrder(walk, address, child, range, before);
    await visit(walk, child.address, child, depth + 1);
    before = child;
  }
}

function* slots<T extends typeof EXTENT | typeof CHILD>(
  node: Uint8Array,
  table: T,
  count: number,
): Generator<StructValue<T>> {
  for (let slot = 0; slot < count; slot++) {
    const value = table.decode(node, 1 + slot * table.size) as StructValue<T>;
    if (value.count === 0 || value.address === 0) return;
    yield value;
  }
}

function checkOrder(
  { storage }: Walk,
  node: number,
  { first, count }: CacheExtent,
  range: CacheExtent | null,
  before: CacheExtent | undefined,
): void {
  if (!Number.isSafeInteger((first + count) * BLOCK))
    throw wrong(storage, node, 'Cached blocks are beyond the end of any disk');
  if (before !== undefined && first < before.first + before.count) {
    throw wrong(storage, node, 'Cached blocks are not in order');
  }
  if (range !== null && (first < range.first || first + count > range.first + range.count)) {
    throw wrong(storage, node, 'A node of the tree leaves the range of its parent');
  }
}

function wrong(storage: Storage, address: number, message: string): ImageError {
  return new ImageError('corrupt', message, {
    path: storage.label,
    // An address may be anything.
    offset: Math.min(address, Number.MAX_SAFE_INTEGER / BLOCK) * BLOCK,
  });
}
