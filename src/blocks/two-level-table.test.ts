import { expect, it } from 'vitest';
import type { MetaWrite } from '../image/contract.ts';
import { MemoryStorage } from '../storage/memory.ts';
import type { EntryForm } from './table.ts';
import { BROKEN_TABLE, type TableDirectory, TwoLevelTable } from './two-level-table.ts';

/** Sector numbers of 32 bits, as bytes. */
const SECTORS: EntryForm = {
  bytes: 4,
  get: (view, at) => view.getUint32(at, true) * 512,
  put: (view, at, value) => view.setUint32(at, value / 512, true),
};
const TABLE = 1024;
const PER_TABLE = TABLE / 4;

/** Directory at 512, its copy at 1024; tables 0 and 1 are neighbours, 2 is absent, 3 lies elsewhere, 4 is broken. */
async function example(copied = false) {
  const storage = new MemoryStorage();
  const places = [4096, 4096 + TABLE, 0, 16_384, BROKEN_TABLE];
  for (const [table, place] of places.entries()) {
    if (place <= 0) continue;
    const bytes = new Uint8Array(TABLE);
    new DataView(bytes.buffer).setUint32(4 * (table + 1), 1000 + table, true);
    await storage.write(place, bytes);
  }
  const directory: TableDirectory = { fileOffset: 512, form: SECTORS, places: Float64Array.from(places) };
  const second = Float64Array.from([32_768, 40_960, 0, 49_152, 0]);
  const copy: TableDirectory = { fileOffset: 1024, form: SECTORS, places: second };
  const table = new TwoLevelTable({
    storage,
    directory,
    copy: copied ? copy : undefined,
    form: SECTORS,
    tableBytes: TABLE,
    count: 5 * PER_TABLE - 7,
  });
  await table.load(0);
  return { storage, directory, copy, table };
}

const apply = async (writes: readonly MetaWrite[]): Promise<void> => {
  for (const { storage, fileOffset, bytes } of writes) await storage.write(fileOffset, bytes);
};

it('reads the entries of all tables, 0 where there is none, all ones where none can be', async () => {
  const { table } = await example();
  expect(table.get(1)).toBe(1000 * 512);
  expect(table.get(PER_TABLE + 2)).toBe(1001 * 512);
  expect(table.get(2 * PER_TABLE + 3)).toBe(0);
  expect(table.get(3 * PER_TABLE + 4)).toBe(1003 * 512);
  expect(table.get(4 * PER_TABLE)).toBe(0xffff_ffff * 512);
});

it('looks at no directory entry behind the range asked for', async () => {
  const { storage } = await example();
  const looked = new Set<string>();
  const places = new Proxy(new Float64Array(1000), {
    get: (entries, name) => {
      if (typeof name === 'string') looked.add(name);
      return Reflect.get(entries, name, entries);
    },
  });
  const directory: TableDirectory = { fileOffset: 512, form: SECTORS, places };
  const table = new TwoLevelTable({ storage, directory, form: SECTORS, tableBytes: TABLE, count: 1000 * PER_TABLE });
  looked.clear();
  expect(table.sameUntil(3, 2 * PER_TABLE)).toBe(2 * PER_TABLE);
  expect([...looked].sort()).toEqual(['0', '1']);
  expect(table.sameUntil(3)).toBe(1000 * PER_TABLE);
});

it('passes over tables that do not exist, and over stored zeroes', async () => {
  const { table } = await example();
  expect(table.sameUntil(PER_TABLE)).toBe(PER_TABLE + 2);
  expect(table.sameUntil(PER_TABLE + 2)).toBe(PER_TABLE + 3);
  expect(table.sameUntil(2 * PER_TABLE + 5)).toBe(3 * PER_TABLE);
  const seen: number[] = [];
  await table.scan((value, index) => {
    if (value !== 0) seen.push(index);
  });
  expect(seen).toEqual([1, PER_TABLE + 2, 3 * PER_TABLE + 4]);
});

