import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../../../test/conformance/random.ts';
import { buildQcow2 } from '../../../../test/faults/qcow2-bytes.ts';
import { recount } from '../../../../test/faults/qcow2-recount.ts';
import { amendImage, createImage, Disk, ImageError, inspect } from '../../../index.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { Random } from '../../../testing/index.ts';
import { readHeader } from '../open.ts';

const NAME = '/disk.qcow2';
const SIZE = 1024 * 1024;

type Values = Readonly<Record<string, string | number>>;

async function made(config: Values = {}, how: { parent?: string; data?: boolean } = {}): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  if (how.parent !== undefined) await (await provider.create(how.parent)).resize(SIZE);
  const over =
    how.parent === undefined ? { size: SIZE } : { parent: { provider, name: how.parent }, parentFormat: 'raw' };
  await createImage({ provider, name: NAME }, { format: 'qcow2', config, ...over });
  return provider;
}

const amend = (provider: MemoryProvider, values: Values, how: object = {}) =>
  amendImage({ provider, name: NAME }, values, { allow: ['/', '/data.raw'], ...how });

const open = (provider: MemoryProvider) =>
  Disk.open({ provider, name: NAME }, { mode: 'write', flushAfterMs: 0, allow: ['/', '/data.raw'] });

async function bytesOf(provider: MemoryProvider): Promise<Uint8Array> {
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function headerOf(provider: MemoryProvider) {
  const storage = await provider.open(NAME, 'read');
  const header = await readHeader(storage);
  await storage.close();
  return header;
}

/** Fails with that kind, names the option, and leaves every byte. */
async function expectRefused(provider: MemoryProvider, values: Values, kind: ImageError['kind']): Promise<ImageError> {
  const before = await bytesOf(provider);
  const error = await amend(provider, values).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ImageError);
  if (!(error instanceof ImageError)) throw new Error('not refused');
  expect(error.kind).toBe(kind);
  expect(Buffer.from(await bytesOf(provider)).equals(Buffer.from(before))).toBe(true);
  return error;
}

