/** Apple's sparse images for the test suites. No program makes them here, so they are put together by hand. */
import { SECTOR } from '../../src/binary/numbers.ts';
import { ENTRY_BYTES, HEADER, INDEX, MAGIC, NODE_BYTES, VERSION } from '../../src/formats/sparseimage/layout.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import type { Anatomy, HostileKit, Sample, TablePlace } from '../hostile/descriptor.ts';
import type { FormatKit } from './kit.ts';

/** An image to put together. */
interface Recipe {
  readonly band: number;
  readonly size: number;
  /** Numbers of bands in the order of the file, a list for each node; null: a free entry. */
  readonly nodes: readonly (readonly (number | null)[])[];
  /** Only the older field has the number of sectors. */
  readonly old?: boolean;
}

const FLAGS = 1;

function nodeOffset({ nodes, band }: Recipe, index: number): number {
  return nodes.slice(0, index).reduce((at, { length }) => at + NODE_BYTES + length * band, 0);
}

function entriesAt(recipe: Recipe, index: number): number {
  return nodeOffset(recipe, index) + (index === 0 ? HEADER.size : INDEX.size);
}

function build(recipe: Recipe): { readonly bytes: Uint8Array; readonly content: Uint8Array } {
  const { band, size, nodes } = recipe;
  const bytes = new Uint8Array(nodeOffset(recipe, nodes.length));
  const content = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (const [index, list] of nodes.entries()) {
    const at = nodeOffset(recipe, index);
    const nextNode = index + 1 < nodes.length ? nodeOffset(recipe, index + 1) : 0;
    bytes.set(index === 0 ? header(recipe, nextNode) : indexNode(index - 1, nextNode), at);
    for (const [slot, number] of list.entries()) {
      const data = randomBytes(new Random(1000 * index + slot + 1), band);
      bytes.set(data, at + NODE_BYTES + slot * band);
      if (number === null) continue;
      view.setUint32(entriesAt(recipe, index) + slot * ENTRY_BYTES, number + 1);
      content.set(data.subarray(0, Math.min(band, size - number * band)), number * band);
    }
  }
  return { bytes, content };
}

function header({ band, size, old = false }: Recipe, nextNode: number): Uint8Array {
  const sectors = size / SECTOR;
  return HEADER.encode({
    magic: MAGIC,
    version: VERSION,
    bandSectors: band / SECTOR,
    flags: FLAGS,
    sectorsLow: sectors % 2 ** 32,
    nextNode,
    sectors: old ? 0 : sectors,
    reserved: new Uint8Array(HEADER.fields.reserved.size),
  });
}

function indexNode(number: number, nextNode: number): Uint8Array {
  const reserved = new Uint8Array(INDEX.fields.reserved.size);
  return INDEX.encode({ magic: MAGIC, number, flags: FLAGS, nextNode, reserved });
}

function anatomyOf(recipe: Recipe, length: number): Anatomy {
  const { nodes, size, band } = recipe;
  const stored = nodes.flat();
  const tables = nodes.map((list, index): TablePlace => {
    return {
      name: `bands of node ${index}`,
      offset: entriesAt(recipe, index),
      count: list.length,
      entryBytes: ENTRY_BYTES,
      littleEndian: false,
      values: [0, 1, Math.ceil(size / band), Math.ceil(size / band) + 1].map(BigInt),
      // An entry with another number adds a band that was not stored.
      guestRange: () => [0, size],
    };
  });
  const structs = nodes.map((_, index) => {
    const offset = nodeOffset(recipe, index);
    return index === 0
      ? {
          name: 'header',
          table: HEADER,
          offset,
          littleEndian: false,
          // The magic makes it a raw disk; the others decide which bands there are.
          effects: {
            magic: 'free' as const,
            flags: 'exact' as const,
            reserved: 'exact' as const,
            bandSectors: 'free' as const,
            sectorsLow: 'prefix' as const,
            sectors: 'prefix' as const,
            nextNode: 'free' as const,
          },
        }
      : {
          name: `index ${index}`,
          table: INDEX,
          offset,
          littleEndian: false,
          effects: {
            number: 'exact' as const,
            flags: 'exact' as const,
            reserved: 'exact' as const,
            nextNode: 'free' as const,
          },
        };
  });
  const bands = stored.map((_, slot) => NODE_BYTES + slot * band);
  return { structs, tables: tables.filter(({ count }) => count > 0), edges: [NODE_BYTES, ...bands, length] };
}

function sample(name: string, recipe: Recipe): Sample {
  const { bytes, content } = build(recipe);
  return {
    name,
    format: 'sparseimage',
    bytes,
    beside: [],
    anatomy: anatomyOf(recipe, bytes.length),
    virtualSize: recipe.size,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

const BAND = 4096;

const hostile: HostileKit = {
  async samples() {
    return [
      sample('one node', { band: BAND, size: 12 * BAND - 3 * SECTOR, nodes: [[7, 11, 0, 3, 4]] }),
      sample('all bands stored', { band: BAND, size: 4 * BAND, nodes: [[0, 3, 1, 2]] }),
      sample('free entries', { band: SECTOR, size: 20 * SECTOR, nodes: [[null, 5, null, 19, 4]] }),
      sample('three nodes', { band: SECTOR, size: 40 * SECTOR, nodes: [[9, 1], [39, 2, null, 3], [0]] }),
      sample('nothing stored', { band: BAND, size: 9 * BAND, nodes: [[]] }),
      sample('the older size only', { band: 3 * SECTOR, size: 10 * SECTOR, nodes: [[3, 0]], old: true }),
    ];
  },
  damagedEvery: 4,
  files: 260,
  hollow: () => {
    const bytes = header({ band: SECTOR, size: 2 ** 38, nodes: [] }, 0);
    const image = { name: 'a disk of 256 GiB, nothing stored', size: NODE_BYTES, pieces: [{ offset: 0, bytes }] };
    return [{ name: image.name, image, beside: [], content: null, differencing: false }];
  },
};

export const kit: FormatKit = {
  format: 'sparseimage',
  golden: { without: 'no program makes them here', cases: 'sparseimage' },
  hostile,
};
