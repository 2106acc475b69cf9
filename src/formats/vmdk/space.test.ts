/** Space that the files of fixed images take: none at first, unless it is asked for. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { createImage, Disk } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;
const NAME = '/a.vmdk';
const WORDS = [[], ['fixed'], ['fixed', 'split'], ['esx'], ['fixed', 'esx']];

function create(
  provider: MemoryProvider,
  variant: readonly string[],
  preallocation: string,
  more = {},
): Promise<unknown> {
  const config = { preallocation, ...more };
  return createImage({ provider, name: NAME }, { size: SIZE, format: 'vmdk', variant, config });
}

/** Allocated bytes of the extent, and its length. */
async function spaceOf(provider: MemoryProvider): Promise<[number | null, number]> {
  for (const end of ['-flat', '-f001']) {
    const name = `/a${end}.vmdk`;
    if ((await provider.lookUp(name)) === null) continue;
    const storage = await provider.open(name, 'read');
    const { allocatedSize } = await storage.identity();
    return [allocatedSize, storage.size];
  }
  throw new Error('the image has no flat extent');
}

describe('a fixed image', () => {
  it.each(WORDS.slice(1))('takes no space at creation: %s', async (...variant) => {
    const provider = new MemoryProvider();
    await create(provider, variant, 'off');
    expect(await spaceOf(provider)).toEqual([0, SIZE]);
  });

  it.each(WORDS.flatMap((variant) => ['falloc', 'full'].map((mode) => ({ variant, mode }))))(
    'takes all of it with preallocation $mode: $variant',
    async ({ variant, mode }) => {
      const provider = new MemoryProvider();
      await create(provider, variant, mode);
      expect(await spaceOf(provider)).toEqual([SIZE, SIZE]);
    },
  );

  it.each([
    ['off', MIB],
    ['full', SIZE + 3 * MIB],
  ])('grows by a hole, or by space if all of it has space: %s', async (mode, space) => {
    const provider = new MemoryProvider();
    await create(provider, ['fixed'], mode);
    await using disk = await Disk.open({ provider, name: NAME }, { mode: 'write', allow: ['/'] });
    await disk.write(0, new Uint8Array(MIB).fill(1));
    await disk.resize(SIZE + 3 * MIB);
    expect(await spaceOf(provider)).toEqual([space, SIZE + 3 * MIB]);
  });
});

it('refuses to take space for an image that is not fixed', async () => {
  const provider = new MemoryProvider();
  for (const subformat of ['monolithicSparse', 'streamOptimized', 'vmfsSparse']) {
    await expectKind(() => create(provider, [], 'full', { subformat }), 'invalid-argument');
  }
  for (const words of [['stream'], ['dynamic'], ['dynamic', 'esx'], ['dynamic', 'split']]) {
    await expectKind(() => create(provider, words, 'full'), 'invalid-argument');
  }
});
