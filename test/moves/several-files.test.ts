/** Whole images of several files: all of them are made, replaced, removed and moved together, or none is. */
import { describe, expect, it } from 'vitest';
import { convert, createImage, Disk } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, FaultProvider, RecordingProvider } from '../../src/testing/index.ts';
import { withHalves } from './halves.ts';

const SIZE = 512 * 1024;
const registry = withHalves();

interface Kind {
  readonly title: string;
  readonly format: string;
  /** All files of an image, the main one last. */
  readonly files: readonly string[];
  readonly config: Readonly<Record<string, string>>;
}

const KINDS: readonly Kind[] = [
  {
    title: 'qcow2 with a data file',
    format: 'qcow2',
    files: ['/a/new.data', '/a/new.qcow2'],
    config: { data_file: 'new.data' },
  },
  { title: 'halves', format: 'halves', files: ['/a/new-1.half', '/a/new-2.half', '/a/new.halves'], config: {} },
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
});

describe('a part that continues the name of its image', () => {
  it.each([
    ['disk.raw', true],
    ['disk-data.raw', true],
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
