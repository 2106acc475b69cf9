import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import type { MetaWrite } from '../image/contract.ts';
import type { Storage } from '../storage/contract.ts';
import { MemoryStorage } from '../storage/memory.ts';
import { PageCache } from './metadata-pages.ts';
import {
  type EntryForm,
  EntryTable,
  scanEntries,
  U32_BIG,
  U32_LITTLE,
  U64_BIG,
  U64_LITTLE,
  writeEntries,
} from './table.ts';

const FORMS: readonly (readonly [string, EntryForm, number[]])[] = [
  ['U32_LITTLE', U32_LITTLE, [0x04, 0x03, 0x02, 0x01]],
  ['U32_BIG', U32_BIG, [0x01, 0x02, 0x03, 0x04]],
  ['U64_LITTLE', U64_LITTLE, [0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0]],
  ['U64_BIG', U64_BIG, [0, 0, 0, 0, 0x01, 0x02, 0x03, 0x04]],
];
const form = fc.constantFrom(...FORMS.map(([, one]) => one));

async function filled(length: number): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  await storage.write(0, new Uint8Array(length).fill(0xee));
  return storage;
}

async function write(storage: Storage, writes: readonly MetaWrite[]): Promise<void> {
  for (const one of writes) await storage.write(one.fileOffset, one.bytes);
}

async function allOf(table: EntryTable): Promise<number[]> {
  const found: number[] = [];
  await table.scan((value, index) => {
    found[index] = value;
  });
  return found;
}

describe('EntryForm', () => {
  for (const [name, one, bytes] of FORMS) {
    it(`${name} stores bytes in its order`, () => {
      const view = new DataView(new ArrayBuffer(8));
      one.put(view, 0, 0x0102_0304);
      expect([...new Uint8Array(view.buffer, 0, one.bytes)]).toEqual(bytes);
      expect(one.get(view, 0)).toBe(0x0102_0304);
    });
  }

  it('gives back every number that a file offset can be', () => {
    fc.assert(
      fc.property(fc.constantFrom(U64_LITTLE, U64_BIG), fc.maxSafeNat(), (one, value) => {
        const view = new DataView(new ArrayBuffer(8));
        one.put(view, 0, value);
        expect(one.get(view, 0)).toBe(value);
      }),
    );
  });
});

