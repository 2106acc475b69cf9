/** Converting a chain in place for its filters, through power cuts: it can always be run to its end. */
import { afterAll, describe, expect, it } from 'vitest';
import { createImage, Disk } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, Random, RecordingProvider } from '../../src/testing/index.ts';
import { xorFilter } from '../../src/testing/xor-filter.ts';
import { unitsOf } from '../conformance/kits.ts';
import { rounds } from '../conformance/random.ts';

const SIZE = 192 * 1024;
const NAMES = ['/0', '/1', '/2'] as const;
const FORMATS = ['vdi', 'qcow2'] as const;
type Name = (typeof FORMATS)[number];
const OPEN = { mode: 'write', flushAfterMs: 0 } as const;

function open(provider: StorageProvider, format: Name, count: number, options = {}): Promise<Disk> {
  const images = NAMES.slice(0, count).map((name) => ({ image: { provider, name }, format }));
  return Disk.open(images, { ...OPEN, ...options });
}

/** Each image holds some pieces; returns what the chain reads. */
async function makeChain(provider: StorageProvider, format: Name, seed: number): Promise<Uint8Array> {
  const random = new Random(seed);
  const model = new Uint8Array(SIZE);
  for (const [level, name] of NAMES.entries()) {
    const below = NAMES[level - 1];
    const shape = below === undefined ? { size: SIZE } : { parent: { provider, name: below }, parentFormat: format };
    await createImage({ provider, name }, { provider, format, config: unitsOf(format, 4096), ...shape });
    const disk = await open(provider, format, level + 1);
    for (let piece = 0; piece < 6; piece++) {
      const offset = random.below(SIZE / 512 - 32) * 512;
      const bytes = Uint8Array.from({ length: (1 + random.below(24)) * 512 }, () => 1 + random.below(255));
      model.set(bytes, offset);
      await disk.write(offset, bytes);
    }
    const hole = random.below(SIZE / 4096 - 1) * 4096;
    model.fill(0, hole, hole + 4096);
    await disk.zero(hole, 4096);
    await disk.close();
  }
  return model;
}

async function contentOf(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

async function hasRecords(provider: StorageProvider): Promise<boolean> {
  for (const name of NAMES) if ((await provider.lookUp(`${name}.vdkit-filters`)) !== null) return true;
  return false;
}

describe('a power cut while a chain is converted for its filters', () => {
  let states = 0;
  let interrupted = 0;
  afterAll(() => console.log(`prepare: ${states} states after a power cut, ${interrupted} of them in the middle`));
  const seeds = Array.from({ length: rounds(1, 80) }, (_, index) => index + 1);

  describe.each(FORMATS)('%s', (format) => {
    it.each(seeds)('seed %i: it goes on where it was, or was never begun', async (seed) => {
      const provider = new MemoryProvider();
      const model = await makeChain(provider, format, seed);
      const recorder = new RecordingProvider(provider);
      const disk = await open(recorder, format, NAMES.length);
      await disk.filters.add(xorFilter(), { read: false });
      await disk.filters.prepare();
      await disk.close();
      for (const state of crashStates(recorder.log, provider, { maxStates: 330, everyCut: rounds(3, 1), seed })) {
        states++;
        const { provider: medium } = state;
        const begun = await hasRecords(medium);
        if (begun) {
          interrupted++;
          await expect(open(medium, format, NAMES.length)).rejects.toMatchObject({ kind: 'busy' });
          const again = await open(medium, format, NAMES.length, { resumeFilters: true });
          await again.filters.add(xorFilter(), { read: false });
          await again.filters.prepare();
          await again.close();
          expect(await hasRecords(medium)).toBe(false);
        }
        const after = await open(medium, format, NAMES.length);
        let found = await contentOf(after);
        if (begun || Buffer.compare(found, model) !== 0) {
          await after.filters.add(xorFilter());
          found = await contentOf(after);
        }
        expect(Buffer.compare(found, model), state.describe()).toBe(0);
        await after.close();
      }
    });
  });

  it('was tried in thousands of states', () => {
    expect(states).toBeGreaterThanOrEqual(rounds(220, 70_000));
    expect(interrupted).toBeGreaterThanOrEqual(rounds(200, 65_000));
  });
});
