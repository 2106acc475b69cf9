/** Images that are directories: made, converted to, replaced, cut, copied, renamed, checked and deleted as a whole. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  checkImage,
  convert,
  copyImage,
  createImage,
  Disk,
  inspect,
  moveImage,
  removeImage,
  renameImage,
} from '../../src/index.ts';
import type { Source, StorageProvider } from '../../src/storage/contract.ts';
import { forwardedProvider } from '../../src/storage/forwarding.ts';
import { localFiles } from '../../src/storage/local/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, FaultProvider, RecordingProvider } from '../../src/testing/index.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { rounds } from '../conformance/random.ts';
import { withToys } from '../formats/toys/registry.ts';

const SIZE = 96 * 1024;
const registry = withToys();
const FILES = ['part-1.bin', 'part-2.bin', 'part-3.bin', 'parts.txt'];
const TO = { registry, format: 'toy-bundle', sourceFormat: 'raw' } as const;

async function baseNames(provider: StorageProvider, directory: string): Promise<string[]> {
  const names: string[] = [];
  if ((await provider.lookUp(directory)) === null) return names;
  for await (const name of provider.list(directory)) names.push(name.slice(directory.length + 1));
  return names.sort();
}

async function contentOf(provider: StorageProvider, name: string): Promise<Buffer> {
  await using disk = await Disk.open({ provider, name }, { registry, lock: false });
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** A raw disk of this byte. */
async function makeSource(provider: StorageProvider, name: string, byte: number): Promise<Buffer> {
  const bytes = Buffer.alloc(SIZE, byte);
  const storage = await provider.create(name);
  await storage.write(0, bytes);
  await storage.flush();
  await storage.close();
  return bytes;
}

