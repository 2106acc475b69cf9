import { describe, expect, it } from 'vitest';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import { BlobProvider } from './blob-provider.ts';
import type { StorageProvider } from './contract.ts';
import { MemoryProvider } from './memory.ts';

const three = (): Blob => new Blob([Uint8Array.of(1, 2, 3)]);

async function blobOf(provider: StorageProvider, name: string): Promise<Blob> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return new Blob([bytes]);
}

async function contentOf(provider: StorageProvider, name: string): Promise<number[]> {
  return [...new Uint8Array(await (await blobOf(provider, name)).arrayBuffer())];
}

describe('blobs under names', () => {
  it('are named as the file, unless another name is given', async () => {
    const provider = new BlobProvider();
    const file = new File([Uint8Array.of(7)], 'disk.vdi');
    expect(provider.add(file).name).toBe('/disk.vdi');
    expect(provider.add(three(), 'folder/other').name).toBe('/folder/other');
    expect(provider.add(three()).name).toBe('/blob');
    expect(await contentOf(provider, '/disk.vdi')).toEqual([7]);
    expect(await contentOf(provider, '/folder/other')).toEqual([1, 2, 3]);
  });

  it('are looked up and listed among what is in memory', async () => {
    const provider = new BlobProvider();
    const { name } = provider.add(three(), 'folder/a');
    await (await provider.create('/folder/b')).close();
    const names: string[] = [];
    for await (const one of provider.list('/folder')) names.push(one);
    expect(names.sort()).toEqual(['/folder/a', '/folder/b']);
    const storage = await provider.open(name, 'read');
    expect(await provider.lookUp(name)).toEqual({ kind: 'file', size: 3, key: (await storage.identity()).key });
    expect(await provider.lookUp('/folder/c')).toBeNull();
    await provider.remove('/folder/b');
    expect(await provider.lookUp('/folder')).toMatchObject({ kind: 'directory' });
  });

  it('are never changed, and make room for another storage only when told to', async () => {
    const provider = new BlobProvider();
    const { name } = provider.add(three(), 'a');
    await (await provider.create('/new')).write(0, Uint8Array.of(9));
    await expect(provider.open(name, 'write')).rejects.toMatchObject({ kind: 'read-only' });
    await expect(provider.create(name)).rejects.toMatchObject({ kind: 'exists' });
    await expect(provider.rename(name, '/moved', { replace: false })).rejects.toMatchObject({ kind: 'read-only' });
    await expect(provider.rename('/new', name, { replace: false })).rejects.toMatchObject({ kind: 'exists' });
    await expect(provider.rename('/nothing', name, { replace: true })).rejects.toMatchObject({ kind: 'not-found' });
    expect(await contentOf(provider, name)).toEqual([1, 2, 3]);
    await provider.rename('/new', name, { replace: true });
    expect(await contentOf(provider, name)).toEqual([9]);
  });

  it('are found as parents of each other, where that is allowed', async () => {
    const provider = new MemoryProvider();
    await createImage('base.vdi', { provider, size: 1024 * 1024 });
    const base = await openDisk('base.vdi', { provider, format: 'vdi', mode: 'write' });
    await base.write(512, Uint8Array.of(42));
    await base.close();
    await createImage('diff.vdi', { provider, parent: 'base.vdi' });
    const chosen = new BlobProvider();
    for (const name of ['base.vdi', 'diff.vdi']) chosen.add(await blobOf(provider, `/${name}`), name);

    const disk = await openDisk('diff.vdi', { provider: chosen, allow: ['same-directory'] });
    const bytes = new Uint8Array(1);
    await disk.read(512, bytes);
    await disk.close();
    expect(bytes).toEqual(Uint8Array.of(42));
    await expect(openDisk('diff.vdi', { provider: chosen })).rejects.toMatchObject({ kind: 'denied' });
  });

  it('can be forgotten', async () => {
    const provider = new BlobProvider();
    const { name } = provider.add(three());
    await provider.remove(name);
    expect(await provider.lookUp(name)).toBeNull();
    await expect(provider.remove(name)).rejects.toMatchObject({ kind: 'not-found' });
  });
});
