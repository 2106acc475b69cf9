/** Chains of Parallels images, which do not name their parents: they are opened by a list. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../../test/conformance/random.ts';
import { expectedContent } from '../../../test/golden/content.ts';
import { type GoldenImage, GoldenSet } from '../../../test/golden/manifest.ts';
import { fileBytes } from '../../../test/model/extents.ts';
import type { ChainDisk } from '../../disk/disk.ts';
import { checkImage } from '../../operations/check.ts';
import { createImage } from '../../operations/create.ts';
import { openDisk } from '../../operations/open.ts';
import type { Source } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { Random } from '../../testing/random.ts';
import { repairParallels } from './check.ts';
import { HEADER } from './layout.ts';

const CLUSTER = 4096;
const SIZE = 12 * CLUSTER;

async function readAll(disk: ChainDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

async function storeFile(provider: MemoryProvider, name: string, bytes: Uint8Array): Promise<Source> {
  const storage = await provider.create(name);
  await storage.write(0, bytes);
  await storage.close();
  return { provider, name };
}

describe('chains of VirtualBox', () => {
  const set = new GoldenSet('parallels');
  afterAll(() => set.dispose());
  const last = set.images.find(({ file }) => file === 'parallels-chain-diff3.hdd') as GoldenImage;
  const content = expectedContent(last.contentOps ?? [], 0, last.virtualSize);

  const folder = dirname(set.unpack(last));
  /** A copy of the chain in memory, base first. */
  async function chain(): Promise<Source[]> {
    const provider = new MemoryProvider();
    const files = last.chain.map(async (file) => storeFile(provider, `/${file}`, await readFile(join(folder, file))));
    return Promise.all(files);
  }

  it.each([
    ['forwards', 0, 3],
    ['backwards', 3, 0],
    ['in the middle', 1, 2],
  ])('are merged %s, and compacted', async (_title, from, to) => {
    const images = await chain();
    const disk = await openDisk(images, { mode: 'write', flushAfterMs: 0 });
    await disk.merge(from, to);
    expectSameBytes(await readAll(disk), content);
    await disk.compact();
    expectSameBytes(await readAll(disk), content);
    const left = disk.images.map((open) => images.find(({ name }) => name === open.name) as Source);
    await disk.close();
    expect(left).toHaveLength(4 - Math.abs(from - to));
    await using again = await openDisk(left);
    expectSameBytes(await readAll(again), content);
    for (const image of left) expect((await checkImage(image)).findings).toEqual([]);
  });
});

describe('over a parent', () => {
  const config = { cluster_size: CLUSTER };

  /** A full parent and an empty child. */
  async function pair(parentSize = SIZE): Promise<{ images: Source[]; content: Uint8Array }> {
    const provider = new MemoryProvider();
    const [parent, child] = [
      { provider, name: '/parent.hdd' },
      { provider, name: '/child.hdd' },
    ];
    await createImage(parent, { format: 'parallels', size: parentSize, config });
    await createImage(child, { format: 'parallels', size: SIZE, config });
    const content = randomBytes(new Random(2), parentSize);
    await using disk = await openDisk(parent, { mode: 'write' });
    await disk.write(0, content);
    return { images: [parent, child], content: content.slice(0, SIZE) };
  }

  it('zeroes hide it, since they are stored', async () => {
    const { images, content } = await pair();
    const disk = await openDisk(images, { mode: 'write' });
    await disk.zero(CLUSTER, 3 * CLUSTER);
    await disk.discard([{ offset: 8 * CLUSTER, length: 2 * CLUSTER }]);
    await disk.write(6 * CLUSTER + 5, Uint8Array.of(1, 2, 3));
    await disk.close();
    content.fill(0, CLUSTER, 4 * CLUSTER);
    content.set([1, 2, 3], 6 * CLUSTER + 5);
    await using again = await openDisk(images);
    const found = await readAll(again);
    // What was discarded may read as before, or as zero.
    if (found[8 * CLUSTER] === 0) content.fill(0, 8 * CLUSTER, 10 * CLUSTER);
    expectSameBytes(found, content);
  });

  it('that is longer, a larger disk reads zero behind its old end', async () => {
    const { images, content } = await pair(20 * CLUSTER);
    const disk = await openDisk(images, { mode: 'write' });
    await disk.resize(18 * CLUSTER - 512);
    await disk.close();
    const larger = new Uint8Array(18 * CLUSTER - 512);
    larger.set(content);
    await using again = await openDisk(images);
    expectSameBytes(await readAll(again), larger);
    for (const image of images) expect((await checkImage(image)).findings).toEqual([]);
  });

  it('a repair hides it where an entry was lost', async () => {
    const { images, content } = await pair();
    const disk = await openDisk(images, { mode: 'write' });
    await disk.write(5 * CLUSTER, new Uint8Array(CLUSTER).fill(7));
    await disk.close();
    const [parent, child] = images as [Source, Source];
    const bytes = await fileBytes(child);
    new DataView(bytes.buffer).setUint32(HEADER.size + 5 * 4, 0xffff_ff00, true);
    const broken = await storeFile(new MemoryProvider(), '/child.hdd', bytes);
    await expectKind(async () => readAll(await openDisk([parent, broken])), 'corrupt');
    const storage = await broken.provider.open(broken.name, 'write');
    const found = await repairParallels(storage, { differencing: true });
    await storage.close();
    expect(found.map(({ code }) => code)).toContain('cluster-beyond-end');
    content.fill(0, 5 * CLUSTER, 6 * CLUSTER);
    await using again = await openDisk([parent, broken]);
    expectSameBytes(await readAll(again), content);
  });
});
