import { describe, expect, it } from 'vitest';
import { fill, KINDS, Place } from '../../../test/conformance/place.ts';
import { isZero } from '../../codec/bytes.ts';
import { ImageError } from '../../errors.ts';
import { checkImage, createImage, Disk, inspect } from '../../index.ts';
import { lengthOf } from '../../storage/checks.ts';
import type { StorageProvider } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { overriding } from '../../testing/overriding.ts';
import { Random } from '../../testing/random.ts';

const MIB = 1024 ** 2;
const KIB = 1024;
const SIZE = 16 * MIB;
const name = (number: number): string => `/${number}.vdi`;
const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;

/** A chain under random writes, and its expected content. */
class Chained {
  readonly provider = new MemoryProvider();
  readonly model = new Uint8Array(SIZE);
  readonly #random = new Random(7);
  #disk: Disk | null = null;

  get disk(): Disk {
    if (this.#disk === null) throw new Error('internal: the chain is made first');
    return this.#disk;
  }

  /** One image for each block size. */
  async make(blocks: readonly number[]): Promise<this> {
    const { provider } = this;
    for (const [number, block] of blocks.entries()) {
      const config = { AllocationBlockSize: block };
      const target = { provider, name: name(number) };
      if (number > 0) await this.disk.createDiff(target, { config });
      else this.#disk = await Disk.create(target, { provider, size: SIZE, config, ...OPEN });
      for (let n = 0; n < 6; n++) await this.write();
    }
    return this;
  }

  async write(): Promise<void> {
    const offset = this.#random.below(SIZE / 512 - 4000) * 512;
    const bytes = new Uint8Array(512 * (1 + this.#random.below(3000))).fill(this.#random.below(4));
    this.model.set(bytes, offset);
    await this.disk.write(offset, bytes);
  }

  async check(disk = this.disk): Promise<void> {
    const bytes = new Uint8Array(SIZE);
    await disk.read(0, bytes);
    expect(Buffer.compare(bytes, this.model)).toBe(0);
  }

  /** Checks the chain as a new process that opens the last image finds it. */
  async checkFiles(): Promise<void> {
    const names = this.disk.images.map((image) => image.name);
    await this.disk.close();
    const again = await Disk.open({ provider: this.provider, name: names.at(-1) ?? '' }, OPEN);
    expect(again.warnings).toEqual([]);
    expect(again.images.map((image) => image.name)).toEqual(names);
    await this.check(again);
    await again.close();
  }

  async files(): Promise<string[]> {
    const names: string[] = [];
    for await (const file of this.provider.list('/')) names.push(file);
    return names.sort();
  }
}

async function bytesOf({ provider }: Place, file: string): Promise<Buffer> {
  const storage = await provider.open(file, 'read');
  const bytes = Buffer.alloc(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

const BLOCKS = [
  [MIB, MIB, MIB, MIB],
  [64 * KIB, MIB, 4 * KIB, 2 * MIB],
  [2 * MIB, 4 * KIB, MIB, 64 * KIB],
];

describe('merge', () => {
  it.each([
    [0, 1],
    [0, 3],
    [1, 3],
    [1, 2],
    [1, 0],
    [3, 0],
    [3, 1],
    [2, 1],
  ])('%i to %i, while a guest writes', async (from, to) => {
    for (const blocks of BLOCKS) {
      const chain = await new Chained().make(blocks);
      const merging = chain.disk.merge(from, to);
      for (let n = 0; n < 8; n++) await chain.write();
      await merging;
      expect(chain.disk.images.length).toBe(4 - Math.abs(from - to));
      expect(await chain.files()).toEqual(chain.disk.images.map((image) => image.name).sort());
      await chain.check();
      await chain.write();
      await chain.checkFiles();
    }
  });

  it.each([
    [0, 2],
    [2, 0],
  ])('%i to %i is cancelled at any step, and run again', async (from, to) => {
    for (let stopAt = 0; ; stopAt++) {
      const chain = await new Chained().make([MIB, 64 * KIB, MIB]);
      const stop = new AbortController();
      let steps = 0;
      const outcome = chain.disk.merge(from, to, {
        signal: stop.signal,
        onProgress: () => {
          if (steps++ === stopAt) stop.abort();
        },
      });
      const cancelled = await outcome.then(
        () => false,
        (error: { kind: string }) => error.kind === 'aborted',
      );
      await chain.check();
      if (!cancelled) {
        expect(steps).toBe(stopAt + 1);
        return;
      }
      expect(await chain.files()).toEqual(['/0.vdi', '/1.vdi', '/2.vdi']);
      await chain.write();
      await chain.check();
      await chain.disk.merge(from, to);
      await chain.checkFiles();
    }
  });

  it('reports progress that grows up to the end', async () => {
    const chain = await new Chained().make([MIB, MIB]);
    const seen: number[] = [];
    await chain.disk.merge('last', 0, { onProgress: ({ done }) => seen.push(done) });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(SIZE);
    await chain.disk.close();
  });

  it('gives the parent the size of the child, and hides what the base has beyond it', async () => {
    const provider = new MemoryProvider();
    const at = (number: number) => ({ provider, name: name(number) });
    const disk = await Disk.create(at(0), { provider, size: 4 * MIB, ...OPEN });
    await disk.write(0, new Uint8Array(4 * MIB).fill(1));
    await disk.createDiff(at(1));
    await disk.resize(2 * MIB - 512, { shrink: true });
    await disk.createDiff(at(2));
    await disk.resize(3 * MIB);
    const expected = new Uint8Array(3 * MIB).fill(1, 0, 2 * MIB - 512);
    await disk.merge(2, 1);
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    expect(bytes.length).toBe(expected.length);
    expect(Buffer.compare(bytes, expected)).toBe(0);
    await disk.close();
  });

  it.each([
    [1, 0],
    [0, 1],
  ])('%i to %i reads and writes each byte that moves once', async (from, to) => {
    const memory = new MemoryProvider();
    const moved = { read: 0, written: 0 };
    let counting = false;
    const provider = overriding<StorageProvider>(memory, {
      async open(file, mode) {
        const storage = await memory.open(file, mode);
        return overriding(storage, {
          read(offset, target) {
            if (counting) moved.read += lengthOf(target);
            return storage.read(offset, target);
          },
          write(offset, source) {
            if (counting) moved.written += lengthOf(source);
            return storage.write(offset, source);
          },
        });
      },
    });
    const disk = await Disk.create({ provider, name: name(0) }, { provider, size: SIZE, ...OPEN });
    if (from === 0) await disk.write(0, new Uint8Array(6 * MIB).fill(1));
    await disk.createDiff({ provider, name: name(1) });
    if (from === 1) await disk.write(0, new Uint8Array(6 * MIB).fill(2));
    await disk.flush();
    counting = true;
    await disk.merge(from, to);
    counting = false;
    // What is more are headers and maps.
    for (const bytes of [moved.read, moved.written]) {
      expect(bytes).toBeGreaterThanOrEqual(6 * MIB);
      expect(bytes).toBeLessThan(6 * MIB + 512 * KIB);
    }
    await disk.close();
  });

  it('leaves holes where the child hides a raw base with zeroes', async () => {
    const provider = new MemoryProvider();
    const base = { provider, name: '/base.raw' };
    const disk = await Disk.create(base, { provider, format: 'raw', size: SIZE, ...OPEN });
    await disk.write(0, new Uint8Array(12 * MIB).fill(1));
    await disk.createDiff({ provider, name: name(1) });
    await disk.zero(4 * MIB, 12 * MIB);
    await disk.merge(1, 0);
    const bytes = new Uint8Array(SIZE);
    await disk.read(0, bytes);
    expect(bytes.indexOf(0)).toBe(4 * MIB);
    expect(isZero(bytes.subarray(4 * MIB))).toBe(true);
    expect((await inspect(base)).allocatedSize).toBe(4 * MIB);
    await disk.close();
  });

  it('keeps the link to a parent that was not opened', async () => {
    const provider = new MemoryProvider();
    const at = (number: number) => ({ provider, name: name(number) });
    const disk = await Disk.create(at(0), { provider, size: 4 * MIB, ...OPEN });
    const expected = new Uint8Array(4 * MIB).fill(1);
    await disk.write(0, expected);
    for (const number of [1, 2]) {
      await disk.createDiff(at(number));
      const bytes = new Uint8Array(MIB).fill(number + 1);
      expected.set(bytes, number * MIB);
      await disk.write(number * MIB, bytes);
    }
    await disk.close();
    const upper = await Disk.open([at(1), at(2)], { mode: 'write', withoutParents: true, flushAfterMs: 0 });
    await upper.merge(0, 1);
    await upper.close();
    const again = await Disk.open(at(2), OPEN);
    const bytes = new Uint8Array(4 * MIB);
    await again.read(0, bytes);
    expect(again.images.map((image) => image.name)).toEqual([name(0), name(2)]);
    expect(again.warnings).toEqual([]);
    expect(Buffer.compare(bytes, expected)).toBe(0);
    await again.close();
  });

  it('fails, and not the guest, when what the guest writes cannot be merged again', async () => {
    const memory = new MemoryProvider();
    let full = false;
    const provider = overriding<StorageProvider>(memory, {
      async open(file, mode) {
        const storage = await memory.open(file, mode);
        if (file !== name(0)) return storage;
        return overriding(storage, {
          write: (offset, source) =>
            full
              ? Promise.reject(new ImageError('no-space', 'The medium is full', { path: file }))
              : storage.write(offset, source),
        });
      },
    });
    const disk = await Disk.create({ provider, name: name(0) }, { provider, size: SIZE, ...OPEN });
    await disk.createDiff({ provider, name: name(1) });
    await disk.write(0, new Uint8Array(MIB).fill(1));
    let write: Promise<void> | null = null;
    const merging = disk.merge(1, 0, {
      onProgress: () => {
        full = true;
        write ??= disk.write(512, new Uint8Array(512).fill(2));
      },
    });
    await expect(merging).rejects.toMatchObject({ kind: 'no-space' });
    await write;
    const bytes = new Uint8Array(1536);
    await disk.read(0, bytes);
    expect([bytes[0], bytes[512], bytes[1024]]).toEqual([1, 2, 1]);
    full = false;
    await disk.merge(1, 0);
    await disk.read(0, bytes);
    expect([bytes[0], bytes[512], bytes[1024]]).toEqual([1, 2, 1]);
    await disk.close();
  });

  it('says no to what cannot be merged', async () => {
    const chain = await new Chained().make([MIB, MIB]);
    const { disk, provider } = chain;
    await expect(disk.merge(0, 2)).rejects.toMatchObject({ status: 'VERR_VD_IMAGE_NOT_FOUND' });
    await expect(disk.merge(-1, 0)).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(disk.merge(1, 'last')).rejects.toMatchObject({ kind: 'invalid-argument' });
    const other = await Disk.create(
      { provider, name: '/other.vdi' },
      { provider, parent: { provider, name: name(0) } },
    );
    await other.close();
    await expect(disk.merge(1, 0)).rejects.toMatchObject({ kind: 'busy' });
    await chain.check();
    await disk.close();
    const reader = await Disk.open({ provider, name: name(1) }, OPEN);
    await expect(reader.merge(1, 0)).rejects.toMatchObject({ kind: 'read-only' });
    await reader.close();
  });

  it.each(KINDS)('changes nothing in a longer parent when it is refused: $name', async ({ format, config }) => {
    const place = new Place(format, config);
    await place.make('/0', 2 * MIB, [{ at: 0, length: MIB, byte: 1 }]);
    await place.make('/1', MIB, [{ at: 0, length: 4 * KIB, byte: 2 }], '/0');
    const before = await bytesOf(place, '/0');
    {
      await using disk = await place.open('/1');
      await expect(disk.merge(1, 0)).rejects.toMatchObject({ kind: 'unsupported', context: { path: '/0' } });
    }
    expect((await bytesOf(place, '/0')).equals(before)).toBe(true);
  });

  it('lets other operations on the structure wait', async () => {
    const chain = await new Chained().make([MIB, MIB, MIB]);
    const { disk } = chain;
    await Promise.all([disk.merge(1, 0), disk.compact(), disk.resize(SIZE + MIB), disk.merge('last', 0)]);
    expect(disk.images.length).toBe(1);
    expect(disk.size).toBe(SIZE + MIB);
    await chain.check({ read: (offset: number, bytes: Uint8Array) => disk.read(offset, bytes) } as Disk);
    await disk.close();
  });
});

describe('stacking images', () => {
  it('goes on with the new one, and with the old one when it is closed', async () => {
    const chain = await new Chained().make([MIB]);
    const { disk, provider } = chain;
    const before = chain.model.slice();
    await disk.createDiff({ provider, name: name(1) });
    expect(disk.label).toBe(name(1));
    await chain.write();
    await chain.check();
    const parent = await Disk.open({ provider, name: name(0) });
    const bytes = new Uint8Array(SIZE);
    await parent.read(0, bytes);
    expect(Buffer.compare(bytes, before)).toBe(0);
    await parent.close();
    await disk.closeLast({ remove: true });
    expect(await chain.files()).toEqual([name(0)]);
    chain.model.set(before);
    await chain.check();
    await chain.write();
    await chain.check();
    await disk.closeLast({ remove: true });
    expect(await chain.files()).toEqual([]);
    await expect(disk.flush()).rejects.toMatchObject({ status: 'VERR_VD_NOT_OPENED' });
  });

  it('leaves the disk as it was when the new image cannot be made', async () => {
    const chain = await new Chained().make([MIB]);
    const { disk, provider } = chain;
    await expect(disk.createDiff({ provider, name: name(0) })).rejects.toMatchObject({ kind: 'exists' });
    await expect(disk.createDiff({ provider, name: '/new.raw' })).rejects.toMatchObject({ kind: 'unsupported' });
    const own = disk.createDiff({ provider, name: name(0) }, { force: true });
    await expect(own).rejects.toMatchObject({ kind: 'exists' });
    expect(await chain.files()).toEqual([name(0)]);
    await chain.write();
    await chain.checkFiles();
  });

  it('does not remove what another image is made from', async () => {
    const chain = await new Chained().make([MIB, MIB]);
    const { disk, provider } = chain;
    const parent = { provider, name: name(1) };
    await createImage({ provider, name: '/other.vdi' }, { parent, lock: false });
    await expect(disk.closeLast({ remove: true })).rejects.toMatchObject({ kind: 'busy' });
    await chain.write();
    await chain.checkFiles();
  });

  it('flushes the parent, and keeps it from others who would write', async () => {
    const chain = await new Chained().make([MIB]);
    const { disk, provider } = chain;
    await disk.createDiff({ provider, name: name(1) });
    await expect(Disk.open({ provider, name: name(0) }, { mode: 'write' })).rejects.toMatchObject({ kind: 'locked' });
    await chain.checkFiles();
  });

  it('puts a differencing image over a raw one, and says that the link is not stored', async () => {
    const provider = new MemoryProvider();
    const base = { provider, name: '/base.raw' };
    const disk = await Disk.create(base, { provider, format: 'raw', size: MIB, ...OPEN });
    await disk.write(0, new Uint8Array(MIB).fill(5));
    const warnings = await disk.createDiff({ provider, name: '/over.vdi' });
    expect(warnings.join()).toContain('/base.raw has no UUID, so the link to it cannot be stored');
    await disk.write(512, new Uint8Array(512).fill(6));
    await disk.close();
    const again = await Disk.open([base, { provider, name: '/over.vdi' }]);
    const bytes = new Uint8Array(1536);
    await again.read(0, bytes);
    expect([bytes[0], bytes[512], bytes[1024]]).toEqual([5, 6, 5]);
    await again.close();
  });

  it('changes what each image says of itself', async () => {
    const chain = await new Chained().make([MIB, MIB]);
    const { disk } = chain;
    await disk.set(0, { comment: 'the base' });
    await disk.set('last', { comment: 'the snapshot' });
    expect(disk.images.map(({ info }) => info.comment)).toEqual(['the base', 'the snapshot']);
    await expect(disk.set(2, { comment: 'none' })).rejects.toMatchObject({ status: 'VERR_VD_IMAGE_NOT_FOUND' });
    await expect(disk.set(0, { comment: 'x'.repeat(300) })).rejects.toMatchObject({ kind: 'invalid-argument' });
    await chain.write();
    await chain.checkFiles();
  });
});

it('bitmaps of an image that takes content record it, and stay sound', async () => {
  const [qcow2] = KINDS;
  if (qcow2 === undefined) throw new Error('a kind is missing');
  const place = new Place(qcow2.format, qcow2.config);
  await place.make('/base', 64 * 1024, [fill(0, 4096, 1)]);
  await place.make('/middle', 64 * 1024, [fill(4096, 4096, 2)], '/base');
  await place.make('/upper', 64 * 1024, [fill(8192, 4096, 3)], '/middle');
  await place.make('/last', 64 * 1024, [], '/upper');
  {
    await using disk = await place.open('/base');
    await disk.bitmaps.add('one');
  }
  {
    await using disk = await place.open('/last');
    await disk.merge(1, 0);
  }
  const { bitmaps } = await inspect(place.at('/base'));
  expect(bitmaps).toMatchObject([{ name: 'one', inconsistent: false }]);
});

describe('an image that a merge changed', () => {
  const QCOW2 = { format: 'qcow2', config: { cluster_size: 4096 } } as const;
  const WHOLE = 256 * KIB;

  /** Three images; writes into one of the lower two free compressed clusters, or those of a snapshot. */
  async function family(how: 'compressed' | 'snapshot'): Promise<Place> {
    const place = new Place(QCOW2.format, QCOW2.config);
    for (const [number, parent] of [undefined, '/0', '/1'].entries()) {
      await place.make(`/${number}`, WHOLE, number === 2 ? [fill(0, WHOLE, 9)] : [], parent);
      await using disk = await place.open(`/${number}`);
      if (number === 2) break;
      const bytes = new Uint8Array(WHOLE).fill(number + 1);
      if (how === 'compressed') await (await disk.compress(0, bytes)).store();
      else await disk.write(0, bytes);
      if (how === 'snapshot' && number === 0) await disk.snapshots.create('before');
    }
    return place;
  }

  const WORK: Readonly<Record<string, (disk: Disk) => Promise<unknown>>> = {
    'the last into its parent': (disk) => disk.merge('last', 1),
    'the middle one into the base': (disk) => disk.merge(1, 0),
    'both into the base': (disk) => disk.merge('last', 0),
    'a commit': (disk) => disk.commit(),
    'a commit to the base': (disk) => disk.commit({ base: 0, force: true }),
  };

  describe.each(['compressed', 'snapshot'] as const)('%s', (how) => {
    it.each(Object.keys(WORK))('has no room lost: %s', async (what) => {
      const place = await family(how);
      {
        await using disk = await place.open('/2');
        await WORK[what]?.(disk);
      }
      await expectNoRoomLost(place);
    });

    it.each(Object.keys(WORK))('has no room lost when it is cancelled: %s', async (what) => {
      const place = await family(how);
      const before = await place.content('/2');
      {
        await using disk = await place.open('/2');
        const work = WORK[what]?.(cancelling(disk));
        await expect(work).rejects.toThrow(/cancelled/);
      }
      expect(before.equals(await place.content('/2'))).toBe(true);
      await expectNoRoomLost(place);
    });
  });

  /** A disk whose merges and commits are cancelled near the end. */
  function cancelling(disk: Disk): Disk {
    const stop = new AbortController();
    const options = { signal: stop.signal, onProgress: () => stop.abort() };
    return overriding(disk, {
      merge: (from, to, more) => disk.merge(from, to, { ...more, ...options }),
      commit: (more) => disk.commit({ ...more, ...options }),
    });
  }

  async function expectNoRoomLost(place: Place): Promise<void> {
    for await (const name of place.provider.list('/')) {
      expect((await checkImage(place.at(name))).findings, name).toEqual([]);
    }
  }
});
