/** Changes of VMDK descriptors through the library: links, facts, tracking of changes, and identities of the content. */
import { describe, expect, it } from 'vitest';
import { amendImage, convert, createImage, Disk, inspect, measure, setImage } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const MIB = 1024 * 1024;

async function made(variant: readonly string[] = []): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  await createImage({ provider, name: '/a.vmdk' }, { size: 4 * MIB, format: 'vmdk', variant });
  return provider;
}

async function textOf(provider: MemoryProvider, name = '/a.vmdk'): Promise<string> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(Math.min(storage.size, 8192));
  await storage.read(0, bytes);
  await storage.close();
  return new TextDecoder('latin1').decode(bytes);
}

/** Replaces text in the descriptor by text that is as long. */
async function patch(provider: MemoryProvider, old: string, text: string): Promise<void> {
  const at = (await textOf(provider)).indexOf(old);
  expect(at).toBeGreaterThan(0);
  expect(text.length).toBe(old.length);
  const storage = await provider.open('/a.vmdk', 'write');
  await storage.write(at, new TextEncoder().encode(text));
  await storage.close();
}

const source = (provider: MemoryProvider, name = '/a.vmdk') => ({ provider, name });

describe('a VMDK descriptor', () => {
  it('stores comment, UUIDs and geometry, and keeps them in a split image too', async () => {
    for (const variant of [[], ['split'], ['fixed']]) {
      const provider = await made(variant);
      const uuid = '6f1d0000-0000-4000-8000-000000000031';
      const geometry = { logical: { cylinders: 5, heads: 4, sectors: 3 } };
      await setImage(source(provider), { comment: 'one\ntwo', uuid, geometry });
      expect(await inspect(source(provider))).toMatchObject({ comment: 'one\ntwo', uuid, geometry });
      await setImage(source(provider), { comment: null, geometry: { logical: null } });
      expect(await inspect(source(provider))).toMatchObject({ comment: null, geometry: { logical: null } });
    }
  });

  it('gets another adapter and hardware version, and refuses what it does not have', async () => {
    const provider = await made();
    await amendImage(source(provider), { adapter_type: 'LSILOGIC', hwversion: '19' });
    expect((await inspect(source(provider))).details).toMatchObject({
      'adapter type': 'lsilogic',
      'hardware version': '19',
    });
    await expect(amendImage(source(provider), { adapter_type: 'scsi' })).rejects.toMatchObject({
      kind: 'invalid-argument',
    });
    await expect(amendImage(source(provider), { hwversion: '4x' })).rejects.toMatchObject({ kind: 'invalid-argument' });
  });

  it.each([
    [[], 'monolithicSparse', {}],
    [['split'], 'TwoGbMaxExtentSparse', {}],
    [['split'], 'twoGbMaxExtentSparse', { grain_size: 131_072, zeroed_grain: 'on' }],
    [['dynamic', 'esx'], 'vmfsSparse', { grain_size: 512 }],
  ] as const)(
    'takes the values that it has for unchanged, also of extents in other files: %j',
    async (variant, subformat, config) => {
      const provider = new MemoryProvider();
      await createImage(source(provider), { format: 'vmdk', size: 4 * MIB, variant: [...variant], config });
      const { grain_size = 65_536, zeroed_grain = 'off' } = config as { grain_size?: number; zeroed_grain?: string };
      const same = { subformat, grain_size, zeroed_grain };
      await amendImage(source(provider), { ...same, adapter_type: 'buslogic' });
      expect((await inspect(source(provider))).details).toMatchObject({ 'adapter type': 'buslogic' });
      for (const other of [
        { grain_size: 2 * grain_size },
        { subformat: 'vmfs' },
        { zeroed_grain: zeroed_grain === 'on' ? 'off' : 'on' },
      ]) {
        const [[field, found] = []] = Object.entries(other);
        const values = { ...same, ...other, adapter_type: 'ide' };
        await expect(amendImage(source(provider), values)).rejects.toMatchObject({
          kind: 'unsupported',
          context: { field, found: String(found), expected: expect.anything() },
        });
      }
      expect((await inspect(source(provider))).details).toMatchObject({ 'adapter type': 'buslogic' });
    },
  );

  it('is amended where its extents are missing, unless their values are asked for', async () => {
    const provider = await made(['split']);
    await provider.rename('/a-s001.vmdk', '/gone', { replace: false });
    await expect(amendImage(source(provider), { grain_size: 65_536 })).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('reports create type, content IDs, extents and unknown entries', async () => {
    const provider = await made(['split']);
    await patch(provider, 'ddb.adapterType', 'ddb.adapterTypf');
    const { details } = await inspect(source(provider));
    expect(details).toMatchObject({
      'create type': 'twoGbMaxExtentSparse',
      'parent CID': 'ffffffff',
      extents: 1,
      'extent 1': `SPARSE RW, ${4 * MIB} bytes, a-s001.vmdk`,
      'ddb.adapterTypf': 'ide',
    });
  });

  it('has other identities before the first write and after each flush', async () => {
    const provider = await made();
    const seen = new Set<unknown>();
    const note = async (): Promise<void> => {
      const { contentId, modificationUuid } = await inspect(source(provider));
      seen.add(contentId).add(modificationUuid);
    };
    await note();
    await using disk = await Disk.open(source(provider), { mode: 'write', flushAfterMs: 0 });
    await disk.write(0, new Uint8Array(512).fill(1));
    await note();
    await disk.flush();
    await note();
    expect(seen.size).toBe(6);
  });

  it('loses the entry for tracked changes before the first write, and says so', async () => {
    const provider = await made();
    await patch(provider, 'ddb.virtualHWVersion = "4"', 'changeTrackPath="abcde.ct"');
    const before = await inspect(source(provider));
    expect(before.warnings.join()).toContain('abcde.ct');
    const disk = await Disk.open(source(provider), { mode: 'write' });
    expect(await textOf(provider)).toContain('changeTrackPath');
    await disk.write(0, new Uint8Array(512).fill(1));
    expect(await textOf(provider)).not.toContain('changeTrackPath');
    await disk.close();
  });

  it('records the format of a parent of another format, and no other', async () => {
    const provider = await made();
    await createImage(source(provider, '/p.qcow2'), { size: 4 * MIB, format: 'qcow2' });
    await createImage(source(provider, '/c.vmdk'), { format: 'vmdk', parent: source(provider, '/p.qcow2') });
    expect(await inspect(source(provider, '/c.vmdk'))).toMatchObject({ parentFormat: 'qcow2', parentName: 'p.qcow2' });
    await using disk = await Disk.open(source(provider, '/c.vmdk'), { mode: 'read', allow: ['same-directory'] });
    expect(disk.images.length).toBe(2);
    await createImage(source(provider, '/d.vmdk'), { format: 'vmdk', parent: source(provider) });
    expect(await textOf(provider, '/d.vmdk')).not.toContain('parentFormat');
  });
});

describe('the size of a new VMDK image', () => {
  it.each([['dynamic'], ['split'], ['fixed']])('is measured as it becomes: %s', async (word) => {
    const provider = new MemoryProvider();
    await createImage(source(provider, '/s.raw'), { size: 4 * MIB, format: 'raw' });
    const disk = await Disk.open(source(provider, '/s.raw'), { mode: 'write', format: 'raw' });
    await disk.write(0, new Uint8Array(MIB).fill(7));
    await disk.close();
    const image = source(provider, '/s.raw');
    const { required } = await measure(image, { format: 'vmdk', variant: [word], sourceFormat: 'raw' });
    await convert(image, source(provider, '/t.vmdk'), { format: 'vmdk', variant: [word], sourceFormat: 'raw' });
    let total = 0;
    for (const part of ['', '-s001', '-flat']) total += (await provider.lookUp(`/t${part}.vmdk`))?.size ?? 0;
    expect(required).toBeGreaterThanOrEqual(total);
    expect(required).toBeLessThanOrEqual(total + 16_384);
  });
});
