import { describe, expect, it } from 'vitest';
import type { Storage, StorageProvider } from '../storage/contract.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { type CrashStateOptions, completeState, crashStates } from './crash-states.ts';
import { flushCount } from './operation-log.ts';
import { RecordingProvider } from './recording-storage.ts';

const FILE = '/file';
const sector = (value: number): Uint8Array => new Uint8Array(512).fill(value);

async function recorder(content?: Uint8Array): Promise<{ provider: RecordingProvider; storage: Storage }> {
  const memory = new MemoryProvider();
  const made = await memory.create(FILE);
  if (content !== undefined) await made.write(0, content);
  const provider = new RecordingProvider(memory);
  return { provider, storage: await provider.open(FILE, 'write') };
}

/** First byte of each sector; `-` for a missing file. */
async function contentOf(provider: StorageProvider, name = FILE, between = ''): Promise<string> {
  if ((await provider.lookUp(name)) === null) return '-';
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  return Array.from({ length: Math.ceil(bytes.length / 512) }, (_, index) => bytes[index * 512]).join(between);
}

/** All possible contents of the file after a cut at the end of the log. */
async function finalContents(provider: RecordingProvider, options: CrashStateOptions = {}): Promise<Set<string>> {
  const end = provider.log.position;
  const found = new Set<string>();
  const states = crashStates(provider.log, provider, { maxStates: 5000, cuts: [end, end], ...options });
  for (const state of states) found.add(await contentOf(state.provider));
  return found;
}

describe('cuts', () => {
  it('are all visited, or a sample of those that matter and the last', async () => {
    const { provider, storage } = await recorder(new Uint8Array(512));
    for (let value = 1; value <= 12; value++) {
      await storage.write(0, sector(value));
      await storage.flush();
    }
    const cutsOf = (options: CrashStateOptions): number[] => {
      const states = crashStates(provider.log, provider, { maxStates: 0, ...options });
      return [...new Set([...states].map(({ cutAt }) => cutAt))];
    };
    const all = cutsOf({});
    expect(all).toHaveLength(13);
    const seeds = Array.from({ length: 20 }, (_, seed) => seed);
    const parts = seeds.map((seed) => cutsOf({ everyCut: 3, seed }));
    for (const part of parts) expect(part.length).toBeLessThan(all.length);
    expect([...new Set(parts.flat())].sort((one, other) => one - other)).toEqual(all);
    expect(parts.every((part) => part.at(-1) === all.at(-1))).toBe(true);
  });
});

describe('what a cut leaves of a file', () => {
  it('is any subset of the sectors of pending writes', async () => {
    const { provider, storage } = await recorder(new Uint8Array(1536));
    await storage.write(0, [sector(1), sector(2)]);
    await storage.write(1024, sector(3));
    const all = ['000', '100', '020', '003', '120', '103', '023', '123'];
    expect(await finalContents(provider)).toEqual(new Set(all));
  });

  it('has everything that a flush covered, and not what began after its start', async () => {
    const { provider, storage } = await recorder(new Uint8Array(1024));
    await storage.write(0, sector(1));
    const flush = storage.flush();
    await storage.write(512, sector(2));
    await flush;
    expect(await finalContents(provider)).toEqual(new Set(['10', '12']));
  });

  it('may lack what ran while the flush began, and what waits for one that did not end', async () => {
    const { provider, storage } = await recorder(new Uint8Array(1024));
    const write = storage.write(0, sector(1));
    await Promise.all([storage.flush(), write]);
    await storage.write(512, sector(2));
    void storage.flush();
    expect(await finalContents(provider)).toEqual(new Set(['00', '10', '02', '12']));
  });

  it('may be the earlier of two writes to one sector', async () => {
    const { provider, storage } = await recorder(sector(7));
    await storage.write(0, sector(1));
    await storage.write(0, sector(2));
    expect(await finalContents(provider)).toEqual(new Set(['7', '1', '2']));
  });

  it('grows with or without its data', async () => {
    const { provider, storage } = await recorder(sector(7));
    await storage.write(512, [sector(1), sector(2)]);
    expect(await finalContents(provider)).toEqual(new Set(['7', '700', '710', '702', '712']));
  });

  it('loses what a shorter size cut off, also when it grows again', async () => {
    const { provider, storage } = await recorder(new Uint8Array([...sector(7), ...sector(8)]));
    await storage.resize(512);
    await storage.resize(1024);
    expect(await finalContents(provider)).toEqual(new Set(['78', '7', '70']));
  });

  it('has holes or not where zeroes were asked for', async () => {
    const { provider, storage } = await recorder(new Uint8Array([...sector(7), ...sector(8)]));
    await storage.zero(0, 1024, { punch: true });
    expect(await finalContents(provider)).toEqual(new Set(['78', '08', '70', '00']));
  });

  it('counts a flush that is left out as never done', async () => {
    const { provider, storage } = await recorder(sector(7));
    await storage.write(0, sector(1));
    await storage.flush();
    expect(flushCount(provider.log)).toBe(1);
    expect(await finalContents(provider)).toEqual(new Set(['1']));
    expect(await finalContents(provider, { dropFlush: 0 })).toEqual(new Set(['7', '1']));
  });
});

