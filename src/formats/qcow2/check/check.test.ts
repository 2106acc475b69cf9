/** Checks and repairs of images made byte by byte. The peer tests compare the same damage with QEMU. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import {
  at,
  type BuildOptions,
  type BuiltImage,
  buildQcow2,
  setCount,
  setEntry,
} from '../../../../test/faults/qcow2-bytes.ts';
import type { Finding } from '../../../image/findings.ts';
import { openDisk } from '../../../operations/open.ts';
import type { Storage } from '../../../storage/contract.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { HEADER } from '../layout.ts';
import { checkQcow2, readHeaderToCheck } from './check.ts';
import { visitClusters } from './cluster-reader.ts';
import { FindingList } from './finding-list.ts';
import { COUNT_MAX, PAGE_COUNTS, PagedCounts } from './paged-counts.ts';
import { recoverDirty, repairQcow2 } from './repair.ts';

const COPIED = 0x8000_0000;
const NAME = '/disk.qcow2';

interface Stored {
  readonly provider: MemoryProvider;
  readonly storage: Storage;
  readonly image: BuiltImage;
}

async function stored(image: BuiltImage, bytes = image.bytes): Promise<Stored> {
  const provider = new MemoryProvider();
  const storage = await provider.create(NAME);
  await storage.write(0, bytes);
  return { provider, storage, image };
}

/** Visible content: a piece of each cluster that may hold data, or the error of reading it. */
async function contentOf({ provider, image }: Stored, snapshot?: string): Promise<string[]> {
  await using disk = await openDisk({ provider, name: NAME }, snapshot === undefined ? {} : { snapshot });
  const pieces: string[] = [];
  const tableBytes = (image.clusterSize / 8) * image.clusterSize;
  for (let offset = 0; offset < disk.size; offset += tableBytes) {
    for (let cluster = 0; cluster < 12; cluster++) {
      const piece = new Uint8Array(32);
      pieces.push(await disk.read(offset + cluster * image.clusterSize + 96, piece).then(() => piece.join(), String));
    }
  }
  return pieces;
}

const codes = (findings: readonly Finding[]): string[] => [...new Set(findings.map(({ code }) => code))].sort();

type Damage = (image: BuiltImage) => void;

