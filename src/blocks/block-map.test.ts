import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { MemoryStorage } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { type BlockEntries, type BlockLayout, BlockMap, scanMap } from './block-map.ts';
import { ChangeGuard } from './guarded.ts';
import { EntryTable, U32_BIG } from './table.ts';

const BLOCK = 1024;
const BLOCKS = 40;
const DATA = 1024;

/** Numbers of slots, with a marker for zero, as VDI has them. */
function numbered(layout: BlockLayout): BlockEntries {
  const slotBytes = layout.leadBytes + BLOCK;
  return {
    kindOf: (entry) => (entry === 0xffff_ffff ? 'absent' : entry === 0xffff_fffe ? 'zero' : 'data'),
    slotOffset: (entry) => layout.dataOffset + entry * slotBytes,
    entryAt: (fileOffset) => (fileOffset - layout.dataOffset) / slotBytes,
    zero: 0xffff_fffe,
    absent: 0xffff_ffff,
  };
}

/** Sectors of the file, without a marker for zero, as VHD has them. */
const SECTORS: BlockEntries = {
  kindOf: (entry) => (entry === 0 ? 'absent' : 'data'),
  slotOffset: (entry) => entry * 512,
  entryAt: (fileOffset) => fileOffset / 512,
  zero: null,
  absent: 0,
};

interface Toy {
  readonly storage: MemoryStorage;
  readonly entries: BlockEntries;
  readonly layout: BlockLayout;
  readonly appendOnly: boolean;
}

async function toy(how: { leadBytes: number; sectors: boolean; appendOnly?: boolean }): Promise<Toy> {
  // The last block is cut by the end of the disk.
  const layout = { virtualSize: BLOCKS * BLOCK - 512, blockSize: BLOCK, dataOffset: DATA, leadBytes: how.leadBytes };
  const entries = how.sectors ? SECTORS : numbered(layout);
  const storage = new MemoryStorage('/toy');
  const table = new DataView(new ArrayBuffer(DATA));
  for (let n = 0; n < BLOCKS; n++) table.setUint32(n * 4, entries.absent);
  await storage.write(0, new Uint8Array(table.buffer));
  return { storage, entries, layout, appendOnly: how.appendOnly ?? false };
}

async function open({ storage, entries, layout, appendOnly }: Toy, write = true) {
  const table = new EntryTable({ storage, fileOffset: 0, count: BLOCKS, form: U32_BIG });
  const guard = new ChangeGuard('/toy');
  const parts = { storage, table, entries, layout, guard, tableOffset: 0 };
  const { allocator, obstacle } = await scanMap(parts, { appendOnly });
  return { map: new BlockMap({ ...parts, allocator: write ? allocator : null }), obstacle, guard };
}

async function flush(map: BlockMap): Promise<void> {
  for (const { storage, fileOffset, bytes } of map.seal()) await storage.write(fileOffset, bytes);
  map.settle(true);
}

/** Writes blocks, the first with that byte, the next with the one after it. */
async function put(map: BlockMap, block: number, byte: number, count = 1): Promise<void> {
  for (let next = block; next < block + count; ) {
    const mapping = await map.map(next * BLOCK, (block + count - next) * BLOCK);
    const isData = mapping.kind === 'data';
    const room = isData ? mapping : await map.prepareWrite(next * BLOCK, mapping.length);
    if (!isData) expect(room).toMatchObject({ guestOffset: next * BLOCK });
    const blocks = Math.ceil(room.length / BLOCK);
    for (let n = 0; n < blocks; n++) {
      const bytes = new Uint8Array(BLOCK).fill(byte + next + n - block);
      await room.storage.write(room.fileOffset + n * BLOCK, bytes);
    }
    if ('commit' in room) room.commit();
    next += blocks;
  }
}

