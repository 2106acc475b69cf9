/** Parts of an image whose names follow its own: renamed and moved together with it, whatever happens on the way. */
import { describe, expect, it } from 'vitest';
import { createImage, Disk, ImageError, inspect, moveImage, renameImage } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { FaultProvider } from '../../src/testing/index.ts';
import { overriding } from '../../src/testing/overriding.ts';

const SIZE = 64 * 1024;
const KINDS = [
  ['fixed', '-flat'],
  ['fixed,split', '-f001'],
  ['split', '-s001'],
] as const;

async function namesIn(provider: StorageProvider, directory = '/a'): Promise<string[]> {
  const names: string[] = [];
  for await (const name of provider.list(directory)) if (!name.endsWith('/x')) names.push(name);
  return names.sort();
}

async function make(provider: StorageProvider, words: string): Promise<void> {
  const variant = words.split(',');
  // A directory is there by what it has in it.
  await (await provider.create('/a/x')).close();
  await createImage({ provider, name: '/a/old.vmdk' }, { size: SIZE, variant, config: { grain_size: 4096 } });
  const disk = await Disk.open({ provider, name: '/a/old.vmdk' }, { mode: 'write' });
  await disk.write(4096, new Uint8Array(512).fill(7));
  await disk.close();
}

/** What the image holds, opened without further permissions. */
async function valueIn(provider: StorageProvider, name: string): Promise<number | undefined> {
  const disk = await Disk.open({ provider, name }, { mode: 'write' });
  const sector = new Uint8Array(512);
  await disk.read(4096, sector);
  await disk.close();
  return sector[0];
}

describe.each(KINDS)('a VMDK image of several files (%s)', (words, suffix) => {
  it('has parts of its new name, and opens without further permission', async () => {
    const provider = new MemoryProvider();
    await make(provider, words);
    await renameImage({ provider, name: '/a/old.vmdk' }, '/a/new.vmdk');
    expect(await namesIn(provider)).toEqual([`/a/new${suffix}.vmdk`, '/a/new.vmdk']);
    expect(await valueIn(provider, '/a/new.vmdk')).toBe(7);
  });

  it('is moved to another directory under another name', async () => {
    const provider = new MemoryProvider();
    await make(provider, words);
    await (await provider.create('/b/x')).close();
    await moveImage({ provider, name: '/a/old.vmdk' }, { provider, name: '/b/new.vmdk' });
    expect(await namesIn(provider)).toEqual([]);
    expect(await namesIn(provider, '/b')).toEqual([`/b/new${suffix}.vmdk`, '/b/new.vmdk']);
    expect(await valueIn(provider, '/b/new.vmdk')).toBe(7);
  });

  it('replaces no file that has the name of a part', async () => {
    const provider = new MemoryProvider();
    await make(provider, words);
    await (await provider.create(`/a/new${suffix}.vmdk`)).close();
    await expect(renameImage({ provider, name: '/a/old.vmdk' }, '/a/new.vmdk')).rejects.toMatchObject({
      kind: 'exists',
    });
    expect(await namesIn(provider)).toEqual([`/a/new${suffix}.vmdk`, `/a/old${suffix}.vmdk`, '/a/old.vmdk']);
    expect(await valueIn(provider, '/a/old.vmdk')).toBe(7);
  });

  it.each([
    ['names', false],
    ['names', true],
    ['write', true],
    ['flush', true],
  ] as const)(
    'is whole under one of its names when one of the %s fails (and all after it: %s)',
    async (point, ended) => {
      for (let at = 0, fired = true; fired; at++) {
        const provider = new MemoryProvider();
        await make(provider, words);
        const faulty = new FaultProvider(provider);
        faulty.plan({
          fail: { [point]: at },
          forGood: ended ? ['names', 'write', 'flush'] : [],
        });
        await renameImage({ provider: faulty, name: '/a/old.vmdk' }, '/a/new.vmdk').catch(() => {});
        fired = faulty.fired;
        const names = await namesIn(provider);
        const whole = names.filter((name) => name === '/a/old.vmdk' || name === '/a/new.vmdk');
        expect(whole.length, `${at}`).toBeGreaterThan(0);
        for (const name of whole) expect(await valueIn(provider, name)).toBe(7);
      }
    },
  );

  it('keeps the names of its parts where no file can have two names', async () => {
    const provider = new MemoryProvider();
    await make(provider, words);
    const how = { allow: ['/a', `/a/old${suffix}.vmdk`] };
    const unlinked = overriding<StorageProvider>(provider, {
      link: async () => {
        throw new ImageError('unsupported', 'No file can have two names');
      },
    });
    const { warnings } = await renameImage({ provider: unlinked, name: '/a/old.vmdk' }, '/a/new.vmdk');
    expect(warnings).toEqual([expect.stringContaining('keep their names')]);
    const disk = await Disk.open({ provider, name: '/a/new.vmdk' }, { mode: 'write', ...how });
    await disk.close();
  });

  it('tells a child its new name', async () => {
    const provider = new MemoryProvider();
    await make(provider, words);
    const parent = { provider, name: '/a/old.vmdk' };
    await createImage({ provider, name: '/a/child.vmdk' }, { format: 'vmdk', parent });
    await renameImage(parent, '/a/new.vmdk');
    expect((await inspect({ provider, name: '/a/child.vmdk' })).parentName).toBe('new.vmdk');
  });
});

