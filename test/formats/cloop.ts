/** cloop images for the test suites, put together by hand. */
import { zlibSync } from 'fflate';
import { ENTRY_BYTES, HEADER, HEADER_OFFSET, PREAMBLE, TABLE_OFFSET } from '../../src/formats/cloop/layout.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import type { HostileKit, Sample } from '../hostile/descriptor.ts';
import type { FormatKit } from './kit.ts';

/** An image to put together. */
interface Recipe {
  readonly blockSize: number;
  readonly blocks: number;
  /** Bytes behind the last block. */
  readonly padding?: number;
  /** zlib's level; 0: stored. */
  readonly level?: number;
}

function head({ blockSize, blocks }: Recipe): Uint8Array {
  const bytes = new Uint8Array(TABLE_OFFSET);
  bytes.set(new TextEncoder().encode(PREAMBLE));
  bytes.set(HEADER.encode({ blockSize, blockCount: blocks }), HEADER_OFFSET);
  return bytes;
}

function contentOf({ blockSize, blocks }: Recipe): Uint8Array {
  const content = new Uint8Array(blockSize * blocks);
  for (let block = 0; block < blocks; block++) {
    const bytes = block % 3 === 1 ? new Uint8Array(blockSize).fill(block) : randomBytes(new Random(block), blockSize);
    if (block % 4 !== 3) content.set(bytes, block * blockSize);
  }
  return content;
}

function sample(name: string, recipe: Recipe): Sample {
  const { blockSize, blocks, padding = 0, level = 9 } = recipe;
  const content = contentOf(recipe);
  const parts: Uint8Array[] = [head(recipe), new Uint8Array((blocks + 1) * ENTRY_BYTES)];
  const table = new DataView(parts[1]?.buffer as ArrayBuffer);
  let end = TABLE_OFFSET + (blocks + 1) * ENTRY_BYTES;
  const edges = [end];
  for (let block = 0; block < blocks; block++) {
    table.setBigUint64(block * ENTRY_BYTES, BigInt(end));
    const stored = zlibSync(content.subarray(block * blockSize, (block + 1) * blockSize), { level: level as 9 });
    parts.push(stored);
    end += stored.length;
    edges.push(end);
  }
  table.setBigUint64(blocks * ENTRY_BYTES, BigInt(end));
  const bytes = joined([...parts, new Uint8Array(padding)]);
  return {
    name,
    format: 'cloop',
    bytes,
    beside: [],
    anatomy: {
      structs: [
        {
          name: 'header',
          table: HEADER,
          offset: HEADER_OFFSET,
          littleEndian: false,
          // With another size of a block the same bytes are another disk.
          effects: { blockSize: 'free', blockCount: 'free' },
        },
      ],
      tables: [
        {
          name: 'offsets',
          offset: TABLE_OFFSET,
          count: blocks + 1,
          entryBytes: ENTRY_BYTES,
          littleEndian: false,
          values: edges.map(BigInt),
          // The block that begins there, and the one that ends there.
          guestRange: (index) => [Math.max(index - 1, 0) * blockSize, Math.min(index + 1, blocks) * blockSize],
        },
      ],
      edges,
    },
    virtualSize: content.length,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

const hostile: HostileKit = {
  async samples() {
    return [
      sample('blocks of 4 KiB', { blockSize: 4096, blocks: 11 }),
      sample('blocks of a sector, stored', { blockSize: 512, blocks: 20, level: 0 }),
      sample('blocks of 64 KiB with padding', { blockSize: 65_536, blocks: 3, padding: 2048 }),
      sample('one block', { blockSize: 1024, blocks: 1 }),
    ];
  },
  damagedEvery: 4,
  damagedFlips: 60,
  hollow: () => {
    const blocks = 2 ** 20;
    const recipe = { blockSize: 512, blocks };
    const size = TABLE_OFFSET + ENTRY_BYTES * (blocks + 1) + 4096;
    const image = { name: 'a table of 8 MiB of zeroes', size, pieces: [{ offset: 0, bytes: head(recipe) }] };
    return [{ name: image.name, image, beside: [], content: null, differencing: false }];
  },
};

export const kit: FormatKit = {
  format: 'cloop',
  golden: { without: 'no program makes them here', cases: 'cloop' },
  hostile,
  peers: async () => {
    const { qemu } = await import('../peers/qemu.ts');
    return [qemu({ format: 'cloop', readOnly: true, checks: false, mapless: true, cannot: () => null })];
  },
};

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
