/** Conversion of the data in the images for the filters of the disk. */
import { beforeEach, describe, expect, it } from 'vitest';
import { convert, createImage, Disk } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { type XorFilter, xorFilter } from '../../testing/xor-filter.ts';

const MIB = 1024 ** 2;
const SIZE = 4 * MIB;
const OPEN = { mode: 'write', allow: ['same-directory'], flushAfterMs: 0 } as const;

let provider: MemoryProvider;
let filter: XorFilter;
let model: Uint8Array;
const at = (name: string) => ({ provider, name });

beforeEach(() => {
  provider = new MemoryProvider();
  filter = xorFilter();
  model = new Uint8Array(SIZE);
});

async function names(): Promise<string[]> {
  const found: string[] = [];
  for await (const name of provider.list('/')) found.push(name);
  return found.sort();
}

async function put(disk: Disk, offset: number, length: number, seed: number): Promise<void> {
  const bytes = Uint8Array.from({ length }, (_, index) => ((index * 13 + seed + (index >> 9)) % 255) + 1);
  model.set(bytes, offset);
  await disk.write(offset, bytes);
}

/** Base, child, grandchild: data, zeroes over data, and holes. */
async function makeChain(format = 'vdi', base = format): Promise<string[]> {
  const config = format === 'vdi' ? { AllocationBlockSize: 65536 } : {};
  await createImage(at('/0'), { format: base, size: SIZE, ...(base === format ? { config } : {}) });
  const first = await Disk.open(at('/0'), { ...OPEN, format: base });
  await put(first, 0, MIB + 700, 1);
  await first.close();
  await createImage(at('/1'), { format, parent: at('/0'), parentFormat: base, config });
  await createImage(at('/2'), { format, parent: at('/1'), parentFormat: format, config });
  const lower = await open(['/0', '/1'], base);
  await put(lower, 500_000, 200_000, 2);
  await lower.zero(131_072, 65_536);
  model.fill(0, 131_072, 196_608);
  await lower.close();
  const upper = await open(['/0', '/1', '/2'], base);
  await put(upper, 3 * MIB, 70_000, 3);
  await upper.close();
  return ['/0', '/1', '/2'];
}

function open(chain: readonly string[], base = 'vdi', options = {}): Promise<Disk> {
  const images = chain.map((name, number) => (number === 0 ? { image: at(name), format: base } : at(name)));
  return Disk.open(images, { ...OPEN, ...options });
}

async function expectContent(disk: Disk): Promise<void> {
  const now = new Uint8Array(SIZE);
  await disk.read(0, now);
  expect(Buffer.compare(now, model)).toBe(0);
}

