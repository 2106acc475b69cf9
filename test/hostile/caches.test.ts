/**
 * Cache files and records of conversions that are wrong on purpose. A cache is refused with an `ImageError` or empty, or
 * what it holds is right, at once; a record never breaks anything, nor changes an image that it does not fit.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { isImageError } from '../../src/errors.ts';
import { HEADER, MAP_HEAD, NODE, NODE_TYPE } from '../../src/formats/vci/layout.ts';
import { checkCache, createImage, Disk, inspectCache } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { xorFilter } from '../../src/testing/xor-filter.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { numberBytes } from './mutations.ts';

const SIZE = 1024 * 1024;
const CACHE = '/c.vci';
/** Far more than any of it takes; a busy machine must not count as a finding. */
const MOST_MS = 2000;
const MOST_BYTES = 200 * 1024 * 1024;

interface Mutation {
  readonly title: string;
  readonly bytes: Uint8Array;
}

async function bytesOf(provider: MemoryProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function put(provider: MemoryProvider, name: string, bytes: Uint8Array): Promise<void> {
  const storage = (await provider.lookUp(name)) ? await provider.open(name, 'write') : await provider.create(name);
  await storage.resize(bytes.length);
  await storage.write(0, bytes);
  await storage.close();
}

/** The error, which must be an `ImageError`. */
async function refusal(run: () => Promise<unknown>): Promise<string | null> {
  try {
    await run();
    return null;
  } catch (error) {
    if (isImageError(error)) return error.kind;
    throw error;
  }
}

function edited(sound: Uint8Array, title: string, offset: number, bytes: Uint8Array): Mutation {
  const changed = sound.slice();
  changed.set(bytes.subarray(0, Math.max(changed.length - offset, 0)), offset);
  return { title, bytes: changed };
}

function* mutationsOf(sound: Uint8Array): Generator<Mutation> {
  const root = HEADER.get(sound, 'rootAddress') * 512;
  const places = [
    ...Object.entries(HEADER.fields).map(([name, field]) => ({ name, at: field.offset, size: field.size })),
    ...Object.entries(MAP_HEAD.fields).map(([name, { offset, size }]) => ({
      name: `map ${name}`,
      at: 1024 + offset,
      size,
    })),
    { name: 'bits', at: 1536, size: 4 },
    { name: 'node type', at: root, size: 1 },
    ...[0, 1, 2, 50, 106].flatMap((slot) => [
      { name: `first ${slot}`, at: root + 1 + slot * 38 + 0x12, size: 8 },
      { name: `count ${slot}`, at: root + 1 + slot * 38 + 0x1a, size: 4 },
      { name: `address ${slot}`, at: root + 1 + slot * 38 + 0x1e, size: 8 },
    ]),
  ].filter(({ size }) => size <= 8);
  for (const { name, at, size } of places) {
    const max = (1n << BigInt(8 * size)) - 1n;
    const values = [0n, 1n, 5n, BigInt(root / 512), max, max - 1n, max / 2n, 1n << 27n, 1n << 44n];
    for (const value of values.filter((one) => one <= max)) {
      yield edited(sound, `${name} := ${value}`, at, numberBytes(value, size, true));
    }
  }
  // Internal nodes that lead to themselves, to another tree, and to each slot's neighbour.
  const node = new Uint8Array(NODE);
  node[0] = NODE_TYPE.internal;
  for (let slot = 0; slot < 200; slot++) {
    node.set(numberBytes(BigInt(slot), 8, true), 1 + slot * 20);
    node.set(numberBytes(0xffff_ffffn, 4, true), 9 + slot * 20);
    node.set(numberBytes(BigInt(root / 512), 8, true), 13 + slot * 20);
  }
  yield edited(sound, 'a root that is its own child', root, node);
  for (const size of [0, 1, 1023, 1024, 1536, 2048, 4096, root - 1, root, root + 100, sound.length - 1]) {
    yield { title: `cut off at ${size}`, bytes: sound.slice(0, size) };
  }
  const random = new Random(3);
  for (let round = 0; round < rounds(100, 3000); round++) {
    const where = random.pick([0, 0, 1024, root]);
    const at = where + random.below(where === 0 ? 73 : 512);
    yield edited(sound, `noise ${round} at ${at}`, at, randomBytes(random, 1 + random.below(8)));
  }
}

describe('a cache file that is wrong', () => {
  let provider: MemoryProvider;
  let model: Uint8Array;
  let sound: Uint8Array;
  const image = () => ({ provider, name: '/a.vdi' });
  const cache = () => ({ provider, name: CACHE });

  beforeAll(async () => {
    provider = new MemoryProvider();
    model = randomBytes(new Random(1), SIZE);
    await createImage(image(), { size: SIZE, config: { AllocationBlockSize: 4096, DataAlignment: 512 } });
    const disk = await Disk.open(image(), { mode: 'write', flushAfterMs: 0 });
    await disk.write(0, model);
    await disk.cache.create(cache(), { size: 2 * 1024 * 1024 });
    // Holes between, so that the tree has many slots.
    for (let at = 0; at < SIZE; at += 8192) await disk.read(at, new Uint8Array(4096));
    await disk.close();
    sound = await bytesOf(provider, CACHE);
  });

  it('is refused or empty, or right in what it holds, in bounded time and memory', { timeout: 600_000 }, async () => {
    const ends = { refused: 0, empty: 0, used: 0 };
    const found = new Uint8Array(SIZE);
    for (const { title, bytes } of mutationsOf(sound)) {
      await put(provider, CACHE, bytes);
      const before = performance.now();
      const memory = process.memoryUsage().rss;
      await refusal(() => inspectCache(cache()));
      await refusal(() => checkCache(cache()));
      const disk = await Disk.open(image());
      if ((await refusal(() => disk.cache.open(cache(), { stale: 'discard' }))) !== null) ends.refused++;
      else if (disk.cache.info?.cached === 0) ends.empty++;
      else ends.used++;
      for (let round = 0; round < 2; round++) {
        await disk.read(0, found);
        expect(Buffer.compare(found, model), title).toBe(0);
      }
      await disk.close();
      expect(performance.now() - before, title).toBeLessThan(MOST_MS);
      expect(process.memoryUsage().rss - memory, title).toBeLessThan(MOST_BYTES);
    }
    expect(ends.refused + ends.empty + ends.used).toBeGreaterThanOrEqual(200);
    for (const [end, count] of Object.entries(ends)) expect(count, end).toBeGreaterThan(10);
  });
});

describe('a record of a conversion that is wrong', () => {
  const OPEN = { mode: 'write', flushAfterMs: 0 } as const;
  const RECORD = '/a.vdi.vdkit-filters';

  it('is refused and changes nothing, or is one that goes on rightly', { timeout: 600_000 }, async () => {
    const model = randomBytes(new Random(2), 3 * SIZE);
    const provider = new MemoryProvider();
    const image = { provider, name: '/a.vdi' };
    await createImage(image, { size: 3 * SIZE });
    const disk = await Disk.open(image, OPEN);
    await disk.write(0, model);
    await disk.filters.add(xorFilter(), { read: false });
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }) => done >= SIZE && stop.abort();
    expect(await refusal(() => disk.filters.prepare({ signal: stop.signal, onProgress }))).toBe('aborted');
    await disk.close();
    const [half, record] = [await bytesOf(provider, '/a.vdi'), await bytesOf(provider, RECORD)];
    const random = new Random(4);
    const sequence = (slot: number): number => new DataView(record.buffer).getUint32(slot + 16, true);
    const slots = [0, 512 + SIZE].sort((a, b) => sequence(a) - sequence(b));
    const [older = 0, newer = 0] = slots;
    const ends = new Map<string, number>();
    for (let round = 0; round < rounds(40, 1000); round++) {
      const changed = record.slice(0, round % 3 === 0 ? 513 + random.below(record.length - 513) : record.length);
      // The older of the two slots may be lost; without the newer one its progress is unknown.
      const damaged = round % 3 === 1 ? [older] : [newer, older];
      for (const slot of damaged) {
        const at = slot + random.below(slot === older ? 350 : 4096);
        changed.set(randomBytes(random, 4).subarray(0, Math.max(changed.length - at, 0)), Math.min(at, changed.length));
      }
      await put(provider, '/a.vdi', half);
      await put(provider, RECORD, changed);
      expect(await refusal(() => Disk.open(image, OPEN))).toBe('busy');
      const again = await Disk.open(image, { ...OPEN, resumeFilters: true });
      await again.filters.add(xorFilter(), { read: false });
      const end = (await refusal(() => again.filters.prepare())) ?? 'went on';
      ends.set(end, (ends.get(end) ?? 0) + 1);
      await again.close();
      if (end !== 'went on') {
        expect(Buffer.compare(await bytesOf(provider, '/a.vdi'), half), `round ${round}`).toBe(0);
        continue;
      }
      const after = await Disk.open(image);
      await after.filters.add(xorFilter());
      const found = new Uint8Array(model.length);
      await after.read(0, found);
      expect(Buffer.compare(found, model), `round ${round}`).toBe(0);
      await after.close();
    }
    expect(ends.get('corrupt') ?? 0).toBeGreaterThan(10);
    expect(ends.get('went on') ?? 0).toBeGreaterThan(5);
  });
});