/** The damage, the findings, and the findings left by a repair. The disk reads the same before and after. */
const KINDS: readonly [string, Damage, string[], string[], BuildOptions?][] = [
  ['nothing', () => {}, [], []],
  ['a leak', (i) => setCount(i, at(i.data, 3), 2), ['copied-set', 'count-too-high'], []],
  ['a count that is too low', (i) => setCount(i, at(i.data, 3), 0), ['copied-set', 'count-too-low'], []],
  ['no flag', (i) => setEntry(i, at(i.l2, 1), 0, at(i.data, 5)), ['copied-missing'], []],
  ['no flag in the L1', (i) => setEntry(i, i.l1, 0, at(i.l2, 0)), ['copied-missing'], []],
  ['data of two', (i) => setEntry(i, at(i.l2, 0), COPIED, at(i.data, 1)), ['count-too-high', 'count-too-low'], []],
  ['an L2 table of two', (i) => setEntry(i, i.l1, COPIED, at(i.l2, 1)), ['count-too-high', 'count-too-low'], []],
  ['no block', (i) => setEntry(i, i.refcountTable, 0, 0), ['copied-set', 'count-too-low'], []],
  [
    'a block that begins nowhere',
    (i) => setEntry(i, i.refcountTable + 4, at(i.refcountBlocks, 0) + 512, 0),
    ['copied-set', 'count-too-low', 'refcount-unaligned'],
    [],
    { clusterSize: 65_536 },
  ],
  [
    'reserved bits of a block',
    (i) => i.view.setUint32(i.refcountTable, 0x100),
    ['copied-set', 'count-too-low', 'refcount-outside'],
    [],
  ],
  ['a block twice', (i) => setEntry(i, i.refcountTable + 8, 0, at(i.refcountBlocks, 0)), ['refcount-double'], []],
  [
    'a block that is data',
    (i) => setEntry(i, at(i.l2, 0) + 80, COPIED, at(i.refcountBlocks, 0)),
    ['count-too-low', 'refcount-overlap'],
    [],
  ],
  ['no refcount table', (i) => i.view.setUint32(56, 0), ['copied-set', 'count-too-low', 'refcount-table'], []],
  [
    'a table behind the end',
    (i) => i.view.setUint32(52, 0x10_0000),
    ['copied-set', 'count-too-low', 'refcount-table'],
    [],
  ],
  ['the dirty bit', (i) => i.view.setUint8(79, 1), ['dirty'], []],
  ['the corrupt bit', (i) => i.view.setUint8(79, 2), ['marked-corrupt'], []],
  ['a count behind the end', (i) => setCount(i, i.bytes.length + 4 * i.clusterSize, 3), ['count-beyond-file'], []],
  ['an unknown mark that a writer clears', (i) => [i.view.setUint8(88, 9), i.view.setUint8(79, 1)], ['dirty'], []],
  [
    'data that begins nowhere',
    (i) => setEntry(i, at(i.l2, 0), COPIED, at(i.data, 0) + 512),
    ['copied-set', 'count-too-low', 'data-unaligned'].filter((code) => code !== 'copied-set'),
    ['data-unaligned'],
    { clusterSize: 65_536 },
  ],
  [
    'zeroes with room that begins nowhere',
    (i) => setEntry(i, at(i.l2, 0), COPIED, at(i.data, 0) + 513),
    ['count-too-low', 'zero-unaligned'],
    [],
    { clusterSize: 65_536 },
  ],
  [
    'data behind the end',
    (i) => setEntry(i, at(i.l2, 0), 0, 0x100_0000),
    ['beyond-file', 'count-too-high'],
    ['beyond-file', 'count-too-high'],
  ],
  [
    'an L2 table that begins nowhere',
    (i) => setEntry(i, i.l1, COPIED, at(i.l2, 0) + 512),
    ['count-too-high', 'count-too-low', 'l2-unaligned'],
    ['count-too-high', 'l2-unaligned'],
    { clusterSize: 65_536 },
  ],
  ['an L1 table that goes on behind the end', (i) => i.view.setUint32(36, 0x3f_ffff), ['l1-length'], ['l1-length']],
  [
    'an L2 table behind the end',
    (i) => setEntry(i, i.l1, 0, 0x100_0000),
    ['beyond-file', 'count-too-high'],
    ['beyond-file', 'count-too-high'],
  ],
  [
    'a snapshot whose L1 table is where the header is',
    (i) => i.view.setBigUint64(i.snapshotTable, 0n),
    ['count-too-high', 'snapshot-l1'],
    ['count-too-high', 'snapshot-l1'],
    { snapshot: true },
  ],
  [
    'a leak beside an unknown extension',
    (i) => [i.view.setUint32(112, 0x00c0_ffee), setCount(i, at(i.data, 3), 2)],
    ['copied-set', 'count-too-high'],
    ['count-too-high'],
  ],
  ['reserved bits in the L1', (i) => setEntry(i, i.l1, COPIED, at(i.l2, 0) + 1), ['l1-reserved'], ['l1-reserved']],
  [
    'reserved bits in an L2',
    (i) => setEntry(i, at(i.l2, 0), COPIED, at(i.data, 0) + 2),
    ['l2-reserved'],
    ['l2-reserved'],
  ],
  [
    'extra data that is short',
    (i) => i.view.setUint32(i.snapshotTable + 36, 8),
    ['snapshot-extra'],
    [],
    { snapshot: true },
  ],
  [
    'extra data beyond the end of the file',
    (i) => i.view.setUint32(i.snapshotTable + 36, 0x3_6000),
    ['count-too-high', 'snapshot-lost'],
    ['count-too-high', 'snapshot-lost'],
    { snapshot: true },
  ],
  ['a snapshot more', (i) => i.view.setUint32(60, 3), ['snapshot-extra'], [], { snapshot: true }],
  [
    'no snapshot table',
    (i) => i.view.setUint32(68, 0x10_0000),
    ['count-too-high', 'snapshot-lost'],
    ['count-too-high', 'snapshot-lost'],
    { snapshot: true },
  ],
  [
    'a snapshot of nowhere',
    (i) => i.view.setUint32(i.snapshotTable + 4, i.snapshotL1 + 512),
    ['count-too-high', 'snapshot-l1'],
    ['count-too-high', 'snapshot-l1'],
    { snapshot: true, clusterSize: 65_536 },
  ],
];