describe('a part with a name of another form', () => {
  /** An image whose extent has this name. */
  async function withExtent(part: string): Promise<MemoryProvider> {
    const provider = new MemoryProvider();
    await make(provider, 'fixed');
    await provider.rename('/a/old-flat.vmdk', `/a/${part}`, { replace: false });
    const descriptor = await provider.open('/a/old.vmdk', 'write');
    const bytes = new Uint8Array(descriptor.size);
    await descriptor.read(0, bytes);
    const text = new TextEncoder().encode(new TextDecoder().decode(bytes).replace('old-flat.vmdk', part));
    await descriptor.resize(text.length);
    await descriptor.write(0, text);
    await descriptor.close();
    return provider;
  }

  it.each([
    ['old_flat.vmdk', 'new_flat.vmdk'],
    ['old.vmdk.data', 'new.img.data'],
    ['old.vmdk-flat.vmdk', 'new.img-flat.vmdk'],
  ])('follows the image where it belongs to it: %s', async (part, renamed) => {
    const provider = await withExtent(part);
    expect(await valueIn(provider, '/a/old.vmdk')).toBe(7);
    const { warnings } = await renameImage({ provider, name: '/a/old.vmdk' }, '/a/new.img');
    expect(warnings).toEqual([]);
    expect(await namesIn(provider)).toEqual(['/a/new.img', `/a/${renamed}`].sort());
    expect(await valueIn(provider, '/a/new.img')).toBe(7);
  });

  it('stays where it belongs to the image by permission alone', async () => {
    const provider = await withExtent('other-flat.vmdk');
    const { warnings } = await renameImage({ provider, name: '/a/old.vmdk' }, '/a/new.vmdk');
    expect(warnings).toEqual([]);
    expect(await namesIn(provider)).toEqual(['/a/new.vmdk', '/a/other-flat.vmdk']);
    await expect(valueIn(provider, '/a/new.vmdk')).rejects.toMatchObject({ kind: 'denied' });
  });

  it('stays with a warning where it no longer belongs to the image', async () => {
    const provider = new MemoryProvider();
    await (await provider.create('/a/x')).close();
    const image = { provider, name: '/a/old.qcow2' };
    await createImage(image, { size: 64 * 1024, config: { data_file: 'old.qcow2.data' } });
    const { warnings } = await renameImage(image, '/a/new.qcow2');
    expect(warnings).toEqual([expect.stringContaining('keeps its file old.qcow2.data')]);
    expect(await namesIn(provider)).toEqual(['/a/new.qcow2', '/a/old.qcow2.data']);
    await expect(Disk.open({ provider, name: '/a/new.qcow2' })).rejects.toMatchObject({ kind: 'denied' });
    const back = await renameImage({ provider, name: '/a/new.qcow2' }, '/a/old.qcow2');
    expect(back.warnings).toEqual([]);
  });
});
