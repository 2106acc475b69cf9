import { describe, expect, it, vi } from 'vitest';
import { ImageError } from '../errors.ts';
import { crashStates, FaultProvider, RecordingProvider } from '../testing/index.ts';
import type { StagedSet, Storage, StorageProvider } from './contract.ts';
import { MemoryProvider, MemoryStorage } from './memory.ts';
import { type StageOptions, stageTarget } from './staging.ts';

async function put(provider: StorageProvider, name: string, byte: number): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, Uint8Array.of(byte));
  await storage.close();
}

async function firstByte(provider: StorageProvider, name: string): Promise<number | undefined> {
  const storage = await provider.open(name, 'read');
  const target = new Uint8Array(1);
  await storage.read(0, target);
  return target[0];
}

async function staged(provider: MemoryProvider, name: string, force = false) {
  const target = await stageTarget({ provider, name }, { force });
  const files = await target.create();
  const storage: Storage = files.main;
  await storage.write(0, Uint8Array.of(7));
  return { target, storage, files };
}

async function namesIn(provider: StorageProvider, directory: string): Promise<string[]> {
  const names: string[] = [];
  for await (const name of provider.list(directory)) names.push(name);
  return names.sort();
}

/** Notes new names and when they are durable. */
class Watched extends MemoryProvider {
  readonly calls: string[] = [];

  override async rename(from: string, to: string, how: { readonly replace: boolean }): Promise<void> {
    this.calls.push(to);
    await super.rename(from, to, how);
  }

  override async link(from: string, to: string): Promise<void> {
    this.calls.push(to);
    await super.link(from, to);
  }

  override async syncNames(): Promise<void> {
    this.calls.push('sync');
  }
}

