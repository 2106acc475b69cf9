import { describe, expect, it } from 'vitest';
import type { CreateImageOptions } from '../disk/options.ts';
import { LIMITS } from '../limits.ts';
import type { OpenMode, Storage } from '../storage/contract.ts';
import { ForwardingProvider } from '../storage/forwarding.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { createImage } from './create.ts';
import { removeImage, renameImage } from './files.ts';
import { inspect } from './inspect.ts';
import { openDisk } from './open.ts';
import { childrenOf } from './siblings.ts';

const SIZE = 64 * 1024;
const at = (provider: MemoryProvider, name: string) => ({ provider, name });

async function make(provider: MemoryProvider, name: string, options: Partial<CreateImageOptions> = {}): Promise<void> {
  const config = name.endsWith('.vdi') ? { AllocationBlockSize: 4096, DataAlignment: 512 } : {};
  await createImage(at(provider, name), { size: SIZE, config, ...options });
}

async function namesIn(provider: MemoryProvider, directory = '/'): Promise<string[]> {
  const names: string[] = [];
  for await (const name of provider.list(directory)) names.push(name);
  return names.sort();
}

/** A base with two children in its directory, one elsewhere, and unrelated files. */
async function family(): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  await make(provider, '/base.vdi');
  const parent = at(provider, '/base.vdi');
  await make(provider, '/b.vdi', { parent });
  await make(provider, '/a.vdi', { parent });
  // Directories of this provider exist by what is in them.
  await (await provider.create('/below/placeholder')).close();
  await make(provider, '/below/c.vdi', { parent });
  await make(provider, '/stranger.vdi');
  await make(provider, '/disk.raw');
  const broken = await provider.create('/broken.vdi');
  await broken.write(0, new Uint8Array(300).fill(9));
  await broken.close();
  return provider;
}

describe('childrenOf', () => {
  it('finds the images beside it that name it as their parent', async () => {
    const provider = await family();
    expect(await childrenOf(at(provider, '/base.vdi'))).toEqual({ names: ['/a.vdi', '/b.vdi'], complete: true });
    expect(await childrenOf(at(provider, '/a.vdi'))).toEqual({ names: [], complete: true });
    expect(await childrenOf(at(provider, '/disk.raw'))).toEqual({ names: [], complete: true });
  });

  it('needs no lock of anybody', async () => {
    const provider = await family();
    await using _held = await openDisk(at(provider, '/a.vdi'), { mode: 'write', allow: ['/'] });
    expect((await childrenOf(at(provider, '/base.vdi'))).names).toContain('/a.vdi');
  });

  it('says when there are too many images beside it to look at, and refuses to take their parent away', async () => {
    const provider = new MemoryProvider();
    await make(provider, '/base.vdi');
    const image = `QFI\xfb\0\0\0\x03${'\0'.repeat(504)}`;
    const write = async (name: string, text: string): Promise<void> => {
      const storage = await provider.create(name);
      await storage.write(
        0,
        Uint8Array.from(text, (char) => char.charCodeAt(0)),
      );
      await storage.close();
    };
    for (let n = 2; n <= LIMITS.parentCandidates; n++) {
      await write(`/${n}`, image);
      await write(`/${n}.txt`, 'a line of text');
    }
    expect(await childrenOf(at(provider, '/base.vdi'))).toEqual({ names: [], complete: true });
    await write('/one-more', image);
    expect(await childrenOf(at(provider, '/base.vdi'))).toEqual({ names: [], complete: false });
    await expect(removeImage(at(provider, '/base.vdi'))).rejects.toMatchObject({
      kind: 'busy',
      hint: expect.stringContaining('--force'),
    });
    const { warnings } = await removeImage(at(provider, '/base.vdi'), { force: true });
    expect(warnings.join()).toContain('others may depend on it, too');
  });
});

/** Records the changes of names, in order. */
class NotingProvider extends ForwardingProvider {
  readonly notes: string[] = [];

