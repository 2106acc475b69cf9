/** Repairs of QCOW2 that are cut off: the disk reads as before, nothing got worse, and a second repair ends it. */
import { describe, expect, it } from 'vitest';
import { isZero } from '../../src/codec/bytes.ts';
import { qcow2 } from '../../src/formats/qcow2/index.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { checkWith, repairWith } from '../../src/testing/format-files.ts';
import { crashStates, RecordingProvider } from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';
import { at, type BuildOptions, type BuiltImage, buildQcow2, setCount, setEntry } from './qcow2-bytes.ts';

const NAME = '/disk.qcow2';
const COPIED = 0x8000_0000;
const STATES = rounds(50, 2000);

type Row = readonly [what: string, damage: (image: BuiltImage) => void, options?: BuildOptions];

/** Many sectors have to change, of every kind that there is. */
const COUNTS: Row = [
  'counts and flags',
  (image) => {
    setCount(image, at(image.data, 2), 0);
    setCount(image, at(image.data, 7), 3);
    setEntry(image, at(image.l2, 0), COPIED, at(image.data, 1));
    setEntry(image, at(image.l2, 1) + 8, 0, at(image.data, 6));
    setEntry(image, image.l1 + 16, COPIED, at(image.l2, 1));
    image.view.setUint8(79, 3);
  },
];
const REBUILD: Row = [
  'no block, and flags',
  (image) => {
    setEntry(image, image.refcountTable, 0, 0);
    setEntry(image, at(image.l2, 0), COPIED, at(image.data, 1));
    image.view.setUint8(79, 1);
  },
];
const ROWS: readonly Row[] = [
  COUNTS,
  [
    'counts in many blocks',
    (image) => image.view.setUint8(at(image.refcountBlocks, 1) + 3, 7),
    { order: 6, tables: 6, perTable: 30 },
  ],
  REBUILD,
  ['a block that is data', (image) => setEntry(image, at(image.l2, 0) + 80, COPIED, at(image.refcountBlocks, 0))],
  ['an incomplete snapshot', (image) => image.view.setUint32(image.snapshotTable + 36, 8), { snapshot: true }],
  [
    'entries of all kinds',
    (image) => {
      setEntry(image, at(image.l2, 0), COPIED, at(image.data, 0) + 513);
      setEntry(image, at(image.l2, 1), 0xc000_0000, at(image.data, 5));
    },
    { clusterSize: 4096, snapshot: true },
  ],
];

async function contentOf(provider: StorageProvider): Promise<string> {
  await using disk = await openDisk({ provider, name: NAME });
  let all = '';
  for (let offset = 0; offset < disk.size; offset += 4096) {
    const bytes = new Uint8Array(Math.min(4096, disk.size - offset));
    await disk.read(offset, bytes).then(
      () => {
        if (!isZero(bytes)) all += `${offset}:${bytes.join()};`;
      },
      () => {
        all += `${offset}:unreadable;`;
      },
    );
  }
  return all;
}

const source = (provider: StorageProvider) => ({ provider, name: NAME });
const check = async (provider: StorageProvider) => (await checkWith(qcow2, source(provider))) ?? [];
const repair = async (provider: StorageProvider) => repairWith(qcow2, source(provider));

/** Writes to a repaired image, in place and to new space. */
async function write(provider: StorageProvider): Promise<void> {
  await using disk = await openDisk({ provider, name: NAME }, { mode: 'write', format: 'qcow2', flushAfterMs: 0 });
  for (const offset of [0, disk.size - 512]) await disk.write(offset, new Uint8Array(512).fill(7));
}

async function record([, damage, options]: Row) {
  const image = buildQcow2(options);
  damage(image);
  const inner = new MemoryProvider();
  const storage = await inner.create(NAME);
  await storage.write(0, image.bytes);
  await storage.flush();
  await storage.close();
  const before = { content: await contentOf(inner), codes: new Set((await check(inner)).map(({ code }) => code)) };
  const recorder = new RecordingProvider(inner);
  await repair(recorder);
  return { inner, log: recorder.log, before };
}

describe('a repair of qcow2 that is cut off', () => {
  it.each(ROWS.map((row) => ({ what: row[0], row })))('with $what', async ({ row }) => {
    const { inner, log, before } = await record(row);
    expect((await check(inner)).map(({ code }) => code)).toEqual([]);
    expect(await contentOf(inner)).toBe(before.content);
    const states = crashStates(log, inner, { maxStates: STATES });
    for (const state of states) {
      expect(await contentOf(state.provider), state.describe()).toBe(before.content);
      // No count goes below what refers to its cluster on the way.
      const low = (await check(state.provider)).some(({ code }) => code === 'count-too-low');
      expect(low && !before.codes.has('count-too-low'), state.describe()).toBe(false);
      await repair(state.provider);
      expect(
        (await check(state.provider)).map(({ code }) => code),
        state.describe(),
      ).toEqual([]);
      expect(await contentOf(state.provider), state.describe()).toBe(before.content);
      await write(state.provider);
      const corrupt = (await check(state.provider)).filter(({ severity }) => severity === 'corruption');
      expect(corrupt, state.describe()).toEqual([]);
    }
    expect(states.coverage.states).toBeGreaterThan(4);
  });

  it('would lose the structures if they were not durable before the header leads to them', async () => {
    const { inner, log } = await record(REBUILD);
    let broken = 0;
    for (const state of crashStates(log, inner, { maxStates: rounds(150, 2000), dropFlush: 0 })) {
      const codes = (await check(state.provider)).map(({ code }) => code);
      const dirty = codes.includes('dirty');
      if (codes.some((code) => code.startsWith('refcount-')) || !dirty) broken++;
    }
    expect(broken).toBeGreaterThan(0);
  });
});