it('does not pass over a table that gets its place with the next flush', async () => {
  const { table } = await example();
  await table.load(2 * PER_TABLE);
  table.set(2 * PER_TABLE + 9, 78 * 512);
  expect(table.sameUntil(2 * PER_TABLE + 5)).toBeLessThanOrEqual(2 * PER_TABLE + 9);
  table.sealTables(() => ({ table: 65_536, copy: 0 }));
  expect(table.sameUntil(2 * PER_TABLE + 5)).toBeLessThanOrEqual(2 * PER_TABLE + 9);
});

it('stages new tables whole, then publishes entries of old ones and of the directory', async () => {
  const { storage, directory, table } = await example();
  table.set(0, 77 * 512);
  table.set(2 * PER_TABLE + 9, 78 * 512);
  const { stage, publish, copy } = table.sealTables(() => ({ table: 65_536, copy: 0 }));
  expect(stage.map(({ fileOffset, bytes }) => [fileOffset, bytes.length])).toEqual([[65_536, TABLE]]);
  expect(publish.map(({ fileOffset }) => fileOffset)).toEqual([4096, 512]);
  expect(copy).toEqual([]);
  expect(directory.places[2]).toBe(65_536);
  await apply([...stage, ...publish]);
  table.settle();
  const written = new Uint8Array(4);
  await storage.read(512 + 8, written);
  expect([...written]).toEqual([128, 0, 0, 0]);
  await storage.read(65_536 + 36, written);
  expect([...written]).toEqual([78, 0, 0, 0]);
  expect(table.get(2 * PER_TABLE + 9)).toBe(78 * 512);
});

it('keeps the second copy in step', async () => {
  const { storage, table } = await example(true);
  table.set(0, 77 * 512);
  table.set(2 * PER_TABLE, 78 * 512);
  const { stage, publish, copy } = table.sealTables(() => ({ table: 65_536, copy: 81_920 }));
  expect(stage.map(({ fileOffset }) => fileOffset)).toEqual([65_536, 81_920]);
  expect(publish.map(({ fileOffset }) => fileOffset)).toEqual([4096, 512]);
  expect(copy.map(({ fileOffset }) => fileOffset)).toEqual([32_768, 1024]);
  await apply([...stage, ...publish, ...copy]);
  const [one, two] = [new Uint8Array(TABLE), new Uint8Array(TABLE)];
  await storage.read(65_536, one);
  await storage.read(81_920, two);
  expect(two).toEqual(one);
});

it('reads a new table as empty until it is on the medium, whatever lies at its place', async () => {
  const { storage, directory, table } = await example();
  const many = 16_384 * 2;
  const wide = new TwoLevelTable({
    storage,
    directory: { ...directory, places: new Float64Array(2) },
    form: SECTORS,
    tableBytes: many,
    count: (2 * many) / 4,
  });
  await storage.write(65_536, new Uint8Array(many).fill(7));
  await wide.load(3);
  wide.set(3, 512);
  const { stage } = wide.sealTables(() => ({ table: 65_536, copy: 0 }));
  await wide.load(many / 4 - 1);
  expect(wide.get(many / 4 - 1)).toBe(0);
  await apply(stage);
  wide.settle();
  expect(wide.get(many / 4 - 1)).toBe(0);
  expect(table.get(1)).toBe(1000 * 512);
});

it('writes of a new table behind the end of the file only what it holds, and its end', async () => {
  const { storage, directory } = await example();
  const tableBytes = 4 * 1024 * 1024;
  const wide = new TwoLevelTable({
    storage,
    directory: { ...directory, places: new Float64Array(2) },
    form: SECTORS,
    tableBytes,
    count: (2 * tableBytes) / 4,
  });
  const entry = 3 * 1024 * 256 + 5;
  await wide.load(entry);
  wide.set(entry, 9 * 512);
  const { stage } = wide.sealTables(() => ({ table: 65_536, copy: 0, fresh: true }));
  expect(stage.reduce((sum, { bytes }) => sum + bytes.length, 0)).toBeLessThan(10_000);
  await apply(stage);
  wide.settle();
  expect(storage.size).toBe(65_536 + tableBytes);
  const written = new Uint8Array(4);
  await storage.read(65_536 + entry * 4, written);
  expect([...written]).toEqual([9, 0, 0, 0]);
});
