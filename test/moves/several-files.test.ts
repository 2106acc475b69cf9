/** Whole images of several files: all of them are made, replaced, removed and moved together, or none is. */
import { describe, expect, it } from 'vitest';
import {
  convert,
  copyChain,
  createImage,
  Disk,
  inspect,
  moveImage,
  removeImage,
  renameImage,
} from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, FaultProvider, RecordingProvider } from '../../src/testing/index.ts';
import { withToys } from '../formats/toys/registry.ts';

const SIZE = 512 * 1024;
const registry = withToys();

interface Kind {
  readonly title: string;
  readonly format: string;
  /** All files of an image, the main one last. */
  readonly files: readonly string[];
  readonly config: Readonly<Record<string, string>>;
  /** The names of the parts continue that of the image, so that they need no further permission. */
  readonly own: boolean;
}

const KINDS: readonly Kind[] = [
  {
    title: 'qcow2 with a data file',
    format: 'qcow2',
    files: ['/a/guest.raw', '/a/new.qcow2'],
    config: { data_file: 'guest.raw' },
    own: false,
  },
  {
    title: 'halves',
    format: 'halves',
    files: ['/a/new-1.half', '/a/new-2.half', '/a/new.halves'],
    config: {},
    own: true,
  },
];

const mainOf = ({ files }: Kind): string => files.at(-1) ?? '';

async function namesIn(provider: StorageProvider, directory = '/a'): Promise<string[]> {
  const names: string[] = [];
  for await (const name of provider.list(directory)) names.push(name);
  return names.sort();
}

async function makeSource(provider: StorageProvider, value = 7): Promise<void> {
  // A directory is there by what it has in it.
  const placeholder = await provider.create('/a/x');
  await createImage({ provider, name: '/a/source.vdi' }, { size: SIZE, config: { AllocationBlockSize: 4096 } });
  await placeholder.close();
  await provider.remove('/a/x');
  await using disk = await Disk.open({ provider, name: '/a/source.vdi' }, { mode: 'write', flushAfterMs: 0 });
  await disk.write(0, new Uint8Array(SIZE).fill(value));
}

function make(provider: StorageProvider, kind: Kind, force = false): Promise<unknown> {
  const { format, config } = kind;
  return createImage({ provider, name: mainOf(kind) }, { registry, format, config, size: SIZE, force });
}

function convertTo(provider: StorageProvider, kind: Kind, own: Parameters<typeof convert>[2] = {}): Promise<unknown> {
  const { format, config } = kind;
  const target = { provider, name: mainOf(kind) };
  return convert({ provider, name: '/a/source.vdi' }, target, { registry, format, config, ...own });
}

/** The byte that all of the disk has. */
async function byteOf(provider: StorageProvider, kind: Kind, name = mainOf(kind)): Promise<number | null> {
  const how = { registry, format: kind.format, allow: ['/a', '/b'] };
  await using disk = await Disk.open({ provider, name }, how);
  const bytes = new Uint8Array(SIZE);
  await disk.read(0, bytes);
  return bytes.every((byte) => byte === bytes[0]) ? (bytes[0] ?? null) : null;
}