describe('prepare', () => {
  it.each([
    ['vdi', 'vdi'],
    ['qcow2', 'qcow2'],
    ['qcow2', 'raw'],
  ])('converts all images of a chain there and back: %s over %s', async (format, base) => {
    const chain = await makeChain(format, base);
    const disk = await open(chain, base);
    await disk.filters.add(filter, { read: false });
    const seen: number[] = [];
    await disk.filters.prepare({ onProgress: ({ done, total }) => seen.push(done / total) });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
    const stored = new Uint8Array(SIZE);
    await disk.read(0, stored);
    expect(Buffer.compare(stored.subarray(0, 131_072), model.subarray(0, 131_072))).not.toBe(0);
    await disk.filters.removeAll();
    await disk.filters.add(filter);
    await expectContent(disk);
    await put(disk, MIB, 5000, 9);
    await disk.close();
    expect(await names()).toEqual(chain);

    const back = await open(chain, base, { linkage: 'strict' });
    expect(back.warnings.filter((text) => text.includes('modif'))).toEqual([]);
    await back.filters.add(xorFilter(), { write: false });
    await expectContent(back);
    await back.filters.prepare();
    await back.filters.removeAll();
    await expectContent(back);
    await back.close();
  });

  it('stores compressed data again', async () => {
    await createImage(at('/plain.vdi'), { size: SIZE });
    const plain = await open(['/plain.vdi']);
    await put(plain, 65_000, 300_000, 1);
    await plain.close();
    await convert(at('/plain.vdi'), at('/a.qcow2'), { compress: 'zlib' });
    const disk = await Disk.open(at('/a.qcow2'), OPEN);
    await disk.filters.add(filter, { read: false });
    await disk.filters.prepare();
    await disk.filters.removeAll();
    await disk.filters.add(filter);
    await expectContent(disk);
    await disk.close();
  });

  it('is cancelled between two steps; the images do not open then, except to go on', async () => {
    const chain = await makeChain();
    const disk = await open(chain);
    await disk.filters.add(filter, { read: false });
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => done > SIZE + MIB / 2 && stop.abort();
    await expect(disk.filters.prepare({ signal: stop.signal, onProgress })).rejects.toMatchObject({ kind: 'aborted' });
    await expect(disk.read(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'busy' });
    await disk.close();
    for (const name of chain) {
      await expect(Disk.open(at(name), { allow: ['same-directory'] })).rejects.toMatchObject({ kind: 'busy' });
    }
    const again = await open(chain, 'vdi', { resumeFilters: true });
    await expect(again.read(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'busy' });
    await expect(again.filters.prepare()).rejects.toMatchObject({ kind: 'invalid-argument' });
    await again.filters.add(xorFilter({ name: 'other' }), { read: false });
    await expect(again.filters.prepare()).rejects.toThrow(/another chain or other filters/);
    await again.filters.removeAll();
    await again.filters.add(xorFilter({ key: 1 }), { read: false });
    await expect(again.filters.prepare()).rejects.toThrow(/other filters/);
    await again.filters.removeAll();
    await again.filters.add(filter, { read: false });
    await again.filters.prepare();
    await again.filters.removeAll();
    await again.filters.add(filter);
    await expectContent(again);
    await again.close();
    expect(await names()).toEqual(chain);
  });

  it('leaves nothing behind when it ends before the first change', async () => {
    const chain = await makeChain();
    const disk = await open(chain);
    await disk.filters.add(filter, { read: false });
    await expect(disk.filters.prepare({ signal: AbortSignal.abort() })).rejects.toMatchObject({ kind: 'aborted' });
    expect(await names()).toEqual(chain);
    await disk.filters.removeAll();
    await expectContent(disk);
    await disk.close();
  });

  it('refuses what it could not convert as a whole', async () => {
    await makeChain('qcow2');
    const part = await Disk.open([at('/0'), at('/1')], OPEN);
    await expect(part.filters.prepare()).rejects.toMatchObject({ kind: 'invalid-argument' });
    await part.filters.add(filter);
    await expect(part.filters.prepare()).rejects.toMatchObject({ kind: 'busy' });
    await part.close();
    const whole = await Disk.open([at('/0'), at('/1'), at('/2')], OPEN);
    await whole.filters.add(filter);
    await whole.snapshots.create('one');
    await expect(whole.filters.prepare()).rejects.toMatchObject({ kind: 'unsupported' });
    await whole.close();
    await using reading = await Disk.open([at('/0'), at('/1'), at('/2')]);
    await reading.filters.add(filter);
    await expect(reading.filters.prepare()).rejects.toMatchObject({ kind: 'read-only' });
    expect(await names()).toEqual(['/0', '/1', '/2']);
  });

  it('reads nothing of images that are converted in part when their records cannot be read', async () => {
    const chain = await makeChain();
    const disk = await open(chain);
    await disk.filters.add(filter, { read: false });
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => done > SIZE + MIB / 2 && stop.abort();
    await expect(disk.filters.prepare({ signal: stop.signal, onProgress })).rejects.toMatchObject({ kind: 'aborted' });
    await disk.close();
    const record = await provider.open('/0.vdkit-filters', 'write');
    await record.write(0, new Uint8Array(record.size));
    await record.close();
    const again = await open(chain, 'vdi', { resumeFilters: true });
    await again.filters.add(filter, { read: false });
    await expect(again.filters.prepare()).rejects.toMatchObject({ kind: 'corrupt' });
    await expect(again.read(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'busy' });
    await again.close();
  });
});
