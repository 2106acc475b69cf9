import { describe, expect, it, vi } from 'vitest';
import { MemoryProvider, MemoryStorage } from './memory.ts';

const TIB = 2 ** 40;
const PAGE = 64 * 1024;

describe('MemoryStorage', () => {
  it('keeps terabytes of nothing in no memory, and tells its runs', async () => {
    const storage = new MemoryStorage();
    await storage.resize(2 * TIB);
    await storage.write(TIB, Uint8Array.of(1));
    expect(storage.extentAt(5)).toEqual({ start: 0, end: TIB, data: false });
    expect(storage.extentAt(TIB + 7)).toEqual({ start: TIB, end: TIB + PAGE, data: true });
    expect(storage.extentAt(2 * TIB - 1)).toEqual({ start: TIB + PAGE, end: 2 * TIB, data: false });
    expect((await storage.identity()).allocatedSize).toBe(PAGE);
  });

  it('tells runs also with very many pages', async () => {
    const storage = new MemoryStorage();
    for (let page = 0; page < 1100; page++) await storage.write(page * 2 * PAGE, Uint8Array.of(1));
    expect(storage.extentAt(PAGE)).toEqual({ start: PAGE, end: 2 * PAGE, data: false });
    expect(storage.extentAt(2 * PAGE)).toEqual({ start: 2 * PAGE, end: 3 * PAGE, data: true });
  });

  it('gives zeroed pages back, also those of a range of terabytes', async () => {
    const storage = new MemoryStorage();
    await storage.write(0, new Uint8Array(3 * PAGE).fill(7));
    await storage.zero(100, 2 * PAGE, { punch: true });
    expect((await storage.identity()).allocatedSize).toBe(2 * PAGE);
    const bytes = new Uint8Array(3 * PAGE);
    await storage.read(0, bytes);
    expect(bytes.indexOf(0)).toBe(100);
    expect(bytes.indexOf(7, 100)).toBe(100 + 2 * PAGE);
    await storage.resize(2 * TIB);
    await storage.zero(0, 2 * TIB, { punch: true });
    expect((await storage.identity()).allocatedSize).toBe(0);
  });

  it.each([-1, 0.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1])('has no offset or size %d', async (size) => {
    const storage = new MemoryStorage();
    await expect(storage.resize(size)).rejects.toMatchObject({ kind: 'out-of-bounds' });
    await expect(storage.write(size, Uint8Array.of(1))).rejects.toMatchObject({ kind: 'out-of-bounds' });
    await expect(storage.read(size, new Uint8Array(1))).rejects.toMatchObject({ kind: 'out-of-bounds' });
  });
});

describe('a revision', () => {
  it('is another one after every change, and never that of another run', async () => {
    const storage = new MemoryStorage();
    const revision = async () => (await storage.identity()).revision;
    const seen = new Set([(await revision())?.text]);
    await storage.write(0, Uint8Array.of(1, 2));
    seen.add((await revision())?.text);
    await storage.write(0, Uint8Array.of(1, 2));
    seen.add((await revision())?.text);
    await storage.zero(0, 1, { punch: true });
    seen.add((await revision())?.text);
    await storage.resize(1);
    seen.add((await revision())?.text);
    expect(seen.size).toBe(5);
    await storage.read(0, new Uint8Array(1));
    expect(await revision()).toMatchObject({ tickMs: 0, text: [...seen].at(-1) });
    vi.resetModules();
    const { MemoryStorage: Later } = await import('./memory.ts');
    expect((await new Later().identity()).revision?.text).not.toBe(
      (await new MemoryStorage().identity()).revision?.text,
    );
  });
});

describe('MemoryProvider', () => {
  it('resolves names against the directory of another one', () => {
    const provider = new MemoryProvider();
    expect(provider.resolve('base.vdi', '/a/b/diff.vdi')).toBe('/a/b/base.vdi');
    expect(provider.resolve('../base.vdi', '/a/b/diff.vdi')).toBe('/a/base.vdi');
    expect(provider.resolve('/x/./y', '/a/b')).toBe('/x/y');
    expect(provider.resolve('../../..', '/a/b')).toBe('/');
  });

  it('lists what a directory has, with kinds', async () => {
    const provider = new MemoryProvider();
    for (const name of ['/a', '/in/b', '/in/deep/c']) await (await provider.create(name)).close();
    const found = async (directory: string) => {
      const kinds: Record<string, string> = {};
      for await (const { name, path, kind, key } of provider.entries(directory)) {
        kinds[name] = kind;
        expect((await provider.lookUp(path))?.key).toBe(key);
      }
      return kinds;
    };
    expect(await found('/')).toEqual({ a: 'file', in: 'directory' });
    expect(await found('/in')).toEqual({ b: 'file', deep: 'directory' });
  });

  it('has the directories that its names imply, and does not open them', async () => {
    const provider = new MemoryProvider();
    await provider.create('/a/b/c');
    expect(await provider.lookUp('/a')).toMatchObject({ kind: 'directory' });
    expect(await provider.lookUp('/a/b/c/d')).toBeNull();
    await expect(provider.open('/a/b', 'read')).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('shares the bytes between handles, and lets a handle outlive the name', async () => {
    const provider = new MemoryProvider();
    const writer = await provider.create('/a');
    const reader = await provider.open('/a', 'read');
    await provider.remove('/a');
    await writer.write(0, Uint8Array.of(5));
    const target = new Uint8Array(1);
    await reader.read(0, target);
    expect(target[0]).toBe(5);
    expect((await reader.identity()).key).toBe((await writer.identity()).key);
  });
});