describe('what a cut leaves of names', () => {
  async function names(run: (provider: RecordingProvider) => Promise<void>): Promise<Set<string>> {
    const { provider } = await recorder(sector(7));
    await run(provider);
    const end = provider.log.position;
    const found = new Set<string>();
    for (const state of crashStates(provider.log, provider, { cuts: [end, end] })) {
      found.add(`${await contentOf(state.provider)} ${await contentOf(state.provider, '/other')}`);
    }
    return found;
  }

  it('is either name, or both when nothing may be replaced, until names are durable', async () => {
    expect(await names((provider) => provider.rename(FILE, '/other', { replace: false }))).toEqual(
      new Set(['7 -', '7 7', '- 7']),
    );
    expect(await names((provider) => provider.rename(FILE, '/other', { replace: true }))).toEqual(
      new Set(['7 -', '- 7']),
    );
  });

  it('follows the file and not the name', async () => {
    const found = await names(async (provider) => {
      const storage = await provider.open(FILE, 'write');
      await storage.write(0, sector(1));
      await provider.rename(FILE, '/other', { replace: true });
      await storage.flush();
      await provider.syncNames('/');
    });
    expect(found).toEqual(new Set(['- 1']));
  });

  it('keeps the content of a file apart from its name', async () => {
    const found = await names(async (provider) => {
      const storage = await provider.create('/other');
      await storage.write(0, sector(1));
      await provider.syncNames('/');
    });
    // The name is there; an empty file has no sectors.
    expect(found).toEqual(new Set(['7 ', '7 0', '7 1']));
  });

  it('may bring back a removed name', async () => {
    expect(await names((provider) => provider.remove(FILE))).toEqual(new Set(['7 -', '- -']));
  });

  it('ignores what failed', async () => {
    const found = await names(async (provider) => {
      await expect(provider.create(FILE)).rejects.toMatchObject({ kind: 'exists' });
      await expect(provider.remove('/other')).rejects.toMatchObject({ kind: 'not-found' });
    });
    expect(found).toEqual(new Set(['7 -']));
  });
});

describe('the enumeration', () => {
  it('splits every ordered pair of metadata sectors and tells states apart by their metadata', async () => {
    const { provider, storage } = await recorder(new Uint8Array(512 * 64));
    for (let at = 0; at < 20; at++) await storage.write(at * 1024, [sector(at + 1), sector(at + 101)]);
    const isMetadata = (_: string, offset: number): boolean => offset < 512 * 20;
    const states = crashStates(provider.log, provider, { maxStates: 200, isMetadata });
    const keys = new Map<string, string>();
    for (const state of states) {
      const metadata = (await contentOf(state.provider, FILE, ' ')).split(' ').slice(0, 20).join(' ');
      expect(keys.get(state.key) ?? metadata).toBe(metadata);
      keys.set(state.key, metadata);
    }
    expect(new Set(keys.values()).size).toBe(keys.size);
    expect(states.coverage).toMatchObject({ pairsSplit: 20 * 19, pairsTotal: 20 * 19, distinct: keys.size });
    expect(keys.size).toBeGreaterThan(50);
  });

  it('gives states that do not see each other', async () => {
    const { provider, storage } = await recorder(sector(7));
    await storage.write(0, sector(1));
    const end = provider.log.position;
    const states = [...crashStates(provider.log, provider, { cuts: [end, end] })];
    for (const state of states) {
      const file = await state.provider.open(FILE, 'write');
      expect([1, 7]).toContain(Number(await contentOf(state.provider)));
      await file.write(0, sector(9));
      await file.resize(1024);
      expect(await contentOf(state.provider)).toBe('90');
    }
    expect(await contentOf(completeState(provider.log, provider, end))).toBe('1');
    expect(await contentOf(completeState(provider.log, provider, 0))).toBe('7');
  });

  it('names what was kept, lost and torn', async () => {
    const { provider, storage } = await recorder(new Uint8Array(1024));
    provider.log.mark('first');
    await storage.write(0, [sector(1), sector(2)]);
    const states = [...crashStates(provider.log, provider)].map((state) => state.describe());
    expect(states).toContain('cut at 3, after "first"; torn (sectors 0 of 2 kept): write 0 of /file [0x0, 0x400)');
    expect(states).toContain('cut at 3, after "first"; lost: write 0 of /file [0x0, 0x400)');
  });

  it('is cheap enough for ten thousand states of some MiB', async () => {
    const { provider, storage } = await recorder(new Uint8Array(4 * 1024 * 1024).fill(1));
    for (let at = 0; at < 40; at++) await storage.write(at * 65536, sector(2));
    const start = performance.now();
    const states = crashStates(provider.log, provider, { maxStates: 2000 });
    for (const state of states) await contentOfFirst(state.provider);
    expect((performance.now() - start) / states.coverage.states).toBeLessThan(5);
  });
});

async function contentOfFirst(provider: StorageProvider): Promise<void> {
  const storage = await provider.open(FILE, 'read');
  await storage.read(0, new Uint8Array(512));
}