describe('amending qcow2 images', () => {
  it('refuses what only new images can have, and says what was found and what was asked', async () => {
    const provider = await made();
    for (const [values, found, expected] of [
      [{ cluster_size: 4096 }, '65536', '4096'],
      [{ extended_l2: 'on' }, 'off', 'on'],
      [{ preallocation: 'full' }, 'an image that exists', 'full'],
    ] as const) {
      const error = await expectRefused(provider, values, 'unsupported');
      expect(error.context).toMatchObject({ path: NAME, field: Object.keys(values)[0], found, expected });
    }
  });

  it('takes what the image has already for no change', async () => {
    const provider = await made({ cluster_size: 4096 });
    const before = await bytesOf(provider);
    await amend(provider, {
      cluster_size: 4096,
      extended_l2: 'off',
      compat: 'v3',
      refcount_bits: 16,
      data_file_raw: 'off',
    });
    expect(await bytesOf(provider)).toEqual(before);
  });

  it.each<[string, Values, ImageError['kind']]>([
    ['no option', {}, 'invalid-argument'],
    ['a name that there is not', { colour: 'red' }, 'invalid-argument'],
    ['a version that there is not', { compat: '1.2' }, 'invalid-argument'],
    ['a width that is none', { refcount_bits: 3 }, 'invalid-argument'],
    ['a width that is none, either', { refcount_bits: 128 }, 'invalid-argument'],
    ['no number', { refcount_bits: 'many' }, 'invalid-argument'],
    ['neither on nor off', { lazy_refcounts: 'perhaps' }, 'invalid-argument'],
    ['no compression', { compression_type: 'lz4' }, 'invalid-argument'],
    ['a backing file without format', { backing_file: 'x.raw' }, 'invalid-argument'],
    ['a format without backing file', { backing_fmt: 'raw' }, 'invalid-argument'],
    ['a name with control characters', { backing_file: 'a\nb', backing_fmt: 'raw' }, 'invalid-argument'],
    ['a name that is too long', { backing_file: 'x'.repeat(1024), backing_fmt: 'raw' }, 'invalid-argument'],
    ['a format that is too long', { backing_file: 'x', backing_fmt: 'y'.repeat(16) }, 'invalid-argument'],
    ['a data file for an image without', { data_file: 'x' }, 'unsupported'],
    ['a raw data file', { data_file_raw: 'on' }, 'unsupported'],
    ['lazy refcounts in version 2', { compat: '0.10', compression_type: 'zstd' }, 'unsupported'],
    ['other refcounts in version 2', { compat: '0.10', refcount_bits: 8 }, 'unsupported'],
  ])('refuses %s', async (_what, values, kind) => {
    await expectRefused(await made(), values, kind);
  });

  it('refuses in version 2 what only version 3 has', async () => {
    const provider = await made({ compat: '0.10' });
    for (const values of [{ refcount_bits: 8 }, { lazy_refcounts: 'on' }, { compression_type: 'zstd' }]) {
      const { hint } = await expectRefused(provider, values, 'unsupported');
      expect(hint).toContain('compat=1.1');
    }
  });

  it('refuses to make version 2 of what has more than that', async () => {
    await expectRefused(await made({ refcount_bits: 32 }), { compat: '0.10' }, 'unsupported');
    await expectRefused(await made({ extended_l2: 'on' }), { compat: '0.10' }, 'unsupported');
    await expectRefused(await made({ data_file: 'data.raw' }), { compat: '0.10' }, 'unsupported');
    const marked = await made();
    {
      await using disk = await open(marked);
      await disk.bitmaps.add('one');
    }
    await expectRefused(marked, { compat: '0.10' }, 'unsupported');
    const resized = await made();
    {
      await using disk = await open(resized);
      await disk.snapshots.create('small');
      await disk.resize(2 * SIZE);
    }
    await expectRefused(resized, { compat: '0.10' }, 'unsupported');
  });

  it('refuses refcounts that a stored count does not fit', async () => {
    const provider = await made();
    {
      await using disk = await open(provider);
      await disk.write(0, new Uint8Array(65_536).fill(1));
      await disk.snapshots.create('one');
    }
    const error = await expectRefused(provider, { refcount_bits: 1 }, 'limit');
    expect(error.context).toMatchObject({ field: 'refcount_bits', found: '2 references', expected: 'at most 1' });
    await amend(provider, { refcount_bits: 2 });
    expect((await headerOf(provider)).refcountOrder).toBe(1);
  });

  it('keeps the compression of an image with compressed clusters', async () => {
    const provider = await made();
    {
      await using disk = await open(provider);
      await (await disk.compress(0, new Uint8Array(65_536).fill(7))).store();
    }
    await expectRefused(provider, { compression_type: 'zstd' }, 'unsupported');
    await amend(provider, { compat: '0.10' });
    await using disk = await open(provider);
    const bytes = new Uint8Array(65_536);
    await disk.read(0, bytes);
    expect(bytes.every((byte) => byte === 7)).toBe(true);
  });

  it('goes to every width and back, and gives the old counts up', async () => {
    const provider = await made({ cluster_size: 512 });
    const content = randomBytes(new Random(1), SIZE);
    {
      await using disk = await open(provider);
      await disk.write(0, content);
    }
    for (const bits of [64, 1, 32, 2, 8, 4, 16]) {
      await amend(provider, { refcount_bits: bits });
      const { low, unsafe, unflagged, leaks } = recount(await bytesOf(provider));
      expect({ bits, low, unsafe, unflagged, leaks }).toEqual({ bits, low: [], unsafe: [], unflagged: [], leaks: 0 });
    }
    await using disk = await open(provider);
    const read = new Uint8Array(SIZE);
    await disk.read(0, read);
    expect(Buffer.from(read).equals(Buffer.from(content))).toBe(true);
  });

  it('completes entries of snapshots that say too little for version 3', async () => {
    const provider = new MemoryProvider();
    const storage = await provider.create(NAME);
    await storage.write(0, buildQcow2({ version: 2, snapshot: true }).bytes);
    await storage.close();
    await amend(provider, { compat: '1.1' });
    expect((await headerOf(provider)).version).toBe(3);
    expect((await inspect({ provider, name: NAME })).snapshots).toHaveLength(1);
    const { low, unsafe, leaks } = recount(await bytesOf(provider));
    expect({ low, unsafe, leaks }).toEqual({ low: [], unsafe: [], leaks: 0 });
  });

  it('refuses to make version 3 of entries whose lowest bit is set', async () => {
    const built = buildQcow2({ version: 2 });
    const entry = (built.l2[0] ?? 0) + 7;
    built.bytes[entry] = (built.bytes[entry] ?? 0) | 1;
    const provider = new MemoryProvider();
    const storage = await provider.create(NAME);
    await storage.write(0, built.bytes);
    await storage.close();
    const before = await bytesOf(provider);
    await amend(provider, { compat: '1.1' }).then(
      () => expect.unreachable(),
      (error: unknown) => expect(['corrupt', 'read-only']).toContain((error as ImageError).kind),
    );
    expect(await bytesOf(provider)).toEqual(before);
  });

  it('hides the backing file with zeroes that are stored', async () => {
    const provider = new MemoryProvider();
    const base = await provider.create('/base.raw');
    await base.write(0, new Uint8Array(SIZE).fill(5));
    await base.close();
    const parent = { provider, name: '/base.raw' };
    await createImage({ provider, name: NAME }, { format: 'qcow2', parent, parentFormat: 'raw' });
    {
      await using disk = await open(provider);
      await disk.zero(65_536, 3 * 65_536);
    }
    await amend(provider, { compat: '0.10' });
    await using disk = await open(provider);
    const bytes = new Uint8Array(SIZE);
    await disk.read(0, bytes);
    expect(bytes.indexOf(0)).toBe(65_536);
    expect(bytes.lastIndexOf(0)).toBe(4 * 65_536 - 1);
    const kinds: unknown[] = [];
    for await (const { state, length, image } of disk.extents()) kinds.push([state, length / 65_536, image]);
    expect(kinds.map((kind) => (kind as unknown[])[2])).toEqual([0, 1, 0]);
  });

  it('stops when it is told to, and can be run again', async () => {
    const provider = await made({ cluster_size: 512 });
    {
      await using disk = await open(provider);
      await disk.write(0, randomBytes(new Random(1), SIZE));
    }
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    await expectKind(() => amend(provider, { refcount_bits: 64 }, { signal: stop.signal, onProgress }), 'aborted');
    expect((await headerOf(provider)).refcountOrder).toBe(4);
    expect(recount(await bytesOf(provider))).toMatchObject({ low: [], unsafe: [], leaks: 0 });
    await amend(provider, { refcount_bits: 64 });
    expect((await headerOf(provider)).refcountOrder).toBe(6);
  });

  it('names another data file and another backing file', async () => {
    const external = await made({ data_file: 'data.raw' });
    // It was moved already, and does not matter here.
    await external.rename('/data.raw', '/other.raw', { replace: false });
    await amend(external, { data_file: 'other.raw' }, { allow: 'none' });
    expect((await headerOf(external)).dataFileName).toBe('other.raw');
    await amend(external, { refcount_bits: 64, lazy_refcounts: 'on' }, { allow: 'none' });
    await using disk = await Disk.open({ provider: external, name: NAME }, { mode: 'write', allow: ['/other.raw'] });
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.close();
    expect(recount(await bytesOf(external))).toMatchObject({ low: [], unsafe: [] });
    const provider = await made({}, { parent: '/base.raw' });
    const report = await amend(provider, { backing_file: 'moved/base.raw', backing_fmt: 'raw' });
    expect(report).toMatchObject({ parentName: 'moved/base.raw', parentFormat: 'raw' });
    expect(await amend(provider, { backing_file: '' })).toMatchObject({ parentName: null, parentFormat: null });
  });

  it('is for formats that can', async () => {
    const provider = new MemoryProvider();
    await createImage({ provider, name: '/disk.vdi' }, { size: SIZE });
    await expectKind(() => amendImage({ provider, name: '/disk.vdi' }, { compat: '0.10' }), 'unsupported');
  });

  it('drops the names of features in version 2', async () => {
    const provider = await made();
    await amend(provider, { compat: '0.10' });
    expect((await headerOf(provider)).extensions).toEqual([]);
    await amend(provider, { compat: '1.1' });
    expect((await headerOf(provider)).extensions).toHaveLength(1);
  });

  it('refuses what the header has no room to become without risk', async () => {
    const provider = await made({ compat: '0.10', cluster_size: 4096 });
    const storage = await provider.open(NAME, 'write');
    // An unknown extension, from the first sector into the second: version 3 has it 40 bytes further on.
    const extension = randomBytes(new Random(1), 8 + 800 + 8);
    const view = new DataView(extension.buffer);
    view.setUint32(0, 0x1234_5678);
    view.setUint32(4, 800);
    view.setBigUint64(808, 0n);
    await storage.write(72, extension);
    await storage.close();
    await expectRefused(provider, { compat: '1.1' }, 'unsupported');
    await amend(provider, { backing_file: 'base.raw', backing_fmt: 'raw' }).catch((error: unknown) => {
      expect((error as ImageError).kind).toBe('unsupported');
    });
    expect((await headerOf(provider)).extensions.some(({ type }) => type === 0x1234_5678)).toBe(true);
  });
});