describe.each(KINDS)('an image of several files ($title)', (kind) => {
  const source = '/a/source.vdi';

  it('is not there when its conversion is cancelled, and can be converted again', async () => {
    const provider = new MemoryProvider();
    await makeSource(provider);
    const abort = new AbortController();
    const seen: string[][] = [];
    const onProgress = (): void => {
      void namesIn(provider).then((names) => seen.push(names));
      abort.abort();
    };
    await expect(convertTo(provider, kind, { signal: abort.signal, onProgress })).rejects.toMatchObject({
      kind: 'aborted',
    });
    expect(seen.flat().filter((name) => kind.files.includes(name))).toEqual([]);
    expect(await namesIn(provider)).toEqual([source]);
    await convertTo(provider, kind);
    expect(await namesIn(provider)).toEqual([...kind.files, source].sort());
    expect(await byteOf(provider, kind)).toBe(7);
  });

  it('can be made twice with force, and without it stays what it was', async () => {
    const provider = new MemoryProvider();
    await makeSource(provider);
    await make(provider, kind);
    await expect(make(provider, kind)).rejects.toMatchObject({ kind: 'exists', context: { path: mainOf(kind) } });
    await make(provider, kind, true);
    expect(await byteOf(provider, kind)).toBe(0);
    await convertTo(provider, kind, { force: true });
    expect(await byteOf(provider, kind)).toBe(7);
    expect(await namesIn(provider)).toEqual([...kind.files, source].sort());
  });

  it('can replace itself by what it reads', async () => {
    const provider = new MemoryProvider();
    await makeSource(provider);
    await convertTo(provider, kind);
    const { format, config } = kind;
    const image = { provider, name: mainOf(kind) };
    await convert(image, image, { registry, format, config, sourceFormat: format, force: true, allow: ['/a'] });
    expect(await byteOf(provider, kind)).toBe(7);
    expect(await namesIn(provider)).toEqual([...kind.files, source].sort());
  });

  it('replaces no file of anything else', async () => {
    const [part = ''] = kind.files;
    for (const force of [false, true]) {
      const provider = new MemoryProvider();
      await makeSource(provider);
      await (await provider.create(part)).write(0, Uint8Array.of(5));
      const before = await namesIn(provider);
      for (const run of [() => make(provider, kind, force), () => convertTo(provider, kind, { force })]) {
        await expect(run()).rejects.toMatchObject({ kind: 'exists', context: { path: part } });
        expect(await namesIn(provider)).toEqual(before);
      }
      // Not even where another image of that name is replaced.
      await createImage({ provider, name: mainOf(kind) }, { size: SIZE, format: 'vdi' });
      await expect(make(provider, kind, true)).rejects.toMatchObject({ kind: 'exists', context: { path: part } });
      const bytes = new Uint8Array(1);
      await (await provider.open(part, 'read')).read(0, bytes);
      expect([...bytes]).toEqual([5]);
    }
  });

  it('leaves nothing on a full disk', async () => {
    for (const room of [0, 1, 64, 200, 700].map((kib) => kib * 1024)) {
      const inner = new MemoryProvider();
      await makeSource(inner);
      const used = (await inner.lookUp(source))?.size ?? 0;
      const provider = new FaultProvider(inner);
      provider.plan({ capacity: used + room });
      for (const run of [() => make(provider, kind), () => convertTo(provider, kind)]) {
        await run().then(
          () => Promise.all(kind.files.map((name) => inner.remove(name))),
          (error: unknown) => expect(error).toMatchObject({ kind: 'no-space' }),
        );
        expect(await namesIn(inner), `${room}`).toEqual([source]);
      }
    }
  });

  it('leaves nothing, whatever fails', async () => {
    for (const point of ['names', 'write', 'flush'] as const) {
      for (let at = 0, fired = true; fired; at++) {
        const inner = new MemoryProvider();
        const provider = new FaultProvider(inner);
        await makeSource(inner);
        provider.plan({ fail: { [point]: at } });
        await convertTo(provider, kind).catch(() => {});
        fired = provider.fired;
        const names = (await namesIn(inner)).filter((name) => name !== source);
        // A failure behind the last name leaves the image.
        if (names.length > 0) expect(names, `${point} ${at}`).toEqual([...kind.files].sort());
        if (names.length > 0) expect(await byteOf(inner, kind)).toBe(7);
      }
    }
  });

  it.each([false, true])('is whole, or not there, when the power goes (replacing: %s)', async (force) => {
    const inner = new MemoryProvider();
    await makeSource(inner);
    if (force) await convertTo(inner, kind);
    await using disk = await Disk.open({ provider: inner, name: source }, { mode: 'write', flushAfterMs: 0 });
    await disk.write(0, new Uint8Array(SIZE).fill(9));
    await disk.close();
    const recorder = new RecordingProvider(inner);
    await convertTo(recorder, kind, { force });
    const seen = new Set<number | null>();
    for (const state of crashStates(recorder.log, inner, { maxStates: 150 })) {
      if ((await state.provider.lookUp(mainOf(kind))) === null) continue;
      const value = await byteOf(state.provider, kind);
      expect(force ? [7, 9] : [9], state.describe()).toContain(value);
      seen.add(value);
    }
    expect(seen).toEqual(new Set(force ? [7, 9] : [9]));
  });

  const at = (provider: StorageProvider, name = mainOf(kind)) => ({ provider, name });
  const options = { registry, format: kind.format, allow: ['/a', '/b', ...kind.files] };
  const elsewhere = kind.files.map((name) => name.replace('/a/', '/b/'));

  async function made(provider = new MemoryProvider()): Promise<MemoryProvider> {
    await makeSource(provider);
    await convertTo(provider, kind);
    await provider.remove(source);
    // A directory is there by what it has in it.
    await (await provider.create('/b/x')).close();
    return provider;
  }

  it('is deleted whole, where its parts are allowed by their names', async () => {
    const provider = await made();
    if (!kind.own) {
      await expect(removeImage(at(provider), { ...options, allow: ['/a'] })).rejects.toMatchObject({ kind: 'denied' });
      expect(await namesIn(provider)).toEqual([...kind.files].sort());
    }
    const { removed, warnings } = await removeImage(at(provider), kind.own ? { registry } : options);
    expect({ removed: [...removed].sort(), warnings }).toEqual({ removed: [...kind.files].sort(), warnings: [] });
    expect(removed[0]).toBe(mainOf(kind));
    expect(await namesIn(provider)).toEqual([]);
  });

  it('is deleted without a part that is missing', async () => {
    const provider = await made();
    const [part = ''] = kind.files;
    await provider.remove(part);
    const { warnings } = await removeImage(at(provider), options);
    expect(warnings).toEqual([expect.stringContaining(part)]);
    expect(await namesIn(provider)).toEqual([]);
  });

  it.each(['shared', 'exclusive'] as const)('stays while another program has a part of it (%s)', async (mode) => {
    const provider = await made();
    for (const part of kind.files) {
      const other = await provider.open(part, 'write');
      await other.lock(mode);
      await expect(removeImage(at(provider), options)).rejects.toMatchObject({ kind: 'locked' });
      const target = new MemoryProvider();
      await (await target.create('/b/x')).close();
      await expect(moveImage(at(provider), at(target, '/b/new'), options)).rejects.toMatchObject({ kind: 'locked' });
      await other.close();
    }
    expect(await namesIn(provider)).toEqual([...kind.files].sort());
  });

  it('stays where another image uses a part of it', async () => {
    const provider = await made();
    const main = await provider.open(mainOf(kind), 'read');
    const twin = await provider.create('/a/twin');
    const bytes = new Uint8Array(main.size);
    await main.read(0, bytes);
    await twin.write(0, bytes);
    const refused = { kind: 'busy', message: expect.stringContaining('/a/twin also uses') };
    await expect(removeImage(at(provider), options)).rejects.toMatchObject(refused);
    const to = mainOf({ ...kind, files: elsewhere });
    await expect(renameImage(at(provider), to, options)).rejects.toMatchObject(refused);
    expect(await namesIn(provider)).toEqual([...kind.files, '/a/twin'].sort());
    // Its parts do not move with it in its directory.
    await renameImage(at(provider), '/a/other', options);
    expect(await byteOf(provider, kind, '/a/other')).toBe(7);
    expect(await byteOf(provider, kind, '/a/twin')).toBe(7);
    const { warnings } = await removeImage(at(provider, '/a/other'), { ...options, force: true });
    expect(warnings.join()).toContain('/a/twin also uses');
  });

  it('is renamed with its parts', async () => {
    const provider = await made();
    const to = mainOf({ ...kind, files: elsewhere });
    const without = { ...options, allow: ['/a'] };
    if (!kind.own) await expect(renameImage(at(provider), to, without)).rejects.toMatchObject({ kind: 'denied' });
    await renameImage(at(provider), to, kind.own ? without : options);
    expect(await namesIn(provider)).toEqual([]);
    expect(await namesIn(provider, '/b')).toEqual([...elsewhere, '/b/x'].sort());
    expect(await byteOf(provider, kind, to)).toBe(7);
  });

  it('is moved with its parts, also to another provider', async () => {
    const provider = await made();
    const to = mainOf({ ...kind, files: elsewhere });
    const other = new MemoryProvider();
    await (await other.create('/b/x')).close();
    await moveImage(at(provider), at(other, to), options);
    expect(await namesIn(provider)).toEqual([]);
    expect(await namesIn(other, '/b')).toEqual([...elsewhere, '/b/x'].sort());
    expect(await byteOf(other, kind, to)).toBe(7);
  });

  it('leaves none of its parts when it is moved into another format', async () => {
    const provider = await made();
    await moveImage(at(provider), at(provider, '/b/new.vdi'), { ...options, to: 'vdi' });
    expect(await namesIn(provider)).toEqual([]);
    expect(await namesIn(provider, '/b')).toEqual(['/b/new.vdi', '/b/x']);
  });

  it('is copied to where nothing needs the original', async () => {
    const provider = await made();
    const to = mainOf({ ...kind, files: elsewhere });
    {
      await using disk = await Disk.open(at(provider), options);
      expect(disk.images[0]?.files).toEqual([mainOf(kind), ...kind.files.slice(0, -1)]);
      await copyChain(disk, () => at(provider, to), { registry });
    }
    await removeImage(at(provider), options);
    expect(await byteOf(provider, kind, to)).toBe(7);
  });

  it('is taken off a disk with all its files', async () => {
    const provider = await made();
    const disk = await Disk.open(at(provider), { ...options, mode: 'write', flushAfterMs: 0 });
    await disk.closeLast({ remove: true });
    expect(await namesIn(provider)).toEqual([]);
  });

  it('has the sizes and the locks of all its files', async () => {
    const provider = await made();
    const sizes = await Promise.all(kind.files.map(async (name) => (await provider.lookUp(name))?.size ?? 0));
    const sum = sizes.reduce((total, size) => total + size, 0);
    const report = await inspect(at(provider), options);
    expect(report).toMatchObject({ fileSize: sum, lock: { held: 'none' } });
    expect(report.allocatedSize).toBeGreaterThanOrEqual(SIZE);
    expect(report.parts.map(({ file, fileSize }) => [file, fileSize])).toEqual(
      kind.files.slice(0, -1).map((name, at) => [name, sizes[at]]),
    );
    const denied = await inspect(at(provider), { ...options, allow: 'none' });
    expect(denied.fileSize).toBe(kind.own ? sum : sizes.at(-1));
    if (!kind.own) expect(denied.parts).toEqual([expect.objectContaining({ fileSize: null, allocatedSize: null })]);
    for (const name of kind.files) {
      const other = await provider.open(name, 'write');
      await other.lock('exclusive');
      expect((await inspect(at(provider), options)).lock.held, name).toBe('exclusive');
      await expect(Disk.open(at(provider), options), name).rejects.toMatchObject({ kind: 'locked' });
      await other.close();
    }
  });
});