describe('a check', () => {
  it.each(KINDS)('and a repair, of %s', async (what, damage, found, left, options) => {
    const image = buildQcow2(options);
    damage(image);
    const disk = await stored(image);
    const { storage } = disk;
    expect(codes(await checkQcow2(storage))).toEqual(found);
    // Without a refcount table it cannot be opened.
    const before = found.includes('refcount-table') ? null : await contentOf(disk);
    await repairQcow2(storage);
    const after = await checkQcow2(storage);
    expect(codes(after), what).toEqual(left);
    expect(after.filter(({ repairable }) => repairable)).toEqual([]);
    if (before !== null) expect(await contentOf(disk)).toEqual(before);
    const size = storage.size;
    await repairQcow2(storage);
    expect(storage.size).toBe(size);
  });

  const shapes = [0, 1, 2, 3, 4, 5, 6].flatMap((order) =>
    [512, 65_536].map((clusterSize) => ({ order, clusterSize, version: 3 as const })),
  );
  it.each([
    ...shapes,
    { order: 4, clusterSize: 2 ** 21, version: 3 as const },
    { order: 4, clusterSize: 512, version: 2 as const },
  ])('counts with $order, clusters of $clusterSize, version $version', async (shape) => {
    const image = buildQcow2({ ...shape, snapshot: shape.order > 0 });
    const disk = await stored(image);
    const { storage } = disk;
    expect(await checkQcow2(storage)).toEqual([]);
    const before = await contentOf(disk);
    const counts = await readAt(storage, at(image.refcountBlocks, 0), image.clusterSize);
    await storage.write(
      at(image.refcountBlocks, 0),
      counts.map((byte) => byte ^ 0xff),
    );
    expect(await checkQcow2(storage)).not.toEqual([]);
    await repairQcow2(storage);
    expect(await checkQcow2(storage)).toEqual([]);
    const again = await readAt(storage, at(image.refcountBlocks, 0), image.clusterSize);
    expect(Buffer.compare(again, counts)).toBe(0);
    await storage.write(image.refcountTable, new Uint8Array(8));
    await repairQcow2(storage);
    expect(await checkQcow2(storage)).toEqual([]);
    expect(await contentOf(disk)).toEqual(before);
    if (shape.order > 0) expect(await contentOf(disk, 'one')).toEqual(before);
  });

  it('says when counts have too few bits for what refers to a cluster', async () => {
    const image = buildQcow2({ order: 0 });
    setEntry(image, at(image.l2, 0), COPIED, at(image.data, 1));
    const { storage } = await stored(image);
    await repairQcow2(storage);
    const left = await checkQcow2(storage);
    expect(left).toMatchObject([{ code: 'too-many-uses', fileOffset: at(image.data, 1), repairable: false }]);
  });

  it('does not write to a table that is something else as well', async () => {
    const image = buildQcow2();
    // The guest sees its own L2 table, and another cluster whose count is wrong.
    setEntry(image, at(image.l2, 0), COPIED, at(image.l2, 0));
    const { storage } = await stored(image);
    await repairQcow2(storage);
    expect(codes(await checkQcow2(storage))).toEqual(['copied-set']);
    expect(await readAt(storage, at(image.l2, 0), 512)).toEqual(
      image.bytes.slice(at(image.l2, 0), at(image.l2, 0) + 512),
    );
  });

  it('does not let the file grow over what leads behind its end', async () => {
    const image = buildQcow2();
    setEntry(image, at(image.l2, 0), 0, image.bytes.length + 2 * image.clusterSize);
    setEntry(image, image.refcountTable, 0, 0);
    const { storage } = await stored(image);
    await repairQcow2(storage);
    expect(codes(await checkQcow2(storage))).toContain('beyond-file');
    expect(storage.size).toBeLessThanOrEqual(image.bytes.length + 2 * image.clusterSize);
  });

  it('calls the rest of a long list repairable only where some of it is', () => {
    const offsets = Array.from({ length: 3000 }, (_, index) => index * 512);
    const restOf = (isRepairable: (offset: number) => boolean, from = offsets) => {
      const list = new FindingList();
      for (const fileOffset of from) list.add('corruption', 'x', () => 'x', { fileOffset });
      return list.finish(({ fileOffset }) => fileOffset !== null && isRepairable(fileOffset)).at(-1);
    };
    expect(restOf(() => false)).toMatchObject({
      repairable: false,
      message: '2000 further findings x are not listed.',
    });
    expect(restOf((offset) => offset < 1000 * 512)).toMatchObject({ repairable: false, fileOffset: null });
    expect(restOf((offset) => offset >= 2999 * 512)).toMatchObject({ repairable: true });
  });

  it('refuses an L1 table that begins where the header is, which would move with every repair', async () => {
    const image = buildQcow2({ tables: 8 });
    image.view.setBigUint64(40, 0n);
    const { storage } = await stored(image);
    await expectKind(() => checkQcow2(storage), 'invalid-format');
    await expectKind(() => repairQcow2(storage), 'invalid-format');
    expect(await readAt(storage, 0, storage.size)).toEqual(image.bytes);
  });

  it('lists neighbours as one finding, and ends a list that is too long', async () => {
    const image = buildQcow2({ tables: 1, perTable: 2 });
    const many = new Uint8Array(image.bytes.length + 200 * 512);
    many.set(image.bytes);
    for (let n = 20; n < 120; n++) new DataView(many.buffer).setUint16(at(image.refcountBlocks, 0) + n * 2, 1);
    const findings = await checkQcow2((await stored(image, many)).storage);
    expect(findings).toMatchObject([
      { severity: 'leak', fileOffset: 20 * 512, message: expect.stringContaining('119') },
    ]);
    const list = new FindingList();
    for (let n = 0; n < 5000; n++) list.add('leak', 'x', () => String(n));
    expect(list.finish(() => true)).toHaveLength(1001);
    expect(list.finish(() => true).at(-1)?.message).toContain('4000 further');
  });
});

