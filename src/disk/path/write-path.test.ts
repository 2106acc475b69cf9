import { describe, expect, it } from 'vitest';
import { Disk } from '../../index.ts';
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
