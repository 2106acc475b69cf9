import { expect, it } from 'vitest';
import { MemoryProvider } from '../../src/storage/index.ts';
import { randomTraffic, runCrashSuite } from '../../src/testing/index.ts';
import { createToy, openToy, ToyDisk, toyDataOffset } from './toy.ts';

it('keeps its promise through any power cut', async () => {
  const blocks = 300;
  const report = await runCrashSuite(
    {
      provider: new MemoryProvider(),
      image: '/disk.toy',
      size: blocks * 1024,
      build: (provider) => createToy(provider, '/disk.toy', blocks),
      open: async (provider) => new ToyDisk(await openToy(provider, '/disk.toy')),
      sessions: [
        (session) => randomTraffic(session, { operations: 40, unit: 2 }),
        (session) => randomTraffic(session, { operations: 40, unit: 2 }),
      ],
    },
    { maxStates: 1500, isMetadata: (_, offset) => offset < toyDataOffset(blocks) },
  );
  expect(report.violations).toEqual([]);
  expect(report.pairsSplit).toBe(report.pairsTotal);
  expect(report.distinct).toBeGreaterThan(40);
});
