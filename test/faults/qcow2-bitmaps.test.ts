/**
 * Persistent bitmaps under power cuts. Wherever a change of the list is cut, the image opens, reads the same, lists the
 * bitmaps of before or of after, and counts nothing too low. Where the disk itself is changed, a bitmap that records is
 * marked before any change can be there.
 */
import { describe, expect, it } from 'vitest';
import { readBitmaps } from '../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { readHeader } from '../../src/formats/qcow2/open.ts';
import { createImage, Disk, inspect, isImageError } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, Random, RecordingProvider } from '../../src/testing/index.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { recount } from './qcow2-recount.ts';

const NAME = '/disk.qcow2';
const SIZE = 256 * 1024;

const OPERATIONS: readonly { readonly name: string; run(disk: Disk): Promise<unknown> }[] = [
  { name: 'add', run: (disk) => disk.bitmaps.add('new', { granularity: 512 }) },
  { name: 'remove', run: (disk) => disk.bitmaps.remove('one') },
  { name: 'remove the last', run: (disk) => disk.bitmaps.remove('off') },
  { name: 'disable', run: (disk) => disk.bitmaps.disable('one') },
  { name: 'enable', run: (disk) => disk.bitmaps.enable('off') },
  { name: 'clear', run: (disk) => disk.bitmaps.clear('one') },
  { name: 'merge', run: (disk) => disk.bitmaps.merge('off', ['one']) },
];

/** With a parent its name stands in the header cluster, in the way of what has to move. */
const KINDS = [
  { name: 'small clusters', cluster: 512, parent: null },
  { name: 'names of features in the first sectors', cluster: 8192, parent: null },
  { name: 'a parent', cluster: 8192, parent: '/base.raw' },
  { name: 'a parent with a long name', cluster: 8192, parent: `/${'b'.repeat(400)}.raw` },
];

describe.each(KINDS)('qcow2 bitmaps and power cuts, $name', ({ cluster, parent }) => {
  const make = async (names: readonly string[]): Promise<MemoryProvider> => {
    const provider = new MemoryProvider();
    if (parent !== null) {
      const base = await provider.create(parent);
      await base.write(0, randomBytes(new Random(2), SIZE));
      await base.close();
    }
    const over = parent === null ? { size: SIZE } : { parent: { provider, name: parent }, parentFormat: 'raw' };
    const config = { cluster_size: cluster };
    await createImage({ provider, name: NAME }, { ...over, format: 'qcow2', config });
    await using disk = await open(provider);
    await disk.write(0, randomBytes(new Random(1), 10_000));
    for (const name of names) await disk.bitmaps.add(name, { enabled: name === 'one' });
    return provider;
  };

  it('the first one', async () => {
    await expectCutSafe(await make([]), (disk) => disk.bitmaps.add('first'));
  });

  it.each(OPERATIONS)('$name', async ({ run, name }) => {
    await expectCutSafe(await make(name === 'remove the last' ? ['off'] : ['one', 'off']), run);
  });

  it('marks what records before the disk changes, until what was recorded is stored', async () => {
    const provider = await make(['one', 'off']);
    const before = await contentOf(provider);
    const recording = new RecordingProvider(provider);
    {
      await using disk = await open(recording);
      await disk.write(4096, new Uint8Array(4096).fill(77));
      await disk.flush();
    }
    const problems: string[] = [];
    for (const state of crashStates(recording.log, provider, { maxStates: rounds(100, 2000) })) {
      const { bitmaps = [] } = await inspect({ provider: state.provider, name: NAME }, { format: 'qcow2' });
      const changed = (await contentOf(state.provider)) !== before;
      const states = (bitmaps ?? []).map((one) => [one.name, one.inconsistent]);
      expect(states, state.describe()).toContainEqual(['off', false]);
      const marked = states.some(([name, inconsistent]) => name === 'one' && inconsistent === true);
      if (changed && !marked) expect(await firstBits(state.provider, 'one'), state.describe()).not.toBe(0);
      problems.push(...(await problemsIn(state.provider)));
    }
    expect(problems).toEqual([]);
    expect(await firstBits(provider, 'one')).not.toBe(0);
    expect(await firstBits(provider, 'off')).toBe(0);
  });
});

/** The first byte of a bitmap. */
async function firstBits(provider: StorageProvider, name: string): Promise<number> {
  const storage = await provider.open(NAME, 'read');
  const bitmaps = await readBitmaps(storage, await readHeader(storage));
  const entry = new Uint8Array(8);
  await storage.read(bitmaps.find((one) => one.name === name)?.tableOffset ?? 0, entry);
  const offset = Number(new DataView(entry.buffer).getBigUint64(0));
  const first = new Uint8Array(1);
  if (offset !== 0) await storage.read(offset, first);
  await storage.close();
  return first[0] ?? 0;
}

async function expectCutSafe(provider: StorageProvider, run: (disk: Disk) => Promise<unknown>): Promise<void> {
  const content = await contentOf(provider);
  const before = await listOf(provider);
  const random = new Random(1);
  const recording = new RecordingProvider(provider, { turns: (kind) => random.below(kind === 'flush' ? 20 : 5) });
  let doneAt = 0;
  {
    await using disk = await open(recording);
    await run(disk);
    doneAt = recording.log.mark('done');
  }
  const after = await listOf(provider);
  expect(await problemsIn(provider)).toEqual([]);
  for (const state of crashStates(recording.log, provider, { maxStates: rounds(150, 3000), everyCut: rounds(12, 1) })) {
    const allowed = state.cutAt > doneAt ? [after] : [before, after];
    expect(allowed, state.describe()).toContain(await listOf(state.provider));
    expect(await contentOf(state.provider)).toBe(content);
    expect(await problemsIn(state.provider), state.describe()).toEqual([]);
  }
}

/** As text: the bitmaps, and what the image says of its parent. */
async function listOf(provider: StorageProvider): Promise<string> {
  try {
    const { bitmaps, parentName, parentFormat, warnings } = await inspect(
      { provider, name: NAME },
      { format: 'qcow2' },
    );
    return JSON.stringify({ bitmaps, parentName, parentFormat, warnings });
  } catch (error) {
    return String(isImageError(error) ? error.message : error);
  }
}

async function contentOf(provider: StorageProvider): Promise<string> {
  await using disk = await Disk.open({ provider, name: NAME }, { format: 'qcow2', allow: ['/'] });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return Buffer.from(bytes).toString('base64');
}

async function problemsIn(provider: StorageProvider): Promise<string[]> {
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  const { low, unsafe } = recount(bytes);
  return [...low, ...unsafe];
}

function open(provider: StorageProvider): Promise<Disk> {
  return Disk.open({ provider, name: NAME }, { mode: 'write', format: 'qcow2', flushAfterMs: 0, allow: ['/'] });
}
