/** Images inside images: ranges as storages, and sources of them. */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { randomBytes, rounds } from '../../test/conformance/random.ts';
import type { BlockDevice } from '../disk/device.ts';
import type { ChainDisk } from '../disk/disk.ts';
import { checkImage } from '../operations/check.ts';
import { convert } from '../operations/convert.ts';
import { createImage } from '../operations/create.ts';
import { inspect } from '../operations/inspect.ts';
import { openDisk } from '../operations/open.ts';
import { childrenOf } from '../operations/siblings.ts';
import type { Source, Storage } from '../storage/contract.ts';
import { MemoryProvider, MemoryStorage } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { rangeStorage } from './range.ts';
import { insideSource } from './source.ts';

const MIB = 2 ** 20;

/** The bytes of a new image with some data in it. */
async function imageBytes(format: string, size = 4 * MIB): Promise<Uint8Array> {
  const place = { provider: new MemoryProvider(), name: `/inner.${format}` };
  await createImage(place, { size, format });
  {
    await using disk = await openDisk(place, { mode: 'write', format });
    await disk.write(MIB + 512, new Uint8Array(4096).fill(0x5a));
  }
  const storage = await place.provider.open(place.name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function outerDisk(size: number, format = 'vdi'): Promise<{ place: Source; disk: ChainDisk }> {
  const place = { provider: new MemoryProvider(), name: `/outer.${format}` };
  await createImage(place, { size, format });
  return { place, disk: await openDisk(place, { mode: 'write', format }) };
}

async function bytesOf(storage: Storage): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  return bytes;
}

describe('a range as a storage', () => {
  it('is the bytes of the disk, and nothing beside them', async () => {
    const { disk } = await outerDisk(4 * MIB);
    const range = rangeStorage(disk, 1000, 5000);
    expect(range).toMatchObject({ size: 5000, can: { write: true, resize: true, random: true } });
    for (let seed = 1; seed <= rounds(200, 5000); seed++) {
      const random = new Random(seed);
      const offset = random.below(5000);
      await range.write(offset, randomBytes(random, random.below(5000 - offset)));
    }
    const seen = new Uint8Array(7000);
    await disk.read(0, seen);
    expectSameBytes(await bytesOf(range), seen.subarray(1000, 6000));
    expect(seen.subarray(0, 1000).some((byte) => byte !== 0)).toBe(false);
    expect(seen.subarray(6000).some((byte) => byte !== 0)).toBe(false);
    await range.zero(10, 4000, { punch: true });
    await disk.read(1010, seen.subarray(0, 4000));
    expect(seen.subarray(0, 4000).some((byte) => byte !== 0)).toBe(false);
    await disk.close();
  });

  it('ends where it ends', async () => {
    const { disk } = await outerDisk(4 * MIB);
    const range = rangeStorage(disk, 1000, 5000);
    await expectKind(() => range.read(4999, new Uint8Array(2)), 'out-of-bounds');
    await expectKind(() => range.write(4999, new Uint8Array(2)), 'no-space');
    await expectKind(() => range.resize(5001), 'no-space');
    await expectKind(() => rangeStorage(disk, 4 * MIB - 1, 2), 'out-of-bounds');
    await expectKind(() => rangeStorage(disk, 4 * MIB + 1), 'out-of-bounds');
    await expectKind(() => rangeStorage(disk, -1, 2), 'invalid-argument');
    await disk.close();
  });

  it('gets shorter by giving room back, and longer again with zeroes', async () => {
    const outer = new MemoryStorage();
    await outer.write(0, new Uint8Array(64 * 1024).fill(7));
    const range = rangeStorage(outer, 4096, 32 * 1024);
    await range.resize(8192);
    expect(range.size).toBe(8192);
    await range.write(9000, Uint8Array.of(1));
    expect(range.size).toBe(9001);
    const seen = await bytesOf(range);
    expect([seen[8191], seen[8192], seen[8999], seen[9000]]).toEqual([7, 0, 0, 1]);
    const behind = new Uint8Array(2);
    await outer.read(4096 + 32 * 1024 - 1, behind);
    expect([...behind]).toEqual([0, 7]);
    expect(outer.size).toBe(64 * 1024);
  });

  it('without a length grows with the storage', async () => {
    const outer = new MemoryStorage();
    await outer.write(0, new Uint8Array(1000).fill(7));
    const range = rangeStorage(outer, 600);
    expect(range.size).toBe(400);
    await range.write(500, Uint8Array.of(1));
    expect([range.size, outer.size]).toEqual([501, 1101]);
    await range.resize(10);
    expect(outer.size).toBe(610);
  });

  it('has the holes of the outer disk', async () => {
    const { disk } = await outerDisk(8 * MIB);
    await disk.write(2 * MIB, new Uint8Array(MIB).fill(1));
    const range = rangeStorage(disk, MIB, 6 * MIB);
    const found: [number, number, boolean][] = [];
    for (let at = 0; at < range.size; ) {
      const { start, end, data } = await range.extentAt(at);
      found.push([Math.max(start, at), end, data]);
      at = end;
    }
    expect(found).toEqual([
      [0, MIB, false],
      [MIB, 2 * MIB, true],
      [2 * MIB, 6 * MIB, false],
    ]);
    const outer = new MemoryStorage();
    await outer.resize(8 * MIB);
    await outer.write(0, new Uint8Array(MIB).fill(1));
    const { data, start, end } = await rangeStorage(outer, MIB / 2, 4 * MIB).extentAt(0);
    expect({ data, start, end }).toEqual({ data: true, start: 0, end: MIB / 2 });
    await disk.close();
  });

  it('flushes the outer disk', async () => {
    const { disk } = await outerDisk(MIB);
    let flushes = 0;
    const device: BlockDevice = {
      label: disk.label,
      size: disk.size,
      can: disk.can,
      blockSize: 512,
      read: (offset, target) => disk.read(offset, target),
      write: (offset, source) => disk.write(offset, source),
      zero: (offset, length) => disk.zero(offset, length),
      extentAt: (offset, end) => disk.extentAt(offset, end),
      flush: async () => {
        flushes++;
        await disk.flush();
      },
      close: () => disk.close(),
    };
    const range = rangeStorage(device, 0, 512);
    await range.flush();
    expect(flushes).toBe(1);
    await disk.close();
  });

  it('is locked as the outer storage is, and against handles of the same range', async () => {
    const provider = new MemoryProvider();
    await (await provider.create('/outer.raw')).resize(MIB);
    const outer = await provider.open('/outer.raw', 'write');
    const [one, two, other] = [rangeStorage(outer, 0, 512), rangeStorage(outer, 0, 512), rangeStorage(outer, 512, 512)];
    await one.lock('exclusive');
    await expectKind(() => two.lock('shared'), 'locked');
    await other.lock('shared');
    // A lock for reading does not weaken the one for writing.
    const stranger = await provider.open('/outer.raw', 'read');
    await expectKind(() => stranger.lock('shared'), 'locked');
    expect((await one.lockState()).held).toBe('exclusive');
    await one.close();
    await two.lock('shared');
  });

  it('keeps the lock that it had when it gets no stricter one', async () => {
    const provider = new MemoryProvider();
    await (await provider.create('/outer.raw')).resize(MIB);
    const outer = await provider.open('/outer.raw', 'write');
    const stranger = await provider.open('/outer.raw', 'read');
    await stranger.lock('shared');
    const [one, two] = [rangeStorage(outer, 0, 512), rangeStorage(outer, 0, 512)];
    await one.lock('shared');
    await expectKind(() => one.lock('exclusive'), 'locked');
    await stranger.close();
    await two.lock('shared');
    await expectKind(() => two.lock('exclusive'), 'locked');
    await one.close();
    await two.lock('exclusive');
  });

  it('is never written where the outer one, or the caller, says so', async () => {
    const { disk } = await outerDisk(MIB);
    const range = rangeStorage(disk, 0, 512, { mode: 'read' });
    expect(range.can.write).toBe(false);
    await expectKind(() => range.write(0, new Uint8Array(1)), 'read-only');
    await expectKind(() => range.zero(0, 1, { punch: true }), 'read-only');
    await expectKind(() => range.resize(0), 'read-only');
    await range.close();
    await expectKind(() => range.read(0, new Uint8Array(1)), 'io');
    await disk.close();
  });

  it('tells ranges of one disk apart, and knows one again', async () => {
    const { disk } = await outerDisk(MIB);
    const key = async (offset: number): Promise<string> => (await rangeStorage(disk, offset, 512).identity()).key;
    expect(await key(0)).toBe(await key(0));
    expect(await key(0)).not.toBe(await key(512));
    await disk.close();
  });
});

describe('an image inside an image', () => {
  it.each(['vdi', 'qcow2', 'raw'])('is read and written in its place: %s', async (format) => {
    const inner = await imageBytes(format);
    const { place, disk: outer } = await outerDisk(32 * MIB);
    const offset = 3 * MIB;
    const around = new Uint8Array(512).fill(0xcc);
    await outer.write(offset - 512, around);
    await outer.write(offset, inner);
    await outer.write(offset + 16 * MIB, around);
    const source = insideSource(outer, { offset, length: 16 * MIB });
    const size = format === 'raw' ? 16 * MIB : 4 * MIB;
    expect(await inspect(source, { format })).toMatchObject({ format, virtualSize: size });
    const model = new Uint8Array(size);
    model.fill(0x5a, MIB + 512, MIB + 512 + 4096);
    {
      await using disk = await openDisk(source, { mode: 'write', format });
      const random = new Random(11);
      for (let step = 0; step < 40; step++) {
        const data = randomBytes(random, random.below(60_000));
        const at = random.below(size - data.length);
        await disk.write(at, data);
        model.set(data, at);
      }
      await disk.flush();
    }
    if (format !== 'raw')
      expect(
        (await checkImage(source, { format })).findings.filter(({ severity }) => severity === 'corruption'),
      ).toEqual([]);
    await outer.close();
    // Everything went through to the outer image.
    await using again = await openDisk(place);
    const seen = new Uint8Array(size);
    {
      await using disk = await openDisk(insideSource(again, { offset, length: 16 * MIB }), { format });
      await disk.read(0, seen);
    }
    expectSameBytes(seen, model);
    for (const at of [offset - 512, offset + 16 * MIB]) {
      await again.read(at, seen.subarray(0, 512));
      expectSameBytes(seen.subarray(0, 512), around);
    }
  });

  it('is compacted and resized in its place', async () => {
    const { disk: outer } = await outerDisk(32 * MIB);
    await outer.write(0, await imageBytes('vdi'));
    const source = insideSource(outer, { length: 16 * MIB });
    await using disk = await openDisk(source, { mode: 'write' });
    await disk.write(0, new Uint8Array(3 * MIB).fill(1));
    await disk.zero(0, 3 * MIB);
    await disk.compact();
    await disk.resize(8 * MIB);
    await disk.write(8 * MIB - 1, Uint8Array.of(9));
    const last = new Uint8Array(2);
    await disk.read(8 * MIB - 2, last);
    expect([...last]).toEqual([0, 9]);
    const [one] = [new Uint8Array(1)];
    await disk.read(MIB + 512, one);
    expect(one[0]).toBe(0);
  });

  it('does not get longer than its place', async () => {
    const { disk: outer } = await outerDisk(32 * MIB);
    const inner = await imageBytes('vdi', 16 * MIB);
    await outer.write(0, inner);
    const disk = await openDisk(insideSource(outer, { length: inner.length + MIB }), { mode: 'write' });
    await disk.write(0, new Uint8Array(MIB).fill(1));
    await expectKind(() => disk.write(8 * MIB, new Uint8Array(2 * MIB).fill(1)), 'no-space');
    await disk.close().catch(() => {});
    await outer.close();
  });

  it('grows at the end of a file', async () => {
    const provider = new MemoryProvider();
    const outer = await provider.create('/bundle');
    await outer.write(0, new Uint8Array(1000).fill(7));
    await outer.write(1000, await imageBytes('vdi'));
    const before = outer.size;
    await using disk = await openDisk(insideSource(outer, { offset: 1000 }), { mode: 'write' });
    await disk.write(3 * MIB, new Uint8Array(MIB).fill(3));
    expect(outer.size).toBeGreaterThan(before);
  });

  it('has no neighbours, so its parent has to be named', async () => {
    const provider = new MemoryProvider();
    const base = { provider, name: '/base.vdi' };
    const child = { provider, name: '/child.vdi' };
    await createImage(base, { size: MIB });
    await createImage(child, { parent: base });
    const storage = await provider.open('/child.vdi', 'read');
    const { disk: outer } = await outerDisk(8 * MIB);
    await outer.write(0, await bytesOf(storage));
    const source = insideSource(outer);
    await expectKind(() => openDisk(source, { allow: ['same-directory', '/'] }), 'not-found', 'denied');
    expect(await childrenOf(source)).toEqual({ names: [], complete: true });
    await using disk = await openDisk(source, { parent: base });
    expect(disk.images).toHaveLength(2);
    await outer.close();
  });

  it('is never written as raw because nothing else fits', async () => {
    const { disk: outer } = await outerDisk(MIB);
    await expectKind(() => openDisk(insideSource(outer), { mode: 'write' }), 'denied');
    await using disk = await openDisk(insideSource(outer), { mode: 'write', format: 'raw' });
    await disk.write(0, Uint8Array.of(1));
  });

  it('is opened once at a time for writing', async () => {
    const { disk: outer } = await outerDisk(16 * MIB);
    await outer.write(0, await imageBytes('vdi'));
    const source = insideSource(outer);
    await using _first = await openDisk(source, { mode: 'write' });
    await expectKind(() => openDisk(source), 'locked');
  });

  it('is converted out of its place', async () => {
    const { disk: outer } = await outerDisk(16 * MIB);
    await outer.write(MIB, await imageBytes('vdi'));
    const target = { provider: new MemoryProvider(), name: '/copy.raw' };
    await convert(insideSource(outer, { offset: MIB }), target, { format: 'raw' });
    const copy = await bytesOf(await target.provider.open(target.name, 'read'));
    expect([copy.length, copy[MIB + 511], copy[MIB + 512]]).toEqual([4 * MIB, 0, 0x5a]);
    await outer.close();
  });

  it('is the only thing there is, and cannot be moved', async () => {
    const { disk: outer } = await outerDisk(MIB);
    const { provider, name } = insideSource(outer, {}, { name: 'inner' });
    expect(name).toBe('inner');
    await expectKind(() => provider.open('other', 'read'), 'not-found');
    for (const work of [
      () => provider.create('x'),
      () => provider.remove(name),
      () => provider.rename(name, 'x', { replace: true }),
    ]) {
      await expectKind(work, 'unsupported');
    }
    expect(await provider.lookUp('other')).toBeNull();
    expect(await provider.lookUp(name)).toMatchObject({ size: MIB, kind: 'other' });
    await outer.close();
  });
});