describe('EntryTable', () => {
  it('agrees with an array, in memory and after each flush on the medium, and leaves its neighbours alone', async () => {
    const change = fc.record({ index: fc.nat(299), value: fc.nat(0xffff_ffff), flush: fc.boolean() });
    const place = fc.record({ form, before: fc.nat(200), unit: fc.constantFrom(512, 4096) });
    await fc.assert(
      fc.asyncProperty(place, fc.array(change, { maxLength: 40 }), async ({ form, before, unit }, changes) => {
        const storage = await filled(before * 8 + 8192);
        const [fileOffset, count] = [before * 8, 300];
        await writeEntries({ storage, fileOffset, form }, { start: 0, end: count }, () => 7);
        // Two pages at a time: the buffers of dropped ones serve those that follow.
        const cache = new PageCache(unit);
        const table = new EntryTable({ storage, fileOffset, count, form, unit, pageBytes: unit, cache });
        const model = new Array<number>(count).fill(7);
        for (const { index, value, flush } of changes) {
          if (table.get(index) === undefined) await table.load(index);
          expect(table.get(index)).toBe(model[index]);
          table.set(index, value);
          model[index] = value;
          if (!flush) continue;
          await write(storage, table.seal());
          table.settle();
          expect(table.dirtyBytes).toBe(0);
          expect(await allOf(table)).toEqual(model);
        }
        await write(storage, table.seal());
        expect(await allOf(table)).toEqual(model);
        const bytes = new Uint8Array(storage.size);
        await storage.read(0, bytes);
        expect(bytes.subarray(0, fileOffset).every((byte) => byte === 0xee)).toBe(true);
        expect(bytes.subarray(fileOffset + count * form.bytes).every((byte) => byte === 0xee)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  it('passes over stored zeroes, to the end of the page or of the table', async () => {
    const storage = await filled(16_384);
    const table = new EntryTable({ storage, fileOffset: 512, count: 500, form: U32_LITTLE, pageBytes: 1024 });
    await writeEntries({ storage, fileOffset: 512, form: U32_LITTLE }, { start: 0, end: 500 }, (index) =>
      index === 3 || index === 200 ? 7 : 0,
    );
    expect(table.sameUntil(0)).toBe(1);
    await table.load(0);
    expect([0, 2, 3, 4, 201].map((index) => table.sameUntil(index))).toEqual([3, 3, 4, 200, 256]);
    await table.load(256);
    expect(table.sameUntil(256)).toBe(500);
    table.set(300, 1);
    expect(table.sameUntil(256)).toBe(300);
  });

  it('says how many entries share a page', async () => {
    const storage = await filled(16_384);
    const table = new EntryTable({ storage, fileOffset: 520, count: 1000, form: U32_BIG, pageBytes: 1024 });
    // The page begins at 512: two entries' room stands before the table.
    expect(table.pageRest(0)).toBe(254);
    expect(table.pageRest(253)).toBe(1);
    expect(table.pageRest(254)).toBe(256);
    expect(table.pageRest(999)).toBe(1);
  });
});

describe('scanEntries', () => {
  it('reads zeroes behind the end of the file', async () => {
    const storage = await filled(6);
    const found: number[] = [];
    await scanEntries({ storage, fileOffset: 4, count: 3, form: U32_BIG }, (value) => found.push(value));
    expect(found).toEqual([0xeeee_0000, 0, 0]);
  });

  it('passes over stored zeroes on request, and over nothing else', async () => {
    const count = 300_000;
    const stored = new Map([
      [0, 5],
      [1, 6],
      [131_071, 7],
      [131_072, 0x1_0000],
      [count - 1, 9],
    ]);
    const storage = new MemoryStorage();
    await storage.resize(count * 8);
    for (const [index, value] of stored) {
      const bytes = new Uint8Array(8);
      U64_LITTLE.put(new DataView(bytes.buffer), 0, value);
      await storage.write(index * 8, bytes);
    }
    // A form that leaves out bits: the entry is not stored as zeroes.
    const low: EntryForm = { ...U64_LITTLE, get: (view, at) => U64_LITTLE.get(view, at) % 0x1_0000 };
    const found = new Map<number, number>();
    const place = { storage, fileOffset: 0, count, form: low };
    await scanEntries(place, (value, index) => found.set(index, value), { skipsZero: true });
    expect(found).toEqual(new Map([...stored].map(([index, value]) => [index, value % 0x1_0000])));
  });

  it('stops when it is cancelled', async () => {
    const storage = await filled(8);
    const signal = AbortSignal.abort();
    await expectKind(
      () => scanEntries({ storage, fileOffset: 0, count: 2, form: U32_BIG }, () => {}, { signal }),
      'aborted',
    );
  });
});

describe('writeEntries', () => {
  it('writes a part of a table in whole sectors that keep the rest', async () => {
    const storage = await filled(4096);
    const offset = 100;
    await writeEntries({ storage, fileOffset: offset, form: U64_BIG }, { start: 60, end: 130 }, async (index) => index);
    const bytes = new Uint8Array(4096);
    await storage.read(0, bytes);
    const view = new DataView(bytes.buffer);
    expect(Number(view.getBigUint64(offset + 60 * 8))).toBe(60);
    expect(Number(view.getBigUint64(offset + 129 * 8))).toBe(129);
    expect(bytes.subarray(0, offset + 60 * 8).every((byte) => byte === 0xee)).toBe(true);
    expect(bytes.subarray(offset + 130 * 8).every((byte) => byte === 0xee)).toBe(true);
  });
});