describe('recovery of a dirty image', () => {
  it('sets counts right and clears the bit', async () => {
    const image = buildQcow2();
    setCount(image, at(image.data, 3), 0);
    image.view.setUint8(79, 1);
    const { storage } = await stored(image);
    const header = await recoverDirty(storage, await readHeaderToCheck(storage));
    expect(header.incompatible).toBe(0n);
    expect(await checkQcow2(storage)).toEqual([]);
    expect(await recoverDirty(storage, header)).toBe(header);
  });

  it('refuses what it cannot make sound, and leaves it as it is', async () => {
    const image = buildQcow2();
    setEntry(image, at(image.l2, 0), 0, 0x100_0000);
    image.view.setUint8(79, 1);
    const { storage } = await stored(image);
    const header = await readHeaderToCheck(storage);
    await expectKind(() => recoverDirty(storage, header), 'corrupt');
    expect(await readAt(storage, 0, image.bytes.length)).toEqual(image.bytes);
  });
});

describe('a file that says more than it holds', () => {
  it('may have one L2 table for all of a long L1 table', async () => {
    const clusterSize = 2 ** 21;
    const image = buildQcow2({ clusterSize, tables: 1, perTable: 1 });
    const l1Entries = 2 ** 22;
    const { storage } = await stored(image);
    const l1 = new Uint8Array(l1Entries * 8);
    const view = new DataView(l1.buffer);
    for (let n = 0; n < l1Entries; n++) view.setUint32(n * 8 + 4, at(image.l2, 0));
    const l1Offset = 64 * clusterSize;
    await storage.write(l1Offset, l1);
    const head = image.bytes.slice(0, 512);
    HEADER.put(head, 'l1Entries', l1Entries);
    HEADER.put(head, 'l1Offset', l1Offset);
    await storage.write(0, head);
    const started = performance.now();
    expect(codes(await checkQcow2(storage))).toEqual([
      'copied-missing',
      'count-too-high',
      'count-too-low',
      'too-many-uses',
    ]);
    expect(performance.now() - started).toBeLessThan(20_000);
  });

  it('may be 64 TiB of holes', async () => {
    const { storage } = await stored(buildQcow2({ clusterSize: 65_536 }));
    await storage.resize(2 ** 46);
    expect(await checkQcow2(storage)).toEqual([]);
  });
});

describe('counts in pages', () => {
  it('get wider as they must, and stay at their end', () => {
    const counts = new PagedCounts('things');
    counts.add(5, 255);
    counts.add(5, 1);
    counts.add(PAGE_COUNTS * 2 ** 30, 70_000);
    counts.add(6, COUNT_MAX);
    counts.add(6, 5);
    expect([counts.get(5), counts.get(6), counts.get(7), counts.get(PAGE_COUNTS * 2 ** 30)]).toEqual([
      256,
      COUNT_MAX,
      0,
      70_000,
    ]);
    expect([...counts.indices()]).toEqual([5, 6, PAGE_COUNTS * 2 ** 30]);
  });

  it('end in an error before they take all memory', async () => {
    const counts = new PagedCounts('things', 4 * 4 * PAGE_COUNTS);
    for (let n = 0; n < 4; n++) counts.set(n * PAGE_COUNTS, 0x1_0000);
    await expectKind(() => counts.add(4 * PAGE_COUNTS, 1), 'limit');
  });
});

it('clusters are visited in order, without the holes of a large file, and written back where they changed', async () => {
  const { storage } = await stored(buildQcow2(), new Uint8Array(512 * 20).fill(1));
  await storage.resize(2 ** 30);
  const seen: number[] = [];
  const visit = (view: DataView, index: number): boolean => {
    seen.push(index);
    view.setUint8(0, index);
    return index === 3;
  };
  const holes = Array.from({ length: 4096 }, (_, n) => 2 ** 20 + n);
  expect(await visitClusters(storage, [0, 1, 3, 19, ...holes], { clusterSize: 512, visit })).toBe(true);
  expect(seen.slice(0, 4)).toEqual([0, 1, 3, 19]);
  // A MiB is read without asking where the holes are.
  expect(seen).toHaveLength(2048);
  expect((await readAt(storage, 0, 512 * 4)).filter((byte) => byte !== 1)).toEqual(Uint8Array.of(3));
});

async function readAt(storage: Storage, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  return bytes;
}