describe('a part that continues the name of its image', () => {
  it.each([
    ['disk.raw', false],
    ['disk-data.raw', true],
    ['disk.qcow2.raw', true],
    ['disks.raw', false],
    ['data.raw', false],
  ])('%s is opened without allow: %s', async (data_file, own) => {
    const provider = new MemoryProvider();
    const image = { provider, name: '/disk.qcow2' };
    await createImage(image, { format: 'qcow2', size: SIZE, config: { data_file } });
    for (const mode of ['read', 'write'] as const) {
      const opening = Disk.open(image, { mode, flushAfterMs: 0 });
      if (own) await (await opening).close();
      else await expect(opening).rejects.toMatchObject({ kind: 'denied' });
    }
  });
});

describe('a merge of images with data files', () => {
  const format = 'qcow2';
  const names = ['/a/base.qcow2', '/a/one.qcow2', '/a/two.qcow2'];
  const allow = ['/a', '/a/guest-1.bin', '/a/guest-2.bin'];

  async function chain(): Promise<MemoryProvider> {
    const provider = new MemoryProvider();
    await (await provider.create('/a/x')).close();
    for (const [number, name] of names.entries()) {
      const parent = number === 0 ? {} : { parent: { provider, name: names[number - 1] ?? '' }, parentFormat: format };
      const config = number === 0 ? {} : { data_file: `guest-${number}.bin` };
      await createImage({ provider, name }, { format, size: SIZE, config, allow, ...parent });
      await using disk = await Disk.open({ provider, name }, { format, allow, mode: 'write', flushAfterMs: 0 });
      await disk.write(number * 65_536, new Uint8Array(65_536).fill(number + 1));
    }
    return provider;
  }

  it('deletes the files of the last image, and refuses one whose files it may not delete', async () => {
    const provider = await chain();
    const how = { format, allow, mode: 'write', flushAfterMs: 0 } as const;
    const last = { provider, name: names[2] ?? '' };
    const all = [...names, '/a/guest-1.bin', '/a/guest-2.bin', '/a/x'].sort();
    {
      // The data file of the image in the middle may be read, but not written.
      await using disk = await Disk.open(last, { ...how, allow: ['/a', '/a/guest-2.bin'] });
      await expect(disk.merge(1, 0)).rejects.toMatchObject({ kind: 'denied', hint: expect.stringContaining('--keep') });
      expect(await namesIn(provider)).toEqual(all);
    }
    {
      await using disk = await Disk.open(last, how);
      await disk.merge('last', 1);
    }
    expect(await namesIn(provider)).toEqual(all.filter((name) => !['/a/guest-2.bin', names[2]].includes(name)));
    await using disk = await Disk.open({ provider, name: names[1] ?? '' }, how);
    const bytes = new Uint8Array(3 * 65_536);
    await disk.read(0, bytes);
    expect([0, 1, 2].map((number) => bytes[number * 65_536])).toEqual([1, 2, 3]);
  });
});
