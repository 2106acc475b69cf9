/** Space that the file of a fixed image takes: none for its disk at first, unless it is asked for. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { createImage, Disk } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
/** Bytes of the file beside the disk, and what all but the disk takes at most. */
const FORMATS = [
  { format: 'vhd', beside: 512, metadata: 128 * 1024, grows: true },
  // Headers, log, metadata and table: one MiB each.
  { format: 'vhdx', beside: 4 * MIB, metadata: 4 * MIB, grows: false },
] as const;

describe.each(FORMATS)('the file of a fixed $format', ({ format, beside, metadata, grows }) => {
  const name = `/a.${format}`;

  function create(provider: MemoryProvider, variant: readonly string[], preallocation: string): Promise<unknown> {
    return createImage({ provider, name }, { size: SIZE, format, variant, config: { preallocation } });
  }

  async function resize(provider: MemoryProvider, size: number): Promise<void> {
    await using disk = await Disk.open({ provider, name }, { mode: 'write' });
    await disk.resize(size);
  }

  async function spaceOf(provider: MemoryProvider): Promise<{ allocated: number; length: number }> {
    const storage = await provider.open(name, 'read');
    const { allocatedSize } = await storage.identity();
    return { allocated: allocatedSize ?? 0, length: storage.size };
  }

  it('takes no space for the disk, which reads as zero', async () => {
    const provider = new MemoryProvider();
    await create(provider, ['fixed'], 'off');
    const { allocated, length } = await spaceOf(provider);
    expect(length).toBe(SIZE + beside);
    expect(allocated).toBeLessThanOrEqual(metadata);
    await using disk = await Disk.open({ provider, name }, { mode: 'write' });
    await disk.write(SIZE - MIB, new Uint8Array(MIB).fill(7));
    const bytes = new Uint8Array(2 * MIB);
    await disk.read(SIZE - 2 * MIB, bytes);
    expect(bytes.subarray(0, MIB).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(MIB).every((byte) => byte === 7)).toBe(true);
    expect((await spaceOf(provider)).length).toBe(SIZE + beside);
  });

  it.each([
    { variant: ['fixed'], mode: 'falloc' },
    { variant: [], mode: 'full' },
  ])('takes all of it with preallocation $mode: $variant', async ({ variant, mode }) => {
    const provider = new MemoryProvider();
    await create(provider, variant, mode);
    const { allocated, length } = await spaceOf(provider);
    expect(length).toBe(SIZE + beside);
    expect(allocated).toBeGreaterThanOrEqual(length);
    if (!grows) return;
    await resize(provider, SIZE + 16 * MIB);
    // One that has all its space keeps that.
    expect((await spaceOf(provider)).allocated).toBeGreaterThanOrEqual(SIZE + 16 * MIB);
  });

  it('takes no space in advance unless it is fixed', async () => {
    for (const word of ['dynamic', 'diff']) {
      await expectKind(() => create(new MemoryProvider(), [word], 'full'), 'invalid-argument');
    }
  });

  it.each(grows ? [2 * SIZE] : [])('grows by a hole where it has holes, to %i bytes', async (size) => {
    const provider = new MemoryProvider();
    await create(provider, ['fixed'], 'off');
    await resize(provider, size);
    const { allocated, length } = await spaceOf(provider);
    expect(length).toBe(size + beside);
    expect(allocated).toBeLessThanOrEqual(2 * metadata);
  });
});
