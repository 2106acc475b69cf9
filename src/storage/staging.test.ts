import { describe, expect, it } from 'vitest';
import type { Storage } from './contract.ts';
import { MemoryProvider } from './memory.ts';
import { stageTarget } from './staging.ts';

async function put(provider: MemoryProvider, name: string, byte: number): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, Uint8Array.of(byte));
  await storage.close();
}

async function firstByte(provider: MemoryProvider, name: string): Promise<number | undefined> {
  const storage = await provider.open(name, 'read');
  const target = new Uint8Array(1);
  await storage.read(0, target);
  return target[0];
}

async function staged(provider: MemoryProvider, name: string, force = false) {
  const target = await stageTarget({ provider, name }, { force });
  const storage: Storage = await target.source.provider.create(target.source.name);
  await storage.write(0, Uint8Array.of(7));
  return { target, storage };
}

async function namesIn(provider: MemoryProvider, directory: string): Promise<string[]> {
  const names: string[] = [];
  for await (const name of provider.list(directory)) names.push(name);
  return names.sort();
}

describe('stageTarget', () => {
  it('shows the target only when it is published', async () => {
    const provider = new MemoryProvider();
    const { target, storage } = await staged(provider, '/new.vdi');
    expect(storage.label).toBe('/new.vdi');
    expect(target.source.name).not.toBe('/new.vdi');
    expect(await provider.lookUp('/new.vdi')).toBeNull();
    await target.publish();
    expect(await namesIn(provider, '/')).toEqual(['/new.vdi']);
    expect(await firstByte(provider, '/new.vdi')).toBe(7);
  });

  it('makes names durable after the file got its own', async () => {
    const calls: string[] = [];
    class Watched extends MemoryProvider {
      override async publishMode(name: string): Promise<void> {
        calls.push('mode');
        await super.publishMode(name);
      }
      override async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
        calls.push(`rename ${how.replace}`);
        await super.rename(from, to, how);
      }
      override async syncNames(directory: string): Promise<void> {
        calls.push(`sync ${directory}`);
      }
    }
    const { target } = await staged(new Watched(), '/new.vdi');
    await target.publish();
    expect(calls).toEqual(['mode', 'rename false', 'sync /']);
  });

  it('refuses a target that exists, unless told to replace it', async () => {
    const provider = new MemoryProvider();
    await put(provider, '/old.vdi', 1);
    await expect(stageTarget({ provider, name: '/old.vdi' }, { force: false })).rejects.toMatchObject({
      kind: 'exists',
      context: { path: '/old.vdi' },
      hint: expect.stringContaining('--force'),
    });
    const { target } = await staged(provider, '/old.vdi', true);
    expect(await firstByte(provider, '/old.vdi')).toBe(1);
    await target.publish();
    expect(await firstByte(provider, '/old.vdi')).toBe(7);
  });

  it('does not replace a target that appeared meanwhile', async () => {
    const provider = new MemoryProvider();
    const { target } = await staged(provider, '/new.vdi');
    await put(provider, '/new.vdi', 1);
    await expect(target.publish()).rejects.toMatchObject({
      kind: 'exists',
      message: expect.stringContaining('appeared'),
    });
    await target.discard();
    expect(await namesIn(provider, '/')).toEqual(['/new.vdi']);
    expect(await firstByte(provider, '/new.vdi')).toBe(1);
  });

  it.each([false, true])('refuses a directory as target (force %s)', async (force) => {
    const provider = new MemoryProvider();
    await put(provider, '/a/file', 1);
    await expect(stageTarget({ provider, name: '/a' }, { force })).rejects.toMatchObject({
      kind: 'unsupported',
      message: expect.stringContaining('directory'),
    });
  });

  it('does not replace what became a directory while the file was made', async () => {
    const provider = new MemoryProvider();
    const { target } = await staged(provider, '/new.vdi', true);
    await put(provider, '/new.vdi/inside', 1);
    await expect(target.publish()).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('names the directory that is missing', async () => {
    const provider = new MemoryProvider();
    await expect(stageTarget({ provider, name: '/gone/new.vdi' }, { force: false })).rejects.toMatchObject({
      kind: 'not-found',
      context: { path: '/gone' },
    });
  });

  it('discards what was made, or nothing', async () => {
    const provider = new MemoryProvider();
    const { target } = await staged(provider, '/new.vdi');
    await target.discard();
    await target.discard();
    expect(await namesIn(provider, '/')).toEqual([]);
  });

  it('never speaks of the temporary name', async () => {
    const provider = new MemoryProvider();
    const { target } = await staged(provider, '/new.vdi');
    const { provider: inner, name } = target.source;
    await expect(inner.create(name)).rejects.toMatchObject({ kind: 'exists', context: { path: '/new.vdi' } });
    await inner.remove(name);
    await expect(inner.open(name, 'read')).rejects.toMatchObject({ kind: 'not-found', context: { path: '/new.vdi' } });
    await expect(target.publish()).rejects.toMatchObject({ kind: 'not-found', context: { path: '/new.vdi' } });
  });

  it('keeps others away from what it makes until that has its name, also when the format has closed it', async () => {
    const provider = new MemoryProvider();
    const { target, storage } = await staged(provider, '/new.vdi');
    await storage.close();
    await expect(storage.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
    const other = await provider.open(target.source.name, 'read');
    await expect(other.lock('shared')).rejects.toMatchObject({ kind: 'locked' });
    await target.publish();
    await other.lock('exclusive');
  });

  it('does not replace what somebody uses', async () => {
    const provider = new MemoryProvider();
    await put(provider, '/old.vdi', 1);
    const reader = await provider.open('/old.vdi', 'read');
    await reader.lock('shared');
    const source = { provider, name: '/old.vdi' };
    await expect(stageTarget(source, { force: true })).rejects.toMatchObject({
      kind: 'locked',
      context: { path: '/old.vdi' },
    });
    const { key } = await reader.identity();
    await (await stageTarget(source, { force: true, own: new Set([key]) })).discard();
    await (await stageTarget(source, { force: true, lock: false })).discard();
    await reader.close();
    await (await stageTarget(source, { force: true })).discard();
  });

  it('keeps others away from what it replaces until it has replaced it, or not', async () => {
    const provider = new MemoryProvider();
    await put(provider, '/old.vdi', 1);
    for (const end of ['discard', 'publish'] as const) {
      const { target } = await staged(provider, '/old.vdi', true);
      const other = await provider.open('/old.vdi', 'read');
      await expect(other.lock('shared')).rejects.toMatchObject({ kind: 'locked' });
      await target[end]();
      await other.lock('shared');
      await other.close();
    }
  });
});