/** The byte of each block; null: absent. */
async function contentOf(map: BlockMap, size: number): Promise<(number | null)[]> {
  const found: (number | null)[] = [];
  for (let at = 0; at < size; ) {
    const mapping = await map.map(at, size - at);
    expect(mapping.length).toBeGreaterThan(0);
    const bytes = new Uint8Array(mapping.length);
    if (mapping.kind === 'data') await mapping.storage.read(mapping.fileOffset, bytes);
    for (let n = 0; n < mapping.length; n += BLOCK) found.push(mapping.kind === 'absent' ? null : (bytes[n] ?? 0));
    at += mapping.length;
  }
  return found;
}

const SHAPES = [
  { leadBytes: 0, sectors: false },
  { leadBytes: 512, sectors: false },
  { leadBytes: 0, sectors: true },
  { leadBytes: 512, sectors: true, appendOnly: true },
];

describe('BlockMap', () => {
  for (const shape of SHAPES) {
    it(`agrees with an array of blocks, also when it is opened again: ${JSON.stringify(shape)}`, async () => {
      const random = new Random(7);
      for (let round = 0; round < 4; round++) {
        const image = await toy(shape);
        const model = new Array<number | null>(BLOCKS).fill(null);
        let { map } = await open(image);
        for (let step = 0; step < 120; step++) {
          const block = random.below(BLOCKS);
          const byte = 1 + random.below(250);
          const action = random.below(8);
          if (action < 4) {
            const count = Math.min(1 + random.below(5), BLOCKS - block);
            await put(map, block, byte, count);
            for (let n = 0; n < count; n++) model[block + n] = byte + n;
          } else if (action < 6) {
            const to = image.entries.zero === null || random.below(2) === 0 ? 'absent' : 'zero';
            const count = Math.min(1 + random.below(4), BLOCKS - block);
            await map.unmap(block * BLOCK, count * BLOCK, to);
            model.fill(to === 'zero' ? 0 : null, block, block + count);
          } else if (action === 6) {
            await flush(map);
          } else {
            await flush(map);
            ({ map } = await open(image));
          }
        }
        expect(await contentOf(map, image.layout.virtualSize)).toEqual(model);
        await flush(map);
        const again = await open(image, false);
        expect(await contentOf(again.map, image.layout.virtualSize)).toEqual(model);
      }
    });
  }

  it('gives neighbours as one run, and as many as there are with bytes between them', async () => {
    for (const [leadBytes, length] of [
      [0, 4 * BLOCK - 100],
      [512, BLOCK - 100],
    ] as const) {
      const { map } = await open(await toy({ leadBytes, sectors: false }));
      for (const block of [3, 4, 5, 6]) await put(map, block, block);
      const mapping = await map.map(3 * BLOCK + 100, 30 * BLOCK);
      expect(mapping).toMatchObject({ kind: 'data', length, writable: true, fileOffset: DATA + leadBytes + 100 });
      expect(await map.map(7 * BLOCK, 1e9)).toMatchObject({ kind: 'absent', length: 33 * BLOCK - 512 });
    }
  });

  it('hands out several blocks in one slot, and takes them back', async () => {
    const { map } = await open(await toy({ leadBytes: 0, sectors: true }));
    const slot = await map.prepareWrite(2 * BLOCK + 10, 3 * BLOCK);
    expect(slot).toMatchObject({ guestOffset: 2 * BLOCK, length: 4 * BLOCK, readsZero: true });
    slot.abort();
    const again = await map.prepareWrite(0, BLOCK);
    expect(again).toMatchObject({ fileOffset: DATA, readsZero: false });
    again.commit();
    expect(() => again.commit()).toThrow('a slot ends once');
  });

  it('uses the slot of a block that was given up only after a flush', async () => {
    const { map } = await open(await toy({ leadBytes: 0, sectors: true }));
    await put(map, 0, 1);
    await put(map, 1, 2);
    await flush(map);
    await map.unmap(0, BLOCK, 'absent');
    await put(map, 2, 3);
    expect(await map.map(2 * BLOCK, 1)).toMatchObject({ fileOffset: DATA + 2 * BLOCK });
    await flush(map);
    expect(map.reclaimable).toBe(BLOCK);
    await put(map, 3, 4);
    expect(await map.map(3 * BLOCK, 1)).toMatchObject({ fileOffset: DATA });
    expect(map.reclaimable).toBe(0);
  });

  it('moves blocks down and cuts the end off', async () => {
    const image = await toy({ leadBytes: 512, sectors: false });
    const { map } = await open(image);
    for (let block = 0; block < 6; block++) await put(map, block, block + 1);
    await flush(map);
    await map.unmap(0, 3 * BLOCK, 'zero');
    await flush(map);
    const moved: number[] = [];
    for await (const guestOffset of map.movable()) {
      moved.push(guestOffset / BLOCK);
      const from = await map.map(guestOffset, BLOCK);
      const slot = await map.relocate(guestOffset);
      if (from.kind !== 'data' || slot === null) throw new Error('there is room below');
      const bytes = new Uint8Array(BLOCK);
      await from.storage.read(from.fileOffset, bytes);
      await slot.storage.write(slot.fileOffset, bytes);
      slot.commit();
    }
    expect(moved).toEqual([3, 4, 5]);
    await flush(map);
    expect(map.trim()).toEqual({ slots: 3, fileEnd: DATA + 3 * (BLOCK + 512) });
    expect((await contentOf(map, image.layout.virtualSize)).slice(0, 7)).toEqual([0, 0, 0, 4, 5, 6, null]);
    expect(await map.relocate(3 * BLOCK)).toBeNull();
    const slots: number[] = [];
    for await (const { guestOffset, fileOffset } of map.blocks()) slots.push(guestOffset / BLOCK, fileOffset);
    expect(slots).toEqual([3, DATA, 4, DATA + BLOCK + 512, 5, DATA + 2 * (BLOCK + 512)]);
  });

  it('refuses changes of an image that is only read, or that failed', async () => {
    const image = await toy({ leadBytes: 0, sectors: true });
    const reader = await open(image, false);
    await expectKind(async () => reader.map.prepareWrite(0, BLOCK), 'read-only');
    const { map, guard } = await open(image);
    await put(map, 0, 1);
    guard.fail();
    await expectKind(async () => map.unmap(0, BLOCK, 'absent'), 'io');
    expect(await map.map(0, BLOCK)).toMatchObject({ kind: 'data', writable: false });
  });

  it('tells that the file was cut off', async () => {
    const image = await toy({ leadBytes: 0, sectors: true });
    const { map } = await open(image);
    for (const block of [0, 1]) await put(map, block, 7);
    await flush(map);
    await image.storage.resize(DATA + BLOCK + 100);
    const { map: cut } = await open(image, false);
    expect(await cut.map(0, 2 * BLOCK)).toMatchObject({ kind: 'data', length: BLOCK + 100 });
    await expectKind(async () => cut.map(BLOCK + 100, 1), 'corrupt');
  });
});

describe('scanMap', () => {
  it.each([
    ['behind the end of the file', [1000], 'beyond the end of the file'],
    ['at the same block twice', [2, 2], 'another entry uses too'],
    ['between two blocks', [3], 'where no block can be'],
    ['before the first block', [1], 'where no block can be'],
  ])('finds entries that point %s', async (_what, values, words) => {
    const image = await toy({ leadBytes: 0, sectors: true });
    await image.storage.write(DATA, new Uint8Array(3 * BLOCK));
    const bytes = new DataView(new ArrayBuffer(values.length * 4));
    for (const [n, value] of values.entries()) bytes.setUint32(n * 4, value);
    await image.storage.write(0, new Uint8Array(bytes.buffer));
    const { obstacle } = await open(image);
    expect(obstacle).toContain(words);
  });
});
