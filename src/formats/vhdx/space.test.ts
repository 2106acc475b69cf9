/** Space that the file of a fixed image takes: none for its blocks at first, unless it is asked for. */
import { expect, it } from 'vitest';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { createImage, Disk } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
/** Headers, log, metadata and table: one MiB each. */
const FRONT = 4 * MIB;

function create(provider: MemoryProvider, variant: readonly string[], preallocation: string): Promise<unknown> {
  const config = { preallocation };
  return createImage({ provider, name: '/a.vhdx' }, { size: SIZE, format: 'vhdx', variant, config });
}

async function spaceOf(provider: MemoryProvider): Promise<{ allocated: number; length: number }> {
  const storage = await provider.open('/a.vhdx', 'read');
  const { allocatedSize } = await storage.identity();
  return { allocated: allocatedSize ?? 0, length: storage.size };
}

it('takes no space for the blocks of a fixed image, which all have places and read as zero', async () => {
  const provider = new MemoryProvider();
  await create(provider, ['fixed'], 'off');
  const { allocated, length } = await spaceOf(provider);
  expect(length).toBe(FRONT + SIZE);
  expect(allocated).toBeLessThanOrEqual(FRONT);
  await using disk = await Disk.open({ provider, name: '/a.vhdx' }, { mode: 'write' });
  await disk.write(SIZE - MIB, new Uint8Array(MIB).fill(7));
  const bytes = new Uint8Array(2 * MIB);
  await disk.read(SIZE - 2 * MIB, bytes);
  expect(bytes.subarray(0, MIB).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(MIB).every((byte) => byte === 7)).toBe(true);
  expect((await spaceOf(provider)).length).toBe(FRONT + SIZE);
});

it.each([
  { variant: ['fixed'], mode: 'falloc' },
  { variant: [], mode: 'full' },
])('takes all of it with preallocation $mode: $variant', async ({ variant, mode }) => {
  const provider = new MemoryProvider();
  await create(provider, variant, mode);
  expect(await spaceOf(provider)).toEqual({ allocated: FRONT + SIZE, length: FRONT + SIZE });
});

it('refuses to take space for an image that is not fixed', async () => {
  for (const word of ['dynamic', 'diff']) {
    await expectKind(() => create(new MemoryProvider(), [word], 'full'), 'invalid-argument');
  }
});