async function write(provider: StorageProvider, name: string): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, new Uint8Array(512));
  await storage.close();
}

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-directories-'));
  await mkdir(join(folder, 'a'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe.each([
  ['memory', () => new MemoryProvider(), () => '/a'],
  ['local files', () => localFiles(), () => join(folder, 'a')],
] satisfies [string, () => StorageProvider, () => string][])(
  'an image that is a directory, in %s',
  (_, providerOf, directoryOf) => {
    async function place() {
      const provider: StorageProvider = providerOf();
      const directory: string = directoryOf();
      const at = (name: string): Source => ({ provider, name: `${directory}/${name}` });
      const bytes = await makeSource(provider, at('source.raw').name, 7);
      return {
        provider,
        at,
        bytes,
        raw: at('source.raw'),
        files: (name: string): Promise<string[]> => baseNames(provider, at(name).name),
      };
    }

    it('is created with all its files, and is written, checked and listed', async () => {
      const { provider, at, files } = await place();
      const made = await createImage(at('new.toybundle'), { registry, size: SIZE });
      expect(made).toMatchObject({ format: 'toy-bundle', virtualSize: SIZE });
      expect(await files('new.toybundle')).toEqual(FILES);
      await expectKind(() => createImage(at('new.toybundle'), { registry, size: SIZE }), 'exists');
      {
        await using disk = await Disk.open(at('new.toybundle'), { registry, mode: 'write' });
        await disk.write(SIZE / 3 - 512, new Uint8Array(1024).fill(5));
      }
      const bytes = await contentOf(provider, at('new.toybundle').name);
      expect(bytes.equals(Buffer.alloc(SIZE).fill(5, SIZE / 3 - 512, SIZE / 3 + 512))).toBe(true);
      expect((await checkImage(at('new.toybundle'), { registry })).findings).toEqual([]);
      await write(provider, `${at('new.toybundle').name}/stray`);
      expect((await checkImage(at('new.toybundle'), { registry })).findings).toMatchObject([{ code: 'stray' }]);
    });

    it('is converted to and from, and replaced by force, twice', async () => {
      const { provider, at, bytes, raw, files } = await place();
      const target = at('new.toybundle');
      await convert(raw, target, TO);
      expect((await contentOf(provider, target.name)).equals(bytes)).toBe(true);
      await expectKind(() => convert(raw, target, TO), 'exists');
      const other = await makeSource(provider, at('other.raw').name, 9);
      for (const [from, wanted] of [
        ['other.raw', other],
        ['source.raw', bytes],
      ] as const) {
        const { warnings } = await convert(at(from), target, { ...TO, force: true });
        expect(warnings).toEqual([]);
        expect((await contentOf(provider, target.name)).equals(wanted)).toBe(true);
      }
      await convert(target, at('back.vdi'), { registry });
      expect((await contentOf(provider, at('back.vdi').name)).equals(bytes)).toBe(true);
      expect(await files('new.toybundle')).toEqual(FILES);
      const names = await baseNames(provider, directoryOf());
      expect(names.filter((name) => name.includes('tmp'))).toEqual([]);
    });

    it('replaces nothing but an image of its format, and keeps files that do not belong to it', async () => {
      const { provider, at, raw, files } = await place();
      if (provider !== localFiles()) await write(provider, `${at('photos').name}/one.jpg`);
      else await provider.makeDirectory?.(at('photos').name);
      for (const name of ['photos', 'source.raw']) {
        await expectKind(
          () => createImage(at(name), { registry, format: 'toy-bundle', size: SIZE, force: true }),
          'unsupported',
        );
      }
      expect((await provider.lookUp(at('photos').name))?.kind).toBe('directory');
      await convert(raw, at('new.toybundle'), TO);
      await write(provider, `${at('new.toybundle').name}/notes.txt`);
      const { warnings } = await convert(raw, at('new.toybundle'), { ...TO, force: true });
      const [warning = ''] = warnings;
      const left = /it was renamed to (.*?): /.exec(warning)?.[1] ?? '';
      expect(await baseNames(provider, left)).toEqual(['notes.txt']);
      expect(await files('new.toybundle')).toEqual(FILES);
    });

    it('leaves nothing behind when it is cancelled, and can be made then', async () => {
      const { provider, at, raw } = await place();
      const stop = new AbortController();
      const cancelled = convert(raw, at('new.toybundle'), {
        ...TO,
        signal: stop.signal,
        onProgress: () => stop.abort(),
      });
      await expectKind(() => cancelled, 'aborted');
      expect(await baseNames(provider, directoryOf())).toEqual(['source.raw']);
      expect(await provider.lookUp(at('new.toybundle').name)).toBeNull();
      await convert(raw, at('new.toybundle'), TO);
    });

    it('is copied, renamed, moved and deleted with all its files', async () => {
      const { provider, at, bytes, raw, files } = await place();
      await convert(raw, at('new.toybundle'), TO);
      {
        await using disk = await Disk.open(at('new.toybundle'), { registry });
        await copyImage(disk, 'last', at('copy.toybundle'), { registry });
      }
      expect((await contentOf(provider, at('copy.toybundle').name)).equals(bytes)).toBe(true);
      await expectKind(() => renameImage(at('new.toybundle'), at('copy.toybundle').name, { registry }), 'exists');
      await renameImage(at('new.toybundle'), at('second.toybundle').name, { registry });
      expect(await provider.lookUp(at('new.toybundle').name)).toBeNull();
      await moveImage(at('second.toybundle'), at('third.toybundle'), { registry });
      expect((await contentOf(provider, at('third.toybundle').name)).equals(bytes)).toBe(true);
      expect(await files('third.toybundle')).toEqual(FILES);
      {
        const disk = await Disk.open(at('third.toybundle'), { registry, mode: 'write' });
        await expectKind(() => disk.closeLast({ remove: true }), 'unsupported');
        await disk.close();
        expect(await files('third.toybundle')).toEqual(FILES);
      }
      const { removed, warnings } = await removeImage(at('third.toybundle'), { registry });
      expect([removed.length, warnings]).toEqual([5, []]);
      expect(await provider.lookUp(at('third.toybundle').name)).toBeNull();
      await write(provider, `${at('copy.toybundle').name}/notes.txt`);
      expect((await removeImage(at('copy.toybundle'), { registry })).warnings).toHaveLength(1);
      expect(await files('copy.toybundle')).toEqual(['notes.txt']);
    });
  },
);

describe('a directory on a medium that fails', () => {
  const raw = '/a/source.raw';
  const target = '/a/new.toybundle';
  const options = { ...TO, force: true } as const;

  /** The old image, and a source for the new one. */
  async function replacing() {
    const provider = new MemoryProvider();
    const old = await makeSource(provider, '/a/old.raw', 3);
    await convert({ provider, name: '/a/old.raw' }, { provider, name: target }, options);
    const bytes = await makeSource(provider, raw, 7);
    return { provider, old, bytes };
  }

  it('is the old image or the new one after any failure, with no other files', async () => {
    for (const point of ['names', 'flush', 'write'] as const) {
      for (let fail = 0; ; fail++) {
        const { provider, old, bytes } = await replacing();
        const made: string[] = [];
        const noting = forwardedProvider(provider, {
          async makeDirectory(name) {
            made.push(name);
            await provider.makeDirectory(name);
          },
        });
        const faults = new FaultProvider(noting, { fail: { [point]: fail } });
        const done = await convert({ provider: faults, name: raw }, { provider: faults, name: target }, options).then(
          () => true,
          () => false,
        );
        const found = await contentOf(provider, target);
        const what = `${point} ${fail}: ${done}`;
        expect(found.equals(bytes) || (!done && found.equals(old)), what).toBe(true);
        expect(await baseNames(provider, target), what).toEqual(FILES);
        for (const name of made) expect(await provider.lookUp(name), what).toBeNull();
        if (!faults.fired) break;
      }
    }
  });

  it('takes no room after a full disk', async () => {
    const { provider, old } = await replacing();
    const full = new FaultProvider(provider, { capacity: SIZE / 2, kind: 'no-space' });
    await expectKind(
      () => convert({ provider: full, name: raw }, { provider: full, name: target }, options),
      'no-space',
    );
    expect((await contentOf(provider, target)).equals(old)).toBe(true);
    expect(await baseNames(provider, '/a')).toEqual(['old.raw', 'source.raw']);
  });

  it('is the old image, the new one, or none after a power cut', async () => {
    const { provider, old, bytes } = await replacing();
    const recorder = new RecordingProvider(provider);
    await convert({ provider: recorder, name: raw }, { provider: recorder, name: target }, options);
    const seen = { old: 0, new: 0, none: 0 };
    for (const state of crashStates(recorder.log, provider, { maxStates: rounds(150, 1000) })) {
      if ((await state.provider.lookUp(target)) === null) {
        seen.none++;
        continue;
      }
      const found = await contentOf(state.provider, target);
      expect(found.equals(old) || found.equals(bytes), state.describe()).toBe(true);
      seen[found.equals(old) ? 'old' : 'new']++;
    }
    expect(Math.min(seen.old, seen.new)).toBeGreaterThan(5);
    expect((await inspect({ provider, name: target }, { registry })).virtualSize).toBe(SIZE);
  });

  it('is there with all its files after a power cut once it was made', async () => {
    const provider = new MemoryProvider();
    const bytes = await makeSource(provider, raw, 7);
    const recorder = new RecordingProvider(provider);
    await convert({ provider: recorder, name: raw }, { provider: recorder, name: target }, TO);
    let made = 0;
    for (const state of crashStates(recorder.log, provider, { maxStates: rounds(150, 1000) })) {
      if ((await state.provider.lookUp(target)) === null) {
        expect(state.cutAt, state.describe()).toBeLessThan(recorder.log.position);
        continue;
      }
      made++;
      expect((await contentOf(state.provider, target)).equals(bytes), state.describe()).toBe(true);
    }
    expect(made).toBeGreaterThan(0);
  });
});