  override rename(from: string, to: string, how: { readonly replace: boolean }) {
    this.notes.push(`rename ${from} ${to}${how.replace ? ', replacing' : ''}`);
    return super.rename(from, to, how);
  }

  override remove(name: string) {
    this.notes.push(`remove ${name}`);
    return super.remove(name);
  }

  override syncNames(directory: string) {
    this.notes.push(`sync ${directory}`);
    return super.syncNames(directory);
  }
}

describe('names', () => {
  it('are durable when it is said that they changed: the new one first, so that one always is', async () => {
    const provider = new NotingProvider(await family());
    await renameImage({ provider, name: '/stranger.vdi' }, '/below/new.vdi');
    await removeImage({ provider, name: '/a.vdi' });
    expect(provider.notes).toEqual([
      'rename /stranger.vdi /below/new.vdi',
      'sync /below',
      'sync /',
      'remove /a.vdi',
      'sync /',
    ]);
  });
});

describe('renameImage', () => {
  it('gives another name, also in another directory, and keeps every byte', async () => {
    const provider = await family();
    const before = await inspect(at(provider, '/stranger.vdi'));
    expect(await renameImage(at(provider, '/stranger.vdi'), '/below/new.vdi')).toEqual({
      from: '/stranger.vdi',
      to: '/below/new.vdi',
      warnings: [],
    });
    expect(await inspect(at(provider, '/below/new.vdi'))).toMatchObject({ ...before, file: '/below/new.vdi' });
    expect(await namesIn(provider)).not.toContain('/stranger.vdi');
  });

  it('never replaces anything, and needs a directory that is there', async () => {
    const provider = await family();
    const before = [await namesIn(provider), await namesIn(provider, '/below')];
    const rename = (to: string) => renameImage(at(provider, '/stranger.vdi'), to);
    await expect(rename('/a.vdi')).rejects.toMatchObject({ kind: 'exists' });
    await expect(rename('/stranger.vdi')).rejects.toMatchObject({ kind: 'exists' });
    await expect(rename('/below')).rejects.toMatchObject({ kind: 'exists' });
    await expect(rename('/nowhere/x.vdi')).rejects.toMatchObject({ kind: 'not-found' });
    expect([await namesIn(provider), await namesIn(provider, '/below')]).toEqual(before);
  });

  it('refuses while somebody names it as parent, unless forced', async () => {
    const provider = await family();
    await expect(renameImage(at(provider, '/base.vdi'), '/new.vdi')).rejects.toMatchObject({
      kind: 'busy',
      message: expect.stringContaining('/a.vdi and 1 more'),
    });
    const { warnings } = await renameImage(at(provider, '/base.vdi'), '/new.vdi', { force: true });
    expect(warnings).toHaveLength(2);
    expect(await namesIn(provider)).toContain('/new.vdi');
  });

  it('refuses while somebody writes it', async () => {
    const provider = await family();
    await using _held = await openDisk(at(provider, '/stranger.vdi'), { mode: 'write' });
    await expect(renameImage(at(provider, '/stranger.vdi'), '/new.vdi')).rejects.toMatchObject({ kind: 'locked' });
  });
});

describe('removeImage', () => {
  it('removes the image and nothing else', async () => {
    const provider = await family();
    const before = await namesIn(provider);
    expect(await removeImage(at(provider, '/a.vdi'))).toEqual({ removed: ['/a.vdi'], warnings: [] });
    expect(await namesIn(provider)).toEqual(before.filter((name) => name !== '/a.vdi'));
  });

  it('refuses while somebody names it as parent, unless forced', async () => {
    const provider = await family();
    await expect(removeImage(at(provider, '/base.vdi'))).rejects.toMatchObject({ kind: 'busy' });
    expect(await namesIn(provider)).toContain('/base.vdi');
    expect((await removeImage(at(provider, '/base.vdi'), { force: true })).warnings).toHaveLength(2);
    expect(await namesIn(provider)).not.toContain('/base.vdi');
  });

  it('refuses what nothing identifies as an image, what is in use, and what is not there', async () => {
    const provider = await family();
    await expect(removeImage(at(provider, '/disk.raw'))).rejects.toMatchObject({ kind: 'denied' });
    await expect(removeImage(at(provider, '/none.vdi'))).rejects.toMatchObject({ kind: 'not-found' });
    {
      await using _held = await openDisk(at(provider, '/stranger.vdi'));
      await expect(removeImage(at(provider, '/stranger.vdi'))).rejects.toMatchObject({ kind: 'locked' });
    }
    expect(await removeImage(at(provider, '/disk.raw'), { format: 'raw' })).toMatchObject({ removed: ['/disk.raw'] });
  });
});

