/** Makes the images that a run begins with. */

import type { CreateImageOptions } from '../../src/disk/options.ts';
import { convert } from '../../src/operations/convert.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { Source } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { mixedContent, textContent } from './content.ts';
import { imageName, makeOptions, type Place, registryOf, type Scenario } from './scenario.ts';

/** One image of a chain. */
export interface ChainPart {
  readonly name: string;
  readonly format: string;
}

/** The built images. */
export interface Built {
  /** Base first. */
  readonly chain: readonly ChainPart[];
  /** Content of the images below the last one. */
  readonly below: Uint8Array;
  /** Content of the disk at the start. */
  readonly first: Uint8Array;
  /** Origin of the last image, if it was not created empty. */
  readonly did: string | null;
}

/** The images of a scenario: those below hold something, the last one may. */
export async function buildChain(scenario: Scenario, place: Place): Promise<Built> {
  const top = scenario.shape.below.length;
  const chain = Array.from({ length: top + 1 }, (_, level) => ({
    name: place.source(imageName(scenario, level)).name,
    format: (scenario.shape.below[level] ?? scenario.shape.format).name,
  }));
  let below: Uint8Array = new Uint8Array(0);
  for (const [level, { name }] of chain.entries()) {
    const target = { provider: place.provider, name };
    const under = chain[level - 1];
    const parent =
      under === undefined ? {} : { parent: { provider: place.provider, name: under.name }, parentFormat: under.format };
    const options = {
      ...makeOptions(scenario, level),
      ...registryOf(scenario.shape),
      ...parent,
      allow: ['same-directory'],
    };
    const start = scenario.setUp?.start ?? 'empty';
    if (level === top && start !== 'empty') return { chain, below, ...(await convertStart(scenario, target, options)) };
    await createImage(target, options);
    if (level === top) break;
    const sources = chain.slice(0, level + 1).map((part) => ({ provider: place.provider, name: part.name }));
    below = await fillBelow(scenario, sources, chain[level]?.format ?? '', below);
  }
  return { chain, below, first: below, did: null };
}

/** Puts data and zeroes into an image below the one under test. Returns what it reads then. */
async function fillBelow(
  scenario: Scenario,
  sources: readonly Source[],
  format: string,
  below: Uint8Array,
): Promise<Uint8Array> {
  const how = { mode: 'write', format, flushAfterMs: 0, ...registryOf(scenario.shape) } as const;
  const disk = await openDisk(sources, how);
  const random = new Random(scenario.seed + 9 + sources.length);
  const content = new Uint8Array(disk.size);
  content.set(below.subarray(0, disk.size));
  for (let patch = 0; patch < 8; patch++) {
    const offset = random.below(disk.size);
    const length = Math.min(1 + random.below(patch < 2 ? disk.size : 40_000), disk.size - offset);
    if (random.chance(0.25)) {
      await disk.zero(offset, length);
      content.fill(0, offset, offset + length);
    } else {
      const bytes = mixedContent(length, random.below(1_000_000));
      await disk.write(offset, bytes);
      content.set(bytes, offset);
    }
  }
  await disk.close();
  return content;
}

/** The image under test is what a conversion makes. */
async function convertStart(
  scenario: Scenario,
  target: Source,
  options: CreateImageOptions,
): Promise<Pick<Built, 'first' | 'did'>> {
  const first = textContent(options.size ?? 0, scenario.seed);
  const random = new Random(scenario.seed + 99);
  for (let hole = 0; hole < 6; hole++) first.fill(0, random.below(first.length), random.below(first.length));
  const source = { provider: new MemoryProvider(), name: '/content.raw' };
  const storage = await source.provider.create(source.name);
  await storage.write(0, first);
  await storage.close();
  const compress = scenario.setUp?.start === 'compressed' && options.config?.['data_file'] === undefined;
  await convert(source, target, { ...options, sourceFormat: 'raw', compress });
  return { first, did: compress ? 'start compressed' : 'start converted' };
}
