/** The I/O scripts of the reference: basic I/O, many images in one chain, fixed images that two programs share, segments. */
import { describe, expect, it } from 'vitest';
import { createImage, Disk, inspect, removeImage } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { rounds } from '../conformance/random.ts';
import { FIXED, LARGE, pairsInTurn, SMALL, VARIANTS, WRITABLE } from './formats.ts';
import { randomSegments, type Segment } from './segments.ts';
import { type Io, KIB, MIB, ShadowedDisk } from './shadowed-disk.ts';

/** The 64 KiB requests of the scripts; 32 at a time, or one after the other. */
const all = (size: number, how: Pick<Io, 'order' | 'writes' | 'requests'>): Io => ({
  block: 64 * KIB,
  start: 0,
  end: size,
  total: size,
  ...how,
});
const TOGETHER = 32;
const ONE_BY_ONE = 1;

describe.each(pairsInTurn(11))('basic I/O: $title', ({ lower, upper }) => {
  it('reads what was written, in order and at random, in a base and two images above it', async () => {
    const size = rounds(6, 200) * MIB;
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 1, size });
    for (const writes of [1, 0]) {
      for (const requests of [TOGETHER, ONE_BY_ONE]) {
        await disk.io(all(size, { order: 'sequential', writes, requests }));
      }
    }
    for (const layer of [{ format: upper }, { format: upper, block: SMALL }]) {
      await disk.stack(layer);
      for (const requests of [TOGETHER, ONE_BY_ONE]) {
        await disk.io(all(size, { order: 'random', writes: 0.5, requests }));
      }
    }
    await disk.verifyTwice();
    await disk.removeAll();
    expect(await disk.files()).toEqual([]);
  });

  it('reads at random through six images with units of two sizes', async () => {
    const data = rounds(3, 200) * MIB;
    const disk = await ShadowedDisk.make({ format: lower, block: LARGE }, { seed: 2, size: 2048 * MIB });
    await disk.io({ ...all(data, { order: 'sequential', writes: 1, requests: TOGETHER }) });
    for (const block of [SMALL, LARGE, SMALL, LARGE, SMALL]) {
      await disk.stack({ format: upper, block });
      await disk.io({ ...all(data, { order: 'random', writes: 0.5, requests: TOGETHER }) });
    }
    await disk.io({ ...all(data, { order: 'random', writes: 0, requests: TOGETHER }) });
    expect(disk.names).toHaveLength(6);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(WRITABLE)('a single sector: $name', (format) => {
  it('is written to a disk of 2 GiB and read back', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 3, size: 2048 * MIB });
    await disk.write(3584, disk.bytes(512));
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(FIXED)('shareable: $name', (format) => {
  it('shows in one disk what was written through the other', async () => {
    const size = 20 * MIB;
    const disk = await ShadowedDisk.make({ format, variant: ['fixed'] }, { seed: 4, size });
    const source = disk.at('/0');
    await disk.reopen({ shareable: true });
    const shared = { format: format.name, mode: 'write', shareable: true } as const;
    const other = await Disk.open(source, shared);
    await disk.io(all(size, { order: 'sequential', writes: 1, requests: TOGETHER }));
    await disk.verify(other);
    await disk.io({ ...all(size, { order: 'random', writes: 0.5, requests: 64 }), block: 8 * KIB });
    await disk.verify(other);
    // Exclusively only when it is no longer shared.
    await expectKind(() => Disk.open(source, { format: format.name, mode: 'write' }), 'locked');
    await other.close();
    await disk.reopen({ shareable: false });
    await disk.verify();
    await disk.disk.close();
    await removeImage(source, { format: format.name });
    expect(await disk.files()).toEqual([]);
  });
});

describe.each(pairsInTurn(12))('write and merge: $title', ({ lower, upper }) => {
  it.each(['just made', 'opened again'])('puts the last image into a base that was %s', async (state) => {
    const size = 1000 * MIB;
    // Large blocks would only cost time.
    const block = rounds(SMALL, LARGE);
    const disk = await ShadowedDisk.make({ format: lower, block }, { seed: 5, size });
    if (state === 'opened again') {
      await disk.disk.close();
      // Nothing in a raw file says that it is one.
      const { format } = await inspect(disk.at('/0'));
      expect(format).toBe(lower.name);
      await disk.reopen({ format });
    }
    const longest = rounds(64 * KIB, MIB);
    const write = ({ offset, bytes }: Segment) => disk.write(offset, bytes);
    for (const segment of randomSegments(disk.random, { size, longest, count: 100, values: [0, 127] })) {
      await write(segment);
    }
    await disk.stack({ format: upper, block });
    for (const segment of randomSegments(disk.random, { size, longest, count: 100, values: [128, 255] })) {
      await write(segment);
    }
    await disk.disk.merge('last', 0);
    expect(disk.names).toEqual(['/0']);
    expect(await disk.files()).toEqual(['/0']);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(VARIANTS)('write, open and read: $title', ({ format, variant, fixed: preallocates }) => {
  it('reads 100 segments from an image that was opened again', async () => {
    const size = (preallocates ? 16 : 1000) * MIB;
    const disk = await ShadowedDisk.make({ format, variant }, { seed: 6, size });
    const longest = rounds(64 * KIB, preallocates ? 64 * KIB : MIB);
    for (const { offset, bytes } of randomSegments(disk.random, { size, longest, count: 100, values: [0, 255] })) {
      await disk.write(offset, bytes);
    }
    await disk.verifyTwice();
    await disk.disk.close();
  });

  it('is filled from its start with a block of random bytes', async () => {
    const provider = new MemoryProvider();
    const size = 16 * MIB;
    const disk = await ShadowedDisk.make({ format, variant }, { seed: 7, size, provider });
    const block = disk.bytes(MIB);
    for (let offset = 0; offset < rounds(6, 16) * MIB; offset += MIB) await disk.write(offset, block);
    await disk.verifyTwice();
    await disk.disk.close();
    // Creating the same image twice is refused.
    await expectKind(() => createImage(disk.at('/0'), { format: format.name, size, variant }), 'exists');
  });
});