describe('an image of several files', () => {
  /** Deletes the image on a provider that fails at this removal; -1: never. Returns the names of the calls. */
  async function cutAt(provider: MemoryProvider, cut: number): Promise<string[]> {
    const removed: string[] = [];
    class Cut extends ForwardingProvider {
      override async remove(name: string): Promise<void> {
        if (removed.length === cut) throw new Error('the power went');
        removed.push(name);
        await provider.remove(name);
      }
    }
    const allow = ['/a.data'];
    await removeImage({ provider: new Cut(provider), name: '/a.qcow2' }, { allow }).catch((error: unknown) => {
      expect(String(error)).toContain('the power went');
    });
    return removed;
  }

  it('that is replaced by force names the part that the new image does not use', async () => {
    const provider = new MemoryProvider();
    await make(provider, '/a.qcow2', { config: { data_file: 'a.data' } });
    const wanted = { size: SIZE, force: true };
    // The same part again: it is replaced, and nothing is left.
    const same = await createImage(at(provider, '/a.qcow2'), { ...wanted, config: { data_file: 'a.data' } });
    expect(same.warnings).toEqual([]);
    const { warnings } = await createImage(at(provider, '/a.qcow2'), wanted);
    expect(warnings).toEqual([
      '/a.data (external data file) belonged to the /a.qcow2 that was replaced, and is left: delete it if nothing needs it.',
    ]);
    expect(await namesIn(provider)).toEqual(['/a.data', '/a.qcow2']);
  });

  it('reads each file at most twice when it is deleted: as a part of it, and as one beside it', async () => {
    const provider = new MemoryProvider();
    await make(provider, '/a.vmdk', { variant: ['split'], size: 20 * 2047 * 2 ** 20 });
    const opened = new Map<string, number>();
    class Counting extends ForwardingProvider {
      override open(name: string, mode: OpenMode): Promise<Storage> {
        opened.set(name, (opened.get(name) ?? 0) + 1);
        return super.open(name, mode);
      }
    }
    await removeImage({ provider: new Counting(provider), name: '/a.vmdk' });
    expect(await namesIn(provider)).toEqual([]);
    expect(opened.size).toBe(21);
    expect(Math.max(...opened.values())).toBeLessThanOrEqual(2);
  });

  it.each([0, 1, 2])('can be deleted again when %i of its files are gone', async (cut) => {
    const provider = new MemoryProvider();
    await make(provider, '/a.qcow2', { config: { data_file: 'a.data' } });
    await make(provider, '/other.qcow2');
    expect(await cutAt(provider, cut)).toHaveLength(cut);
    const left = (await namesIn(provider)).filter((name) => name !== '/other.qcow2');
    // Nothing is left that no image names.
    expect(left).toEqual([['/a.data', '/a.qcow2'], ['/a.qcow2'], []][cut]);
    if (cut < 2) {
      const { removed, warnings } = await removeImage(at(provider, '/a.qcow2'), { allow: ['/a.data'] });
      expect(removed).toContain('/a.qcow2');
      expect(warnings).toEqual(cut === 1 ? ['/a.data (external data file) does not exist.'] : []);
    }
    expect(await namesIn(provider)).toEqual(['/other.qcow2']);
  });
});
