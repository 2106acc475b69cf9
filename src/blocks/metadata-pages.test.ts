import { describe, expect, it, vi } from 'vitest';
import { MemoryStorage } from '../storage/memory.ts';
import { type MetadataPage, MetadataPages, PageCache } from './metadata-pages.ts';

const PAGE = 4096;
/** Memory cost of a page, overhead included. */
const COST = PAGE + 512;

async function filled(pages: number): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  const bytes = new Uint8Array(pages * PAGE).map((_, at) => Math.floor(at / PAGE) + 1);
  await storage.write(0, bytes);
  return storage;
}

function change(pages: MetadataPages, page: MetadataPage, at: number): void {
  page.view.setUint8(at, 0xff);
  pages.touch(page, at, at + 1);
}

describe('MetadataPages', () => {
  it.each([512, 4096])('writes what changed in units of %i bytes', async (unit) => {
    const storage = await filled(2);
    const pages = new MetadataPages({ storage, fileOffset: 0, length: 2 * PAGE, pageBytes: PAGE, unit });
    const page = await pages.get(1);
    change(pages, page, 1000);
    expect(pages.dirtyBytes).toBe(unit);
    const [write, ...others] = pages.seal();
    expect(others).toEqual([]);
    expect(write?.fileOffset).toBe(PAGE + Math.floor(1000 / unit) * unit);
    expect(write?.bytes.length).toBe(unit);
    expect(pages.dirtyBytes).toBe(0);
  });

  it('seals a copy: later changes belong to the next flush', async () => {
    const storage = await filled(1);
    const pages = new MetadataPages({ storage, fileOffset: 0, length: PAGE, pageBytes: PAGE });
    const page = await pages.get(0);
    change(pages, page, 10);
    const [first] = pages.seal();
    change(pages, page, 11);
    expect(first?.bytes[11]).toBe(1);
    pages.settle();
    expect(pages.seal()[0]?.bytes[11]).toBe(0xff);
  });

  it('reads a page once for all who ask', async () => {
    const storage = await filled(1);
    const read = vi.spyOn(storage, 'read');
    const pages = new MetadataPages({ storage, fileOffset: 0, length: PAGE, pageBytes: PAGE });
    await Promise.all([pages.get(0), pages.get(0)]);
    expect(read).toHaveBeenCalledTimes(1);
  });

  it('keeps a page that was made blank while the medium was read', async () => {
    const storage = await filled(1);
    const pages = new MetadataPages({ storage, fileOffset: 0, length: PAGE, pageBytes: PAGE });
    const reading = pages.get(0);
    const blank = pages.blank(0, true);
    expect(await reading).toBe(blank);
    expect(blank.bytes.every((byte) => byte === 0)).toBe(true);
  });
});

describe('PageCache', () => {
  let cache = new PageCache();

  async function shared(bytes: number) {
    cache = new PageCache(bytes);
    const region = async () =>
      new MetadataPages({ storage: await filled(20), fileOffset: 0, length: 20 * PAGE, pageBytes: PAGE, cache });
    return [await region(), await region()] as const;
  }

  function resident(pages: MetadataPages): number[] {
    return Array.from({ length: 20 }, (_, index) => index).filter((index) => pages.peek(index) !== undefined);
  }

  it('bounds the pages of all regions together, and drops the oldest', async () => {
    const [a, b] = await shared(8 * COST);
    for (let index = 0; index < 4; index++) await a.get(index);
    for (let index = 0; index < 4; index++) await b.get(index);
    expect([resident(a), resident(b)]).toEqual([
      [0, 1, 2, 3],
      [0, 1, 2, 3],
    ]);
    await b.get(4);
    expect([resident(a), resident(b)]).toEqual([[3], [0, 1, 2, 3, 4]]);
  });

  it('keeps pages that are changed, pinned or being written', async () => {
    const [a, b] = await shared(4 * COST);
    change(a, await a.get(0), 0);
    a.seal();
    change(a, await a.get(1), 0);
    (await a.get(2)).pins++;
    for (let index = 0; index < 20; index++) await b.get(index);
    expect(resident(a)).toEqual([0, 1, 2]);
    a.settle();
    for (let index = 0; index < 20; index++) await b.get(index);
    expect(resident(a)).toEqual([1, 2]);
  });

  it('counts pages that were given up no more', async () => {
    const [a, b] = await shared(4 * COST);
    for (let index = 0; index < 4; index++) await a.get(index);
    a.discard();
    for (let index = 0; index < 4; index++) await b.get(index);
    expect(resident(b)).toEqual([0, 1, 2, 3]);
  });

  it('is crowded by changed pages of all regions, until a flush takes over their changes', async () => {
    const [a, b] = await shared(4 * COST);
    for (const index of [0, 1]) change(a, await a.get(index), 0);
    expect(cache.crowding).toBe(0);
    change(a, await a.get(1), 900);
    change(b, await b.get(0), 0);
    expect(cache.crowding).toBe(COST);
    a.discard();
    expect(cache.crowding).toBe(0);
    for (const index of [1, 2, 3]) change(b, await b.get(index), 0);
    expect(cache.crowding).toBe(2 * COST);
    b.seal();
    expect(cache.crowding).toBe(0);
  });
});
