import { describe, expect, it } from 'vitest';
import { createImage, Disk } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { FaultProvider } from '../../testing/fault-storage.ts';

const MIB = 1024 ** 2;
const KIB = 1024;

async function make(provider = new FaultProvider(new MemoryProvider())): Promise<Disk> {
  return Disk.create({ provider, name: '/disk.vdi' }, { size: MIB, flushAfterMs: 0 });
}

describe('several requests for one block that is not there yet', () => {
  it('end when the first of them has nothing to store', async () => {
    const disk = await make();
    const places = [256, 512, 768].map((place) => place * KIB);
    await Promise.all([
      disk.zero(0, 512),
      ...places.map((at) => disk.write(at, new Uint8Array(512).fill(at / KIB / 8))),
    ]);
    const bytes = new Uint8Array(MIB);
    await disk.read(0, bytes);
    const expected = new Uint8Array(MIB);
    for (const at of places) expected.fill(at / KIB / 8, at, at + 512);
    expect(Buffer.compare(bytes, expected)).toBe(0);
    await disk.close();
  });

  it('end when the first of them fails', async () => {
    const provider = new FaultProvider(new MemoryProvider());
    const disk = await make(provider);
    await disk.write(0, new Uint8Array(512));
    await disk.flush();
    provider.plan({ fail: { write: 0 } });
    const writes = [0, 256, 512].map((place) => disk.write(place * KIB, new Uint8Array(512).fill(1)));
    const ends = await Promise.allSettled(writes);
    expect(ends.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
    const bytes = new Uint8Array(MIB);
    await disk.read(0, bytes);
    expect([bytes[256 * KIB], bytes[512 * KIB]]).toEqual([1, 1]);
    await disk.close();
  });
});

describe('a write to an image whose units are sectors', () => {
  it('reads what it is compared with in pieces, and leaves out the sectors that are there already', async () => {
    const provider = new FaultProvider(new MemoryProvider());
    const [parent, child] = ['/parent.vhd', '/child.vhd'].map((name) => ({ provider, name }));
    const content = Uint8Array.from({ length: MIB }, (_, index) => (index * 7) % 251);
    const open = { mode: 'write', flushAfterMs: 0, allow: ['same-directory'] } as const;
    await createImage(parent ?? '', { format: 'vhd', size: 8 * MIB });
    await using base = await Disk.open(parent ?? '', open);
    await base.write(512, content);
    await base.close();
    await createImage(child ?? '', { format: 'vhd', parent });
    await using disk = await Disk.open(child ?? '', open);
    const changed = content.slice();
    changed.fill(255, 700 * KIB, 701 * KIB);
    provider.plan({});
    await disk.write(512, changed);
    expect(provider.counts.read).toBeLessThan(64);
    const bytes = new Uint8Array(MIB);
    await disk.read(512, bytes);
    expect(Buffer.compare(bytes, changed)).toBe(0);
    const runs: [string, number][] = [];
    for await (const { state, length, image } of disk.extents()) if (state === 'data') runs.push([`${image}`, length]);
    expect(runs.filter(([image]) => image === '1')).toEqual([['1', KIB]]);
  });
});
