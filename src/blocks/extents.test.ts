import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { MemoryStorage } from '../storage/memory.ts';
import { type Extent, ExtentList } from './extents.ts';

async function fileOf(label: string, length: number, first: number): Promise<MemoryStorage> {
  const storage = new MemoryStorage(label);
  await storage.write(
    0,
    Uint8Array.from({ length }, (_, at) => first + (at % 97)),
  );
  return storage;
}

async function contentOf(list: ExtentList, from: number, length: number): Promise<number[]> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const mapping = list.map(from + at, length - at);
    expect(mapping.length).toBeGreaterThan(0);
    expect(mapping.length).toBeLessThanOrEqual(length - at);
    if (mapping.kind === 'data') {
      await mapping.storage.read(mapping.fileOffset, bytes.subarray(at, at + mapping.length));
    }
    at += mapping.length;
  }
  return [...bytes];
}

describe('ExtentList', () => {
  it('reads as its extents behind each other', async () => {
    const files = [await fileOf('/a', 300, 1), await fileOf('/b', 300, 101), null];
    const extent = fc.record({ file: fc.nat(2), length: fc.integer({ min: 1, max: 60 }), fileOffset: fc.nat(200) });
    const wanted = fc.tuple(fc.nat(2000), fc.integer({ min: 1, max: 100 }));
    await fc.assert(
      fc.asyncProperty(fc.array(extent, { minLength: 1, maxLength: 20 }), wanted, async (parts, [start, length]) => {
        const extents = parts.map(
          (one): Extent => ({ ...one, storage: files[one.file] ?? null, writable: one.file === 0 }),
        );
        const list = new ExtentList(extents);
        const model: number[] = [];
        for (const { storage, fileOffset, length: bytes } of extents) {
          const content = new Uint8Array(bytes);
          await storage?.read(fileOffset, content);
          model.push(...content);
        }
        expect(list.size).toBe(model.length);
        const from = start % list.size;
        const end = Math.min(from + length, list.size);
        expect(await contentOf(list, from, end - from)).toEqual(model.slice(from, end));
      }),
    );
  });

  it('joins extents that go on in the same file', async () => {
    const storage = await fileOf('/a', 100, 1);
    const part = (fileOffset: number, writable = true): Extent => ({ length: 10, storage, fileOffset, writable });
    const list = new ExtentList([part(20), part(30), part(40, false), part(60, false)]);
    expect(list.map(5, 1000)).toEqual({ kind: 'data', storage, fileOffset: 25, length: 15, writable: true });
    expect(list.map(20, 1000)).toMatchObject({ fileOffset: 40, length: 10, writable: false });
    expect(list.at(39)).toMatchObject({ index: 3, guestOffset: 30 });
    expect(list.storages()).toEqual([storage]);
  });

  it('tells which file is too short', async () => {
    const storage = await fileOf('/short', 15, 1);
    const list = new ExtentList([{ length: 10, storage, fileOffset: 10, writable: false }]);
    expect(list.map(0, 10)).toMatchObject({ kind: 'data', length: 5 });
    await expectKind(() => list.map(5, 1), 'corrupt');
    expect(() => list.map(5, 1)).toThrow(
      expect.objectContaining({ context: expect.objectContaining({ path: '/short' }) }),
    );
  });
});
