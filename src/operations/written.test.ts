/** Figures of a copy: bytes written are those that the target stored, and holes have no part in rates. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Progress } from '../image/contract.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { compareDevices } from './compare.ts';
import { convert } from './convert.ts';
import { createImage } from './create.ts';
import { openDisk } from './open.ts';

const MIB = 2 ** 20;
const SIZE = 32 * MIB;
let provider: MemoryProvider;
const at = (name: string) => ({ provider, name });

beforeEach(async () => {
  provider = new MemoryProvider();
  await makeSource('/zeroes.raw');
});

/** A raw disk without a hole: zeroes, except for a byte in each of two MiB. */
async function makeSource(name: string): Promise<void> {
  const storage = await provider.create(name);
  const bytes = new Uint8Array(SIZE);
  bytes[5 * MIB + 7] = 1;
  bytes[20 * MIB] = 2;
  await storage.write(0, bytes);
  await storage.close();
}

describe('bytes written', () => {
  it.each([
    ['vdi', {}, 2 * MIB],
    ['qcow2', {}, 2 * 64 * 1024],
    ['qcow2', { compress: 'zlib' }, 2 * 64 * 1024],
    ['raw', {}, 2 * 4096],
    ['raw', { sparseSize: 0 }, SIZE],
  ] as const)('leave out zeroes that were dropped: %s, %j', async (format, options, written) => {
    const how = { sourceFormat: 'raw', format, force: true, ...options };
    expect((await convert(at('/zeroes.raw'), at('/target'), how)).written).toBe(written);
  });

  it('leave out data that the parent of the target has', async () => {
    await convert(at('/zeroes.raw'), at('/parent.qcow2'), { sourceFormat: 'raw', force: true });
    const how = { sourceFormat: 'raw', parent: at('/parent.qcow2'), force: true };
    expect((await convert(at('/zeroes.raw'), at('/child.qcow2'), how)).written).toBe(0);
  });

  it('are those of an existing target that had none of them', async () => {
    await createImage(at('/empty.vdi'), { size: SIZE, force: true });
    const how = { sourceFormat: 'raw', into: true };
    expect((await convert(at('/zeroes.raw'), at('/empty.vdi'), how)).written).toBe(2 * MIB);
    // The second time the two blocks are there and are written over.
    expect((await convert(at('/zeroes.raw'), at('/empty.vdi'), how)).written).toBe(2 * MIB);
  });
});

describe('progress', () => {
  const last = (events: readonly Progress[]) => events.at(-1);

  it('of a conversion counts data apart from holes', async () => {
    await convert(at('/zeroes.raw'), at('/holes.vdi'), { sourceFormat: 'raw', force: true });
    const events: Progress[] = [];
    await convert(at('/holes.vdi'), at('/holes.qcow2'), { force: true, onProgress: (event) => events.push(event) });
    expect(last(events)).toMatchObject({ done: SIZE, total: SIZE, data: { done: 2 * MIB, total: 2 * MIB } });
  });

  it('of a comparison counts what either disk holds', async () => {
    for (const name of ['/a.vdi', '/b.vdi'])
      await convert(at('/zeroes.raw'), at(name), { sourceFormat: 'raw', force: true });
    await using a = await openDisk(at('/a.vdi'), { mode: 'write' });
    await using b = await openDisk(at('/b.vdi'));
    await a.write(30 * MIB, new Uint8Array(512));
    const events: Progress[] = [];
    const result = await compareDevices(a, b, { onProgress: (event) => events.push(event) });
    expect(result.same).toBe(true);
    expect(last(events)).toMatchObject({ done: SIZE, total: SIZE, data: { done: 2 * MIB, total: 2 * MIB } });
  });
});
