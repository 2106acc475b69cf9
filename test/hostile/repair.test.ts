/**
 * Repairs of files that are wrong on purpose: repairing twice is repairing once, a repair that can do nothing changes
 * nothing, and no cluster is counted less often where something could not be followed.
 */
import { describe, expect, it } from 'vitest';
import { equalBytes } from '../../src/codec/bytes.ts';
import { ImageError } from '../../src/errors.ts';
import type { Format } from '../../src/image/contract.ts';
import type { Finding } from '../../src/image/findings.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { KITS, TOY_KITS } from '../conformance/kits.ts';
import { rounds } from '../conformance/random.ts';
import { withToys } from '../formats/toys/registry.ts';
import type { HostileKit, Sample } from './descriptor.ts';
import { type Mutation, mutationsOf } from './mutations.ts';
import { checkFiles, filesOf, ownFiles, repairFiles } from './sample-files.ts';
import { hostileKits } from './suite.ts';

const AMOUNT = { entries: rounds(6, 32), flips: rounds(100, 3000), swaps: rounds(0, 1) === 1, seed: 2, every: 1 };
/** Larger files show nothing that smaller ones do not, where a format has smaller ones. */
const LARGEST = 256 * 1024;
/** Files of a format that the usual run aims at; all of them in the long run. */
const FILES = rounds(250, Number.POSITIVE_INFINITY);
const NAME = '/image';

interface FileState {
  readonly size: number;
  readonly bytes: Uint8Array;
}

/** A copy of an image in memory, with what lies beside it. */
class Copy {
  readonly format: Format;
  readonly provider = new MemoryProvider();
  readonly source = { provider: this.provider, name: NAME };
  readonly #names: readonly string[];
  /** Of what a repair makes longer only so much is looked at. */
  readonly #longest: number;

  constructor(format: Format, names: readonly string[], longest: number) {
    this.format = format;
    this.#names = names;
    this.#longest = longest;
  }

  static async of(format: Format, sample: Sample, mutation: Mutation): Promise<Copy> {
    const own = ownFiles(sample, NAME);
    const longest = 2 * Math.max(LARGEST, ...own.map(({ bytes }) => bytes.length));
    const copy = new Copy(
      format,
      own.map(({ name }) => name),
      longest,
    );
    for (const file of filesOf(sample, NAME, mutation)) {
      const storage = await copy.provider.create(file.name);
      await storage.write(0, file.bytes);
      await storage.close();
    }
    return copy;
  }

  /** Of each file of the image. */
  state(): Promise<FileState[]> {
    return Promise.all(this.#names.map((name) => this.#stateOf(name)));
  }

  async #stateOf(name: string): Promise<FileState> {
    const storage = await this.provider.open(name, 'read');
    const { size } = storage;
    const bytes = new Uint8Array(Math.min(size, this.#longest));
    await storage.read(0, bytes);
    await storage.close();
    return { size, bytes };
  }

  /** Null: it is too broken for that. */
  async check(): Promise<readonly Finding[] | null> {
    return orNull(() => checkFiles(this.format, this.source));
  }

  async repair(): Promise<readonly Finding[] | null> {
    return orNull(() => repairFiles(this.format, this.source));
  }

  /** Of a format that counts its units. */
  async counts(countsOf: NonNullable<HostileKit['counts']>): Promise<ReadonlyMap<number, number>> {
    const storage = await this.provider.open(NAME, 'read');
    try {
      return await countsOf(storage);
    } finally {
      await storage.close();
    }
  }
}

async function orNull<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
}

const repairable = (findings: readonly Finding[]): readonly Finding[] => findings.filter((one) => one.repairable);
const codes = (findings: readonly Finding[]): string => [...new Set(findings.map(({ code }) => code))].join(', ');
/** Something that an entry or a table led to cannot be found. Counts and flags say nothing of that. */
const isLost = ({ severity, code, repairable: can }: Finding): boolean =>
  severity === 'corruption' && !can && !/^(copied-|count-|too-many-uses)/.test(code);

const isSame = (one: readonly FileState[], other: readonly FileState[]): boolean =>
  one.every(({ size, bytes }, index) => {
    const now = other[index];
    return now !== undefined && size === now.size && equalBytes(bytes, now.bytes);
  });

/** Problem with a repair of the file; null: none. */
async function judge(copy: Copy, countsOf: HostileKit['counts']): Promise<string | null> {
  const before = await copy.state();
  const found = await copy.check();
  const countsBefore = found === null || countsOf === undefined ? null : await copy.counts(countsOf);
  const told = await copy.repair();
  const once = await copy.state();
  const changed = !isSame(before, once);
  if ((found === null) !== (told === null)) return 'one of check and repair does not take the file';
  if (found === null) return changed ? 'a repair changed a file that it cannot read' : null;
  const can = repairable(found);
  if (changed !== can.length > 0) return `changed: ${changed}, and could be repaired: ${codes(can)}`;
  const left = await copy.check();
  if (left === null) return 'it cannot be checked after the repair';
  if (repairable(left).length > 0) return `after a repair there is still ${codes(repairable(left))}`;
  await copy.repair();
  if (!isSame(once, await copy.state())) return 'a second repair changed something';
  if (countsOf === undefined || countsBefore === null || !found.some(isLost)) return null;
  const countsAfter = await copy.counts(countsOf);
  for (const [cluster, count] of countsBefore) {
    const now = countsAfter.get(cluster) ?? 0;
    if (now < count) return `unit ${cluster} was counted ${count} times and is counted ${now} times (${codes(found)})`;
  }
  return null;
}

const REGISTRY = withToys();
const REPAIRED = hostileKits([...KITS, ...TOY_KITS]).filter(({ format }) => REGISTRY.find(format).repair !== undefined);

describe.each(REPAIRED)('repairs of mutations: $format', (kit) => {
  const { format: name, samples, counts, files = FILES, longestRepaired = LARGEST } = kit;
  it('are done at once, or leave the file as it is', { timeout: 3_600_000 }, async () => {
    const format = REGISTRY.find(name);
    const wrong: string[] = [];
    let [number, repaired] = [0, 0];
    const small = (await samples()).filter(({ bytes }) => (bytes?.length ?? 0) <= longestRepaired);
    const aim = Math.min(files, FILES);
    let count = 0;
    for (const sample of small) for (const _ of mutationsOf(sample, AMOUNT)) count++;
    const every = rounds(Math.max(Math.round(count / aim), 1), 1);
    for (const sample of small) {
      for (const mutation of mutationsOf(sample, AMOUNT)) {
        if (number++ % every !== 0) continue;
        const problem = await judge(await Copy.of(format, sample, mutation), counts);
        if (problem !== null) wrong.push(`${sample.name}: ${mutation.title}: ${problem}`);
        repaired++;
      }
    }
    expect(wrong.slice(0, 20).join('\n'), `${wrong.length} of ${repaired} files`).toBe('');
    expect(small.length).toBeGreaterThan(0);
    expect(repaired).toBeGreaterThanOrEqual(Math.min(count, rounds(0.6 * aim, files)));
  });
});
