/** Space that the file of a fixed image takes: none at first, unless it is asked for. */
import { expect, it } from 'vitest';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { createImage, Disk } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
/** The footer. */
const FOOTER = 512;

function create(provider: MemoryProvider, variant: readonly string[], preallocation: string): Promise<unknown> {
  const config = { preallocation };
  return createImage({ provider, name: '/a.vhd' }, { size: SIZE, format: 'vhd', variant, config });
}

async function spaceOf(provider: MemoryProvider): Promise<{ allocated: number; length: number }> {
  const storage = await provider.open('/a.vhd', 'read');
  const { allocatedSize } = await storage.identity();
  return { allocated: allocatedSize ?? 0, length: storage.size };
}

it('takes no space for a fixed image, which reads as zero', async () => {
  const provider = new MemoryProvider();
  await create(provider, ['fixed'], 'off');
  const { allocated, length } = await spaceOf(provider);
  expect(length).toBe(SIZE + FOOTER);
  expect(allocated).toBeLessThanOrEqual(128 * 1024);
  await using disk = await Disk.open({ provider, name: '/a.vhd' }, { mode: 'write' });
  await disk.write(SIZE - MIB, new Uint8Array(MIB).fill(7));
  const bytes = new Uint8Array(2 * MIB);
  await disk.read(SIZE - 2 * MIB, bytes);
  expect(bytes.subarray(0, MIB).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(MIB).every((byte) => byte === 7)).toBe(true);
  expect((await spaceOf(provider)).length).toBe(SIZE + FOOTER);
});

it.each([
  { variant: ['fixed'], mode: 'falloc' },
  { variant: [], mode: 'full' },
])('takes all of it with preallocation $mode: $variant', async ({ variant, mode }) => {
  const provider = new MemoryProvider();
  await create(provider, variant, mode);
  const { allocated, length } = await spaceOf(provider);
  expect(length).toBe(SIZE + FOOTER);
  expect(allocated).toBeGreaterThanOrEqual(length);
  {
    await using disk = await Disk.open({ provider, name: '/a.vhd' }, { mode: 'write' });
    await disk.resize(SIZE + 16 * MIB);
  }
  // One that has all its space keeps that.
  expect((await spaceOf(provider)).allocated).toBeGreaterThanOrEqual(SIZE + 16 * MIB);
});

it('refuses to take space for an image that is not fixed', async () => {
  for (const word of ['dynamic', 'diff']) {
    await expectKind(() => create(new MemoryProvider(), [word], 'full'), 'invalid-argument');
  }
});

it('leaves what a sparse image grows by a hole', async () => {
  const provider = new MemoryProvider();
  await create(provider, ['fixed'], 'off');
  {
    await using disk = await Disk.open({ provider, name: '/a.vhd' }, { mode: 'write' });
    await disk.resize(2 * SIZE);
  }
  const { allocated, length } = await spaceOf(provider);
  expect(length).toBe(2 * SIZE + FOOTER);
  expect(allocated).toBeLessThanOrEqual(256 * 1024);
});
