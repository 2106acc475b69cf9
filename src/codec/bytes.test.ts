import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import * as nativeForm from './bytes.ts';

type Bytes = typeof nativeForm;

/** The module as a browser loads it, without Buffer. */
async function withoutBuffer(): Promise<Bytes> {
  vi.resetModules();
  vi.stubGlobal('Buffer', undefined);
  try {
    return await import('./bytes.ts');
  } finally {
    vi.unstubAllGlobals();
  }
}

/** Mostly zeroes, at any place in memory. */
const sparseBytes = fc
  .record({
    lead: fc.integer({ min: 0, max: 9 }),
    length: fc.integer({ min: 0, max: 3000 }),
    set: fc.array(fc.integer({ min: 0, max: 2999 }), { maxLength: 4 }),
  })
  .map(({ lead, length, set }) => {
    const bytes = new Uint8Array(lead + length).subarray(lead);
    for (const at of set) if (at < length) bytes[at] = 1;
    return bytes;
  });

function plainRuns(bytes: Uint8Array, unit: number): { start: number; end: number }[] {
  const runs: { start: number; end: number }[] = [];
  for (let at = 0; at < bytes.length; at += unit) {
    const end = Math.min(at + unit, bytes.length);
    if (bytes.slice(at, end).every((byte) => byte === 0)) continue;
    const last = runs.at(-1);
    if (last?.end === at) last.end = end;
    else runs.push({ start: at, end });
  }
  return runs;
}

describe.each(['native', 'words'] as const)('bytes compared by %s', (form) => {
  let module: Bytes = nativeForm;
  beforeAll(async () => {
    if (form === 'words') module = await withoutBuffer();
  });
  afterAll(() => {
    vi.resetModules();
  });

  it('finds a single byte wherever it stands', () => {
    for (const length of [1, 15, 16, 17, 65_535, 65_536, 65_552, 65_553, 200_001]) {
      const bytes = new Uint8Array(length + 3).subarray(3);
      expect(module.isZero(bytes)).toBe(true);
      for (const at of [0, length >> 1, length - 1]) {
        bytes[at] = 0x80;
        expect(module.isZero(bytes)).toBe(false);
        expect(module.equalBytes(bytes, new Uint8Array(length))).toBe(false);
        expect(module.firstDifference(bytes, new Uint8Array(length))).toBe(at);
        bytes[at] = 0;
      }
    }
  });

  it('does not look beyond the view', () => {
    const whole = new Uint8Array(64).fill(1);
    whole.fill(0, 3, 61);
    expect(module.isZero(whole.subarray(3, 61))).toBe(true);
    expect(module.isZero(whole.subarray(3, 62))).toBe(false);
    expect(module.isZero(whole.subarray(2, 61))).toBe(false);
  });

  it('compares views that lie differently in memory', () => {
    fc.assert(
      fc.property(sparseBytes, sparseBytes, (a, b) => {
        const length = Math.min(a.length, b.length);
        let expected = -1;
        for (let at = length - 1; at >= 0; at--) if (a[at] !== b[at]) expected = at;
        expect(module.firstDifference(a, b)).toBe(expected);
        expect(module.equalBytes(a, b)).toBe(a.length === b.length && expected === -1);
      }),
    );
  });

  it('calls views of different length different, empty ones equal', () => {
    expect(module.equalBytes(new Uint8Array(3), new Uint8Array(4))).toBe(false);
    expect(module.equalBytes(new Uint8Array(0), new Uint8Array(0))).toBe(true);
    expect(module.isZero(new Uint8Array(0))).toBe(true);
    expect(module.firstDifference(new Uint8Array(3), new Uint8Array(4))).toBe(-1);
  });

  it('finds the runs of data', () => {
    fc.assert(
      fc.property(sparseBytes, fc.constantFrom(1, 7, 16, 100, 512, 4096), (bytes, unit) => {
        expect(module.dataRuns(bytes, unit)).toEqual(plainRuns(bytes, unit));
      }),
    );
  });

  it('finds runs behind long stretches of zeroes', () => {
    const bytes = new Uint8Array(1024 * 1024 + 5);
    bytes[700_000] = 1;
    bytes[bytes.length - 1] = 1;
    expect(module.dataRuns(bytes, 4096)).toEqual([
      { start: 696_320, end: 700_416 },
      { start: 1_048_576, end: 1_048_581 },
    ]);
    expect(module.dataRuns(new Uint8Array(1024 * 1024).fill(1), 512)).toEqual([{ start: 0, end: 1024 * 1024 }]);
    expect(module.dataRuns(new Uint8Array(1024 * 1024), 512)).toEqual([]);
    expect(module.dataRuns(new Uint8Array(0), 512)).toEqual([]);
  });
});
