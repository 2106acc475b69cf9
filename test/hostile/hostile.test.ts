/** Files that are wrong on purpose: each ends in an `ImageError` or in right data, in time, and opens nothing else. */
import { availableParallelism } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KITS, TOY_KITS } from '../conformance/kits.ts';
import { rounds } from '../conformance/random.ts';
import { withToys } from '../formats/toys/registry.ts';
import { USUAL } from '../formats/usual.ts';
import { bundleChild } from './bundle.ts';
import type { Sample } from './descriptor.ts';
import { type Amount, mutationsOf } from './mutations.ts';
import { FileHasher } from './pieces.ts';
import { Pool } from './pool.ts';
import type { HostileCase } from './protocol.ts';
import { baseOf, hostileKits } from './suite.ts';

const isLong = rounds(0, 1) === 1;
const AMOUNT = { entries: rounds(6, 64), flips: rounds(60, 3000), swaps: rounds(0, 1) === 1, seed: 1 };

let pool: Pool;
beforeAll(async () => {
  pool = new Pool({ script: await bundleChild(), children: Math.min(availableParallelism(), 2) });
});
afterAll(() => pool.close());

describe.each(hostileKits([...KITS, ...TOY_KITS]))('$format', ({ format, samples, hollow, reaches = [], files }) => {
  let all: readonly Sample[] = [];
  const distinct = new Set<string>();

  beforeAll(async () => {
    all = await samples();
    for (const sample of all) pool.addBase(baseOf(sample));
  });
  afterAll(() => pool.forget());

  it('ends in an ImageError or in right data, whatever a file says', { timeout: 3_600_000 }, async () => {
    const wrong: string[] = [];
    const seen = new Set<string>();
    const every = oneInThisMany(all, files);
    await pool.run(casesOf(format, all, { every, distinct }), ({ work, findings, steps }) => {
      for (const step of steps) seen.add(step);
      if (findings.length > 0) wrong.push(`${work.base}: ${work.title}\n  ${findings.join('\n  ')}`);
    });
    expect(wrong.slice(0, 20).join('\n'), `${wrong.length} of ${distinct.size} files`).toBe('');
    // Both ends are met, or something is wrong with the suite.
    const written = withToys().find(format).capabilities.write ? 'write:ok' : 'write open:read-only';
    expect([...seen]).toEqual(
      expect.arrayContaining(['named open:ok', written, 'named open:invalid-format', ...reaches]),
    );
    expect(distinct.size).toBeGreaterThanOrEqual(rounds(0.8, 1) * (files ?? USUAL.hostileFiles));
  });

  it('takes no more time and memory for long tables that are holes', { timeout: 120_000 }, async () => {
    const wrong: string[] = [];
    // Every operation may look at the whole table, so time follows its length; memory must not.
    const slow = new Pool({ script: await bundleChild(), children: 2, milliseconds: 20_000 });
    const expectation = { opens: false, unchanged: [], sameSize: false };
    const cases = hollow().map((base) => {
      slow.addBase(base);
      return {
        title: 'hollow',
        base: base.name,
        format,
        edits: [],
        size: base.image?.size ?? 0,
        expect: expectation,
      };
    });
    await slow.run(cases, ({ work, findings, steps }) => {
      if (findings.length > 0) wrong.push(`${work.base}: ${findings.join('\n')} after ${steps.join(' ')}`);
    });
    await slow.close();
    expect(wrong.join('\n')).toBe('');
  });
});

/** One in this many files of all samples is tried: in the usual run as few as it aims at. */
function oneInThisMany(samples: readonly Sample[], aim: number = USUAL.hostileFiles): number {
  if (isLong) return 1;
  let count = 0;
  for (const sample of samples) for (const _ of mutationsOf(sample, amountFor(sample, 1))) count++;
  return Math.max(Math.round(count / aim), 1);
}

function* casesOf(
  format: string,
  samples: readonly Sample[],
  { every, distinct }: { readonly every: number; readonly distinct: Set<string> },
): Generator<HostileCase> {
  for (const sample of samples) {
    const hashers = new Map<string | null, FileHasher>();
    if (sample.bytes !== null) hashers.set(null, new FileHasher(sample.bytes));
    for (const { name, bytes } of sample.parts ?? []) hashers.set(name, new FileHasher(bytes));
    for (const mutation of mutationsOf(sample, amountFor(sample, every))) {
      const { file, edits, size } = mutation;
      const hash = `${file ?? ''} ${hashers.get(file)?.hash(edits, size)}`;
      if (distinct.has(hash)) continue;
      distinct.add(hash);
      yield { ...mutation, base: sample.name, format };
    }
  }
}

/** Large files take longer, and their structures are those of the small ones. */
function amountFor(sample: Sample, every: number): Amount {
  return { ...AMOUNT, every: isLong ? 1 : every * sample.every, ...(sample.golden ? { flips: rounds(60, 300) } : {}) };
}
