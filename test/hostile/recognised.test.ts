/** Formats that are recognised only: whatever is wrong with their first bytes, the answer is an `ImageError`. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { RECOGNISED } from '../../src/formats/recognised/index.ts';
import { Random } from '../../src/testing/random.ts';
import { rounds } from '../conformance/random.ts';
import { bundleChild } from './bundle.ts';
import { piecesOf } from './pieces.ts';
import { Pool } from './pool.ts';
import type { BaseImage, Expectation, HostileCase, Piece } from './protocol.ts';
import { recognisedSamples, slowTexts } from './recognised.ts';

const EXPECT: Expectation = { opens: false, unchanged: [], sameSize: false };
const samples = recognisedSamples();
let pool: Pool;

beforeAll(async () => {
  pool = new Pool({ script: await bundleChild(), children: 2 });
  for (const [index, { bytes }] of samples.entries()) pool.addBase(bare(`sample ${index}`, bytes));
  for (const [index, bytes] of slowTexts().entries()) pool.addBase(bare(`slow ${index}`, bytes));
});
afterAll(() => pool.close());

it('has a sample of every recognised format', () => {
  expect([...new Set(samples.map(({ format }) => format))].sort()).toEqual(RECOGNISED.map(({ name }) => name).sort());
});

it('refuses all of them, and all files that are like them, with an ImageError', { timeout: 600_000 }, async () => {
  const wrong: string[] = [];
  const refused = new Map<string, string>();
  await pool.run(casesOf(), ({ work, findings, steps }) => {
    if (findings.length > 0) wrong.push(`${work.format}, ${work.base}, ${work.title}: ${findings.join('\n')}`);
    if (work.title === 'nothing changed') refused.set(work.base, steps.join(' '));
    const opened = steps.filter((step) => step === 'named open:ok' || step === 'write open:ok');
    if (opened.length > 0) wrong.push(`${work.format}, ${work.title}: ${opened.join()}`);
  });
  expect(wrong.slice(0, 10)).toEqual([]);
  for (const [base, steps] of refused)
    expect(steps, base).toMatch(/probed open:(unsupported|corrupt) named info:unsupported/);
  expect(refused.size).toBe(samples.length);
});

it('takes no longer for texts that make careless patterns slow', { timeout: 60_000 }, async () => {
  const wrong: string[] = [];
  const cases = slowTexts().flatMap((bytes, index) =>
    ['cue', 'viso', 'ovf', 'zip', 'dmg'].map((format) => caseOf(`slow ${index}`, format, 'as it is', [], bytes.length)),
  );
  await pool.run(cases, ({ work, findings, milliseconds }) => {
    if (findings.length > 0 || milliseconds > 500)
      wrong.push(`${work.base}: ${milliseconds} ms ${findings.join('\n')}`);
  });
  expect(wrong).toEqual([]);
});

function bare(name: string, bytes: Uint8Array): BaseImage {
  return { name, image: piecesOf(name, bytes), beside: [], content: null, differencing: false };
}

function* casesOf(): Generator<HostileCase> {
  const random = new Random(17);
  for (const [index, { format, bytes }] of samples.entries()) {
    const base = `sample ${index}`;
    yield caseOf(base, format, 'nothing changed', [], bytes.length);
    for (let round = 0; round < rounds(30, 2000); round++) {
      // The first and the last bytes are what probes look at.
      const near = random.below(Math.min(bytes.length, 160));
      const offset = random.chance(0.7) ? near : bytes.length - 1 - random.below(Math.min(bytes.length, 520));
      const byte = random.chance(0.5) ? (bytes[offset] ?? 0) ^ (1 << random.below(8)) : random.below(256);
      yield caseOf(base, format, `${offset} := ${byte}`, [{ offset, bytes: Uint8Array.of(byte) }], bytes.length);
    }
    for (let round = 0; round < rounds(10, 200); round++) {
      const size = round < 8 ? round : random.below(bytes.length);
      yield caseOf(base, format, `cut off at ${size}`, [], size);
    }
  }
}

function caseOf(base: string, format: string, title: string, edits: readonly Piece[], size: number): HostileCase {
  return { title, base, format, edits, size, expect: EXPECT };
}
