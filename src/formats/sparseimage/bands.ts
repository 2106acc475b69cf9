/**
 * Places of the bands of a sparse image. A node lists the bands that lie behind it, in the order of the file; sorted by
 * their place on the disk they are searched.
 */
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { type SparseHeader, tooMuch, wrong } from './header.ts';
import { ENTRY_BYTES, ENTRY_FREE, HEADER, INDEX, LIMITS, MAGIC, NODE_BYTES } from './layout.ts';

/** Slots that one node may have: a number above the entries of both kinds of nodes. */
const NODE_SLOTS = 1024;

/** A node and what follows it. */
export interface SparseNode {
  readonly fileOffset: number;
  /** Last entry that is in use, plus one. */
  readonly slots: number;
}

/** Reads all nodes. Throws `invalid-format`, `limit`, `corrupt`. */
export async function readBands(storage: Storage, header: SparseHeader): Promise<Bands> {
  const nodes: SparseNode[] = [];
  const lists: Float64Array[] = [];
  let { node: bytes, nextNode: next } = header;
  let fileOffset = 0;
  let entriesAt: number = HEADER.size;
  for (;;) {
    if ((nodes.length + 1) * NODE_SLOTS > LIMITS.slots) {
      throw tooMuch(storage, 'list of bands', nodes.length + 1, `${LIMITS.slots / NODE_SLOTS} nodes`);
    }
    const list = entriesOf(bytes.subarray(entriesAt), nodes.length, { storage, header });
    const slots = list.reduce((most, key) => Math.max(most, (key % NODE_SLOTS) + 1), 0);
    nodes.push({ fileOffset, slots });
    lists.push(list);
    if (next === 0) break;
    // The next one follows the bands of this one: that also ends any circle.
    const least = fileOffset + NODE_BYTES + slots * header.bandBytes;
    if (next < least || next + NODE_BYTES > storage.size) {
      throw wrong(storage, `node ${nodes.length}`, `offset ${next}`, `an offset from ${least} inside the file`);
    }
    fileOffset = next;
    bytes = new Uint8Array(NODE_BYTES);
    await storage.read(fileOffset, bytes);
    const { magic, nextNode } = INDEX.decode(bytes);
    if (magic !== MAGIC) throw wrong(storage, `node ${nodes.length}`, 'another signature', MAGIC);
    next = nextNode;
    entriesAt = INDEX.size;
  }
  return new Bands(nodes, sorted(lists, storage), header.bandBytes);
}

interface Place {
  readonly storage: Storage;
  readonly header: SparseHeader;
}

/** Keys of the bands of a node: the band's place on the disk, times the slots that there can be, plus its slot. */
function entriesOf(bytes: Uint8Array, node: number, { storage, header }: Place): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const keys = new Float64Array(bytes.length / ENTRY_BYTES);
  let count = 0;
  for (let entry = 0; entry < keys.length; entry++) {
    const number = view.getUint32(entry * ENTRY_BYTES);
    if (number === ENTRY_FREE) continue;
    if (number > header.bandCount) {
      throw damaged(storage, `entry ${entry} of node ${node}`, number, `at most ${header.bandCount}`);
    }
    keys[count++] = (number - 1) * LIMITS.slots + node * NODE_SLOTS + entry;
  }
  return keys.slice(0, count);
}

function sorted(lists: readonly Float64Array[], storage: Storage): Float64Array {
  const keys = new Float64Array(lists.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const list of lists) {
    keys.set(list, at);
    at += list.length;
  }
  keys.sort();
  for (let next = 1; next < keys.length; next++) {
    const band = bandOf(keys, next);
    if (band === bandOf(keys, next - 1)) throw damaged(storage, `band ${band + 1}`, 'two places', 'one');
  }
  return keys;
}

function bandOf(keys: Float64Array, at: number): number {
  return Math.floor((keys[at] ?? 0) / LIMITS.slots);
}

function damaged({ label: path }: Storage, field: string, found: string | number, expected: string): ImageError {
  return new ImageError('corrupt', 'The list of bands of the sparse image is damaged', {
    path,
    field,
    found,
    expected,
  });
}

/** See the head of this file. */
export class Bands {
  readonly nodes: readonly SparseNode[];
  readonly #keys: Float64Array;
  readonly #bandBytes: number;

  constructor(nodes: readonly SparseNode[], keys: Float64Array, bandBytes: number) {
    this.nodes = nodes;
    this.#keys = keys;
    this.#bandBytes = bandBytes;
  }

  /** The first stored band from `band` on, and its place in the file; null: none. */
  from(band: number): { readonly band: number; readonly fileOffset: number } | null {
    const key = this.#keys[this.#first(band * LIMITS.slots)];
    if (key === undefined) return null;
    const slot = key % LIMITS.slots;
    const node = this.nodes[Math.floor(slot / NODE_SLOTS)]?.fileOffset ?? 0;
    const fileOffset = node + NODE_BYTES + (slot % NODE_SLOTS) * this.#bandBytes;
    return { band: Math.floor(key / LIMITS.slots), fileOffset };
  }

  /** Number of keys below `least`. */
  #first(least: number): number {
    let [low, high] = [0, this.#keys.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#keys[middle] ?? 0) < least) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
