/**
 * Images that are put together by hand read as they should, over every storage; those of formats that are only read
 * refuse to be written.
 */
import { describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { convert } from '../../src/operations/convert.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import { Random } from '../../src/testing/random.ts';
import { withToys } from '../formats/toys/registry.ts';
import { expectedContent } from '../golden/content.ts';
import type { Sample } from '../hostile/descriptor.ts';
import { directoriesOf, filesOf } from '../hostile/sample-files.ts';
import { expectSameBytes } from './expect-bytes.ts';
import { expectKind } from './expect-kind.ts';
import { KITS, TOY_KITS } from './kits.ts';
import { rounds } from './random.ts';
import { type Place, STORAGE_KINDS } from './storages.ts';

const registry = withToys();
const MOST = 16 * 1024 * 1024;

const ALL = await Promise.all(
  [...KITS, ...TOY_KITS].map(async ({ format, hostile, unlinked }) => {
    const linked = 'without' in hostile ? [] : await hostile.samples();
    const whole = (sample: Sample): boolean => sample.virtualSize <= MOST;
    return { format, linked: linked.filter(whole), unlinked: unlinked?.() ?? [] };
  }),
);

describe.each(ALL.filter(({ linked }) => linked.length > 0))('$format', ({ format, linked, unlinked }) => {
  const written = registry.find(format).capabilities.write;

  describe.each(STORAGE_KINDS)('over $name', (kind) => {
    const withSample = async (sample: Sample, work: (place: Place, image: string) => Promise<void>): Promise<void> => {
      const place = await kind.make();
      try {
        const image = place.path('image');
        for (const directory of directoriesOf(sample, image)) await place.makeDirectory?.(directory);
        for (const { name, bytes } of filesOf(sample, image)) {
          const storage = await place.provider.create(name);
          await storage.write(0, bytes);
          await storage.close();
        }
        await work(place, image);
      } finally {
        await place.dispose();
      }
    };

    it.each(linked)('$name: is recognised, and reads as it should', (sample) =>
      withSample(sample, async ({ provider }, name) => {
        const source = { provider, name };
        const report = await inspect(source, { registry });
        expect(report).toMatchObject({ format, virtualSize: sample.virtualSize });
        await using disk = await openDisk(source, { registry, allow: ['same-directory'] });
        await expectContent(disk, sample);
      }),
    );

    it.skipIf(written).each(linked)('$name: is not written, and can be converted', (sample) =>
      withSample(sample, async ({ provider, path }, name) => {
        const source = { provider, name };
        {
          await expectKind(() => openDisk(source, { mode: 'write', format }), 'read-only');
          await using disk = await openDisk(source, { format });
          expect(disk.can.write).toBe(false);
          await expectKind(() => disk.write(0, new Uint8Array(512)), 'read-only');
          await expectKind(() => disk.zero(0, 512), 'read-only');
        }
        await convert(source, { provider, name: path('copy.vdi') }, { provider, format: 'vdi' });
        await using copy = await openDisk({ provider, name: path('copy.vdi') });
        expectSameBytes(await readAll(copy), contentOf(sample));
      }),
    );

    it.runIf(unlinked.length > 0).each(unlinked)('$name: needs to be told what lies below', (sample) =>
      withSample(sample, async ({ provider, path }, name) => {
        const source = { provider, name };
        await expectKind(() => openDisk(source), 'not-found');
        const [below] = sample.beside;
        const parent = { provider, name: path(below?.name ?? '') };
        await using disk = await openDisk([{ image: parent, format: 'raw' }, source]);
        await expectContent(disk, sample);
      }),
    );
  });
});

function contentOf({ content, virtualSize }: Sample): Uint8Array {
  return content instanceof Uint8Array ? content : expectedContent(content, 0, virtualSize);
}

async function readAll(disk: ChainDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** As a whole, in parts, and by its extents. */
async function expectContent(disk: ChainDisk, sample: Sample): Promise<void> {
  const wanted = contentOf(sample);
  expectSameBytes(await readAll(disk), wanted);
  const random = new Random(3);
  for (let round = 0; round < rounds(30, 1000); round++) {
    const offset = random.below(disk.size);
    const part = new Uint8Array(Math.min(1 + random.below(9000), disk.size - offset));
    await disk.read(offset, part);
    expectSameBytes(part, wanted.subarray(offset, offset + part.length), `the bytes from ${offset}`);
  }
  let end = 0;
  for await (const { offset, length, state } of disk.extents()) {
    expect(offset).toBe(end);
    end += length;
    if (state !== 'data') expect(wanted.subarray(offset, end).every((byte) => byte === 0)).toBe(true);
  }
  expect(end).toBe(disk.size);
  await expectKind(() => disk.read(disk.size, new Uint8Array(1)), 'out-of-bounds');
}
