/** Targets of another size than their source, for every format: nothing is cut off without a word, nor written beside. */
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/disk/device.ts';
import {
  type ConvertOptions,
  convert,
  copyChain,
  copyImage,
  copyInto,
  createImage,
  Disk,
  ImageError,
} from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { VARIANTS, WRITABLE } from './formats.ts';

const MIB = 1024 ** 2;
const SIZE = 4 * MIB;
const SMALL = 3 * MIB;

/** A disk with data in its first half, and one byte wherever `last` says. */
async function sourceOf(provider: MemoryProvider, last: number | null): Promise<Disk> {
  const disk = await Disk.create({ provider, name: '/source.vdi' }, { size: SIZE, flushAfterMs: 0 });
  await disk.write(0, new Uint8Array(2 * MIB).fill(7));
  if (last !== null) await disk.write(last, Uint8Array.of(1));
  return disk;
}

type Way = (source: Disk, provider: MemoryProvider, format: string, shrink: boolean) => Promise<unknown>;

const target = (provider: MemoryProvider) => ({ provider, name: '/target' });

const WAYS: readonly (readonly [string, Way])[] = [
  ['convert', (source, provider, format, shrink) => convert(source, target(provider), { format, size: SMALL, shrink })],
  [
    'convert into an image',
    async (source, provider, format, shrink) => {
      await createImage(target(provider), { format, size: SMALL });
      return convert(source, target(provider), { format, into: true, shrink });
    },
  ],
  [
    'copyImage',
    (source, provider, format, shrink) => copyImage(source, 'last', target(provider), { format, size: SMALL, shrink }),
  ],
  [
    'copyInto',
    async (source, provider, format, shrink) => {
      await createImage(target(provider), { format, size: SMALL });
      await using disk = await Disk.open(target(provider), { format, mode: 'write' });
      await copyInto(source, 'last', disk, { shrink });
    },
  ],
];

describe.each(WAYS)('a smaller target: %s', (_, run) => {
  describe.each(WRITABLE)('$name', ({ name: format }) => {
    it('is refused although only zeroes would be left out, with both sizes and the option', async () => {
      const provider = new MemoryProvider();
      await using source = await sourceOf(provider, null);
      const error = await run(source, provider, format, false).then(
        () => null,
        (reason: unknown) => reason,
      );
      if (!(error instanceof ImageError)) throw new Error('it was not refused');
      expect(error).toMatchObject({
        kind: 'invalid-argument',
        status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
        context: { found: `${SMALL} bytes`, expected: `at least ${SIZE} bytes` },
      });
      expect(error.hint).toContain('shrink');
      expect(error.hint).toContain('--shrink');
    });

    it('is made with shrink, where only zeroes are left out', async () => {
      const provider = new MemoryProvider();
      await using source = await sourceOf(provider, SMALL - 1);
      await run(source, provider, format, true);
      await using made = await Disk.open(target(provider), { format });
      expect(made.size).toBe(SMALL);
      const bytes = new Uint8Array(SMALL);
      await made.read(0, bytes);
      const expected = new Uint8Array(SMALL).fill(7, 0, 2 * MIB);
      expected[SMALL - 1] = 1;
      expectSameBytes(bytes, expected, 'what was copied');
    });

    it.each([SMALL, SIZE - 1])('is refused even so where data stands at %i', async (last) => {
      const provider = new MemoryProvider();
      await using source = await sourceOf(provider, last);
      await expect(run(source, provider, format, true)).rejects.toMatchObject({
        kind: 'invalid-argument',
        status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
        context: { guestOffset: last },
      });
    });
  });
});

it('a copied chain is never smaller than its images', async () => {
  const provider = new MemoryProvider();
  await using source = await sourceOf(provider, null);
  await copyChain(source, (name) => ({ provider, name: `${name}.copy` }));
  await using copy = await Disk.open({ provider, name: '/source.vdi.copy' });
  expect(copy.size).toBe(SIZE);
});

/** A device of any length, also one that ends inside of a sector. */
function partOf(disk: Disk, size: number): BlockDevice {
  return {
    label: 'a part',
    size,
    can: { write: false, zero: false, discard: false, random: true },
    blockSize: 0,
    read: (offset, buffers) => disk.read(offset, buffers),
    write: () => Promise.reject(new Error('a source is not written')),
    zero: () => Promise.reject(new Error('a source is not written')),
    extentAt: (offset, end) => disk.extentAt(offset, end),
    flush: async () => {},
    close: async () => {},
  };
}

describe.each(VARIANTS)('a larger target, $title', ({ format: { name: format, configKeys }, variant }) => {
  const compressed = !configKeys.some(({ role }) => role === 'compression') || variant.length > 0 ? [] : [true];

  it.each([false, ...compressed])(
    'keeps every byte behind the end of the source (compressed: %s)',
    async (compress) => {
      const random = new Random(5);
      for (let round = 0; round < rounds(5, 200); round++) {
        const provider = new MemoryProvider();
        await using source = await sourceOf(provider, null);
        await source.write(random.below(SIZE - 70_000), randomBytes(random, 70_000));
        const before = randomBytes(random, SIZE);
        await createImage(target(provider), { format, variant, size: SIZE });
        {
          await using disk = await Disk.open(target(provider), { format, mode: 'write' });
          await disk.write(0, before);
        }
        // Ends in the middle of sectors, clusters and blocks, and at their borders.
        const end = [SIZE - 1, SMALL, SMALL + 512, 2 * MIB + 65_536, 1][round] ?? 1 + random.below(SIZE - 1);
        const options: ConvertOptions = { format, into: true, verify: true, compress };
        const { warnings } = await convert(partOf(source, end), target(provider), options);
        expect(warnings.join()).toContain(`its data from byte ${end} on is unchanged`);
        const expected = before.slice();
        await source.read(0, expected.subarray(0, end));
        await using disk = await Disk.open(target(provider), { format });
        const bytes = new Uint8Array(SIZE);
        await disk.read(0, bytes);
        expectSameBytes(bytes, expected, `a source of ${end} bytes`);
      }
    },
  );
});