describe('stageTarget', () => {
  it('shows the target only when it is published', async () => {
    const provider = new MemoryProvider();
    const { target, storage } = await staged(provider, '/new.vdi');
    expect(storage.label).toBe('/new.vdi');
    expect(await namesIn(provider, '/')).toEqual([expect.stringMatching(/^\/\.new\.vdi\./)]);
    expect(await provider.lookUp('/new.vdi')).toBeNull();
    await target.publish();
    expect(await namesIn(provider, '/')).toEqual(['/new.vdi']);
    expect(await firstByte(provider, '/new.vdi')).toBe(7);
  });

  describe('of several files', () => {
    async function twoFiles(provider: StorageProvider, how: Partial<StageOptions> = {}) {
      const target = await stageTarget({ provider, name: '/new.qcow2' }, { force: false, ...how });
      const { main, part } = await target.create();
      const data = await part('new.data');
      await data.write(0, Uint8Array.of(8));
      await main.write(0, Uint8Array.of(7));
      for (const storage of [data, main]) await storage.flush();
      return { target, data };
    }

    /** An image of two files, and what says that the second one belongs to it. */
    async function oldImage(provider: StorageProvider) {
      await put(provider, '/new.qcow2', 1);
      await put(provider, '/new.data', 2);
      const { key } = (await provider.lookUp('/new.data')) ?? { key: '' };
      return { force: true, replaces: () => Promise.resolve(new Set([key])) };
    }

    const content = async (provider: StorageProvider): Promise<string> => {
      const bytes: string[] = [];
      for (const name of ['/new.qcow2', '/new.data']) {
        bytes.push((await provider.lookUp(name)) === null ? '-' : String(await firstByte(provider, name)));
      }
      return bytes.join(' ');
    };

    it('shows none of them until all are complete, and the one that names the others last', async () => {
      const provider = new Watched();
      const { target, data } = await twoFiles(provider);
      expect(data.label).toBe('/new.data');
      expect(await content(provider)).toBe('- -');
      await target.publish();
      expect(provider.calls).toEqual(['/new.data', 'sync', '/new.qcow2', 'sync']);
      expect(await namesIn(provider, '/')).toEqual(['/new.data', '/new.qcow2']);
      expect(await content(provider)).toBe('7 8');
    });

    it.each([false, true])('never replaces a foreign part, and says so before (force %s)', async (force) => {
      const provider = new MemoryProvider();
      await put(provider, '/new.data', 5);
      for (const name of ['new.data', '/new.data', '/x/../new.data']) {
        const target = await stageTarget({ provider, name: '/new.qcow2' }, { force });
        const { part } = await target.create();
        await expect(part(name)).rejects.toMatchObject({ kind: 'exists', context: { path: '/new.data' } });
        await target.discard();
      }
      expect(await namesIn(provider, '/')).toEqual(['/new.data']);
      expect(await content(provider)).toBe('- 5');
    });

    /** The state that a cut leaves between the names of the parts and that of the main file. */
    async function cutBeforeMain(provider: MemoryProvider): Promise<void> {
      const { target } = await twoFiles(provider, { lock: false });
      const rename = vi.spyOn(provider, 'rename').mockRejectedValue(new Error('cut'));
      await expect(target.publish()).rejects.toThrow('cut');
      rename.mockRestore();
      expect(await content(provider)).toBe('- 8');
    }

    it('can be made again after a cut between their names', async () => {
      const provider = new MemoryProvider();
      await cutBeforeMain(provider);
      const { target } = await twoFiles(provider);
      await target.publish();
      expect(await content(provider)).toBe('7 8');
    });

    it('takes no part for a leftover while another program makes it, nor when its image has its name', async () => {
      const provider = new MemoryProvider();
      await cutBeforeMain(provider);
      const main = (await namesIn(provider, '/')).find((name) => /^\/\.new\.qcow2\.\d+\.vdkit-tmp$/.test(name)) ?? '';
      const other = await provider.open(main, 'write');
      await other.lock('exclusive');
      await expect(twoFiles(provider)).rejects.toMatchObject({ kind: 'exists', context: { path: '/new.data' } });
      await other.close();
      await provider.rename(main, '/other.qcow2', { replace: false });
      await expect(twoFiles(provider)).rejects.toMatchObject({ kind: 'exists', context: { path: '/new.data' } });
      expect(await firstByte(provider, '/new.data')).toBe(8);
    });

    it('has one name for each of them', async () => {
      const target = await stageTarget({ provider: new MemoryProvider(), name: '/new.qcow2' }, { force: false });
      const { part } = await target.create();
      await part('new.data');
      for (const name of ['new.qcow2', '/new.data']) {
        await expect(part(name)).rejects.toMatchObject({ kind: 'invalid-argument' });
      }
      await target.discard();
    });

    it.each(['/new.data', '/new.qcow2'])('leaves nothing when somebody else takes the name %s', async (taken) => {
      const provider = new MemoryProvider();
      const { target } = await twoFiles(provider);
      await put(provider, taken, 5);
      await expect(target.publish()).rejects.toMatchObject({ kind: 'exists', context: { path: taken } });
      await target.discard();
      expect(await namesIn(provider, '/')).toEqual([taken]);
      expect(await firstByte(provider, taken)).toBe(5);
    });

    it('replaces the files of an old image, and no other', async () => {
      const provider = new Watched();
      const { target } = await twoFiles(provider, await oldImage(provider));
      expect(await content(provider)).toBe('1 2');
      const other = await provider.open('/new.data', 'read');
      await expect(other.lock('shared')).rejects.toMatchObject({ kind: 'locked' });
      await target.publish();
      await other.lock('shared');
      expect(await namesIn(provider, '/')).toEqual(['/new.data', '/new.qcow2']);
      expect(await content(provider)).toBe('7 8');
      const hidden = (name: string) => expect.stringMatching(new RegExp(`^/\\.new\\.${name}\\.`));
      const old = [hidden('qcow2'), 'sync', hidden('data'), 'sync'];
      expect(provider.calls).toEqual([...old, '/new.data', 'sync', '/new.qcow2', 'sync']);
    });

    it('is locked, every file of it, until it has its names', async () => {
      const provider = new MemoryProvider();
      const { target } = await twoFiles(provider);
      const temporary = await namesIn(provider, '/');
      expect(temporary).toHaveLength(2);
      const others = await Promise.all(temporary.map((name) => provider.open(name, 'read')));
      for (const other of others) await expect(other.lock('shared')).rejects.toMatchObject({ kind: 'locked' });
      await target.publish();
      for (const other of others) await other.lock('shared');
    });

    it.each([
      ['new', '- -'],
      ['old', '1 2'],
    ])('is what it was after a failure at any name (%s)', async (old, before) => {
      for (let at = 0, failed = true; failed; at++) {
        const inner = new MemoryProvider();
        const how = old === 'old' ? await oldImage(inner) : {};
        const provider = new FaultProvider(inner);
        const { target } = await twoFiles(provider, how);
        provider.plan({ fail: { names: at } });
        const ended = await target.publish().then(
          () => true,
          () => false,
        );
        failed = provider.fired;
        await target.discard();
        const whole = await content(inner);
        expect(ended ? ['7 8'] : [before, '7 8'], `at ${at}`).toContain(whole);
        const names = whole === '- -' ? [] : ['/new.data', '/new.qcow2'];
        expect((await namesIn(inner, '/')).filter((name) => !ended || !name.startsWith('/.'))).toEqual(names);
      }
    });

    it.each([
      ['new', ['- -', '- 8', '7 8']],
      ['old', ['1 2', '- 2', '- -', '- 8', '7 8']],
    ])('is whole, or not there, when the power goes (%s)', async (old, allowed) => {
      const inner = new MemoryProvider();
      const how = old === 'old' ? await oldImage(inner) : {};
      const recorder = new RecordingProvider(inner);
      const { target } = await twoFiles(recorder, how);
      await target.publish();
      const seen = new Set<string>();
      for (const state of crashStates(recorder.log, inner, { maxStates: 500 })) {
        const found = await content(state.provider);
        expect(allowed, state.describe()).toContain(found);
        seen.add(found);
      }
      expect(seen).toEqual(new Set(allowed));
    });
  });

  describe('on a provider that cannot rename', () => {
    /** Uploads that are completed together, as to an object store. */
    class Objects extends MemoryProvider {
      override rename(): Promise<never> {
        throw new Error('objects have no other names');
      }
      override temporaryName(): never {
        throw new Error('uploads have none');
      }
      stage(): StagedSet {
        const uploads = new Map<string, MemoryStorage>();
        return {
          create: async (name, label = name) => {
            const upload = new MemoryStorage(label);
            uploads.set(name, upload);
            return upload;
          },
          dress: async () => [],
          publish: async (main, { replace }) => {
            if (!replace && (await this.lookUp(main)) !== null) throw new ImageError('exists', 'taken', { path: main });
            for (const [name, upload] of uploads) {
              if (replace && (await this.lookUp(name)) !== null) await this.remove(name);
              const bytes = new Uint8Array(upload.size);
              await upload.read(0, bytes);
              await (await this.create(name)).write(0, bytes);
            }
            uploads.clear();
            return [];
          },
          discard: async () => uploads.clear(),
        };
      }
    }

    it('is up to that: files appear together, or none does', async () => {
      const provider = new Objects();
      for (const end of ['discard', 'publish'] as const) {
        const target = await stageTarget({ provider, name: '/new.qcow2' }, { force: false });
        const { main, part } = await target.create();
        await (await part('new.data')).write(0, Uint8Array.of(8));
        await main.write(0, Uint8Array.of(7));
        expect(await namesIn(provider, '/')).toEqual([]);
        await target[end]();
        expect(await namesIn(provider, '/')).toEqual(end === 'discard' ? [] : ['/new.data', '/new.qcow2']);
      }
      expect(await firstByte(provider, '/new.qcow2')).toBe(7);
      const { target } = await staged(provider, '/new.qcow2', true);
      await target.publish();
      await expect(stageTarget({ provider, name: '/new.qcow2' }, { force: false })).rejects.toMatchObject({
        kind: 'exists',
      });
    });
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
    await expect(target.create()).rejects.toMatchObject({ kind: 'exists', context: { path: '/new.vdi' } });
    for (const name of await namesIn(provider, '/')) await provider.remove(name);
    await expect(target.publish()).rejects.toMatchObject({ kind: 'not-found', context: { path: '/new.vdi' } });
  });

  it('keeps others away from what it makes until that has its name, also when the format has closed it', async () => {
    const provider = new MemoryProvider();
    const { target, storage } = await staged(provider, '/new.vdi');
    await storage.close();
    await expect(storage.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
    const [temporary = ''] = await namesIn(provider, '/');
    const other = await provider.open(temporary, 'read');
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
