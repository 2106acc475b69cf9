import { describe, expect, it } from 'vitest';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import type { StorageProvider } from '../storage/contract.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { namesOfParent } from './parent.ts';

const BYTES = 512;

async function bytesOf(provider: StorageProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function put(provider: StorageProvider, name: string, bytes: Uint8Array): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, bytes);
  await storage.close();
}

describe('names of a parent for formats that store two', () => {
  it.each([
    ['/vm', '/vm/base.vhd', 'base.vhd'],
    ['/vm', '/vm/old/base.vhd', 'old/base.vhd'],
    ['/vm/snapshots', '/vm/base.vhd', '../base.vhd'],
    ['/vm/a/b', '/vm/c/base.vhd', '../../c/base.vhd'],
    ['/vm', '/base.vhd', '../base.vhd'],
    ['/vm/a', '/vm/a', '../a'],
    ['C:\\vm\\new', 'c:\\vm\\base.vhd', '../base.vhd'],
    ['C:/vm', 'D:/vm/base.vhd', null],
    ['/vm', 'http://host/base.vhd', null],
    ['C:/vm', '/vm/base.vhd', null],
    ['/vm', '\\\\server\\share\\base.vhd', null],
  ])('in %s: %s', (directory, name, relative) => {
    expect(namesOfParent(directory, name)).toEqual({ relative, absolute: name });
  });

  it('completes a relative name', () => {
    expect(namesOfParent('/vm', '../base.vhd')).toEqual({ relative: '../base.vhd', absolute: '/vm/../base.vhd' });
    expect(namesOfParent('/vm', '')).toEqual({ relative: null, absolute: null });
  });

  it.each(['vhd', 'vhdx'])('lead from a folder to the one above on another machine: %s', async (format) => {
    const [provider, other] = [new MemoryProvider(), new MemoryProvider()];
    // A directory of this provider is there as soon as a file is in it.
    await put(provider, '/vm/snapshots/other', new Uint8Array(BYTES));
    await createImage({ provider, name: '/vm/base' }, { format, size: 2 ** 22 });
    {
      await using disk = await openDisk({ provider, name: '/vm/base' }, { mode: 'write' });
      await disk.write(0, new Uint8Array(BYTES).fill(7));
    }
    const parent = { parent: { provider, name: '/vm/base' }, parentFormat: format };
    await createImage({ provider, name: '/vm/snapshots/child' }, { format, ...parent });
    await put(other, '/elsewhere/base', await bytesOf(provider, '/vm/base'));
    await put(other, '/elsewhere/snapshots/child', await bytesOf(provider, '/vm/snapshots/child'));
    const child = { provider: other, name: '/elsewhere/snapshots/child' };
    await using disk = await openDisk(child, { allow: ['/elsewhere'] });
    const found = new Uint8Array(BYTES);
    await disk.read(0, found);
    expect([disk.images.map(({ name }) => name), found[0]]).toEqual([['/elsewhere/base', child.name], 7]);
  });
});
