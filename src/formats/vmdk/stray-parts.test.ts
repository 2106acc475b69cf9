/** Extents beside a split image that no image names: found, never for those of another image, and left alone. */
import { describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const MIB = 1024 * 1024;
const source = (provider: MemoryProvider, name = '/disk.vmdk') => ({ provider, name });

/** A split image of two extents, and a file with the name of a fourth. */
async function withStray(words: readonly string[], stray: string): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  await createImage(source(provider), {
    format: 'vmdk',
    size: 2048 * MIB,
    variant: words,
    config: { grain_size: 2 * MIB },
  });
  const letter = words.includes('fixed') ? 'f' : 's';
  await copy(provider, `/disk-${letter}002.vmdk`, stray);
  return provider;
}

async function copy(provider: MemoryProvider, from: string, to: string): Promise<void> {
  const [old, made] = [await provider.open(from, 'read'), await provider.create(to)];
  const bytes = new Uint8Array(old.size);
  await old.read(0, bytes);
  await made.write(0, bytes);
  await old.close();
  await made.close();
}

/** Replaces a name in a descriptor in a separate file. */
async function rewrite(provider: MemoryProvider, name: string, from: string, to: string): Promise<void> {
  const storage = await provider.open(name, 'write');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  const text = new TextEncoder().encode(new TextDecoder().decode(bytes).replace(from, to));
  await storage.resize(text.length);
  await storage.write(0, text);
  await storage.close();
}

async function found(provider: MemoryProvider, repair = false) {
  const { clean, findings } = await checkImage(source(provider), { repair });
  return { clean, findings: findings.map(({ code, severity, message }) => [code, severity, message.split(' ')[0]]) };
}

const STRAY = (name: string) => ({ clean: true, findings: [['stray-part', 'warning', name]] });
const NOTHING = { clean: true, findings: [] };

describe('a check of a split image', () => {
  it.each([
    [['split'], '/disk-s003.vmdk'],
    [['split'], '/disk-s017.vmdk'],
    [['fixed', 'split'], '/disk-f003.vmdk'],
  ])('reports an extent that no image names: %j %s, which a repair leaves there', async (words, stray) => {
    const provider = await withStray(words, stray);
    expect(await found(provider)).toEqual(STRAY(stray));
    expect(await found(provider, true)).toEqual(STRAY(stray));
    expect((await provider.lookUp(stray))?.kind).toBe('file');
  });

  it('reports what a cut left of a resize that made the disk smaller', async () => {
    const provider = await withStray(['split'], '/kept.vmdk');
    {
      await using disk = await Disk.open(source(provider), { mode: 'write' });
      await disk.resize(MIB, { shrink: true });
    }
    expect(await found(provider)).toEqual(NOTHING);
    await provider.rename('/kept.vmdk', '/disk-s002.vmdk', { replace: false });
    expect(await found(provider)).toEqual(STRAY('/disk-s002.vmdk'));
  });

  it.each(['/disk2-s003.vmdk', '/disk-f003.vmdk', '/disk-s3.vmdk', '/disk-s003.vmdk.bak', '/dis-s003.vmdk'])(
    'says nothing about a file of another name: %s',
    async (name) => {
      expect(await found(await withStray(['split'], name))).toEqual(NOTHING);
    },
  );

  it('says nothing about an extent that another image names', async () => {
    const provider = await withStray(['split'], '/disk-s003.vmdk');
    await createImage(source(provider, '/other.vmdk'), { format: 'vmdk', size: MIB, variant: ['split'] });
    await rewrite(provider, '/other.vmdk', 'other-s001.vmdk', 'disk-s003.vmdk');
    expect(await found(provider)).toEqual(NOTHING);
  });

  it('says nothing about an image of that name', async () => {
    const provider = await withStray(['split'], '/x');
    await createImage(source(provider, '/disk-s003.vmdk'), { format: 'vmdk', size: MIB });
    expect(await found(provider)).toEqual(NOTHING);
  });

  it('says nothing beside images of one extent', async () => {
    const provider = new MemoryProvider();
    await createImage(source(provider), { format: 'vmdk', size: MIB, variant: ['fixed'] });
    await copy(provider, '/disk-flat.vmdk', '/disk-f002.vmdk');
    expect(await found(provider)).toEqual(NOTHING);
  });
});
