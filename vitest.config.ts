import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './scripts/test-order.mjs';

export default defineConfig({
  resolve: {
    alias: {
      '#local-storage': fileURLToPath(new URL('src/storage/local/index.ts', import.meta.url)),
      '#compress': fileURLToPath(new URL('src/codec/compress.ts', import.meta.url)),
      '#decompress': fileURLToPath(new URL('src/codec/decompress.ts', import.meta.url)),
    },
  },
  test: {
    sequence: { sequencer: LongestFirst },
    setupFiles: [fileURLToPath(new URL('scripts/test-worker.mjs', import.meta.url))],
    // A line a file, not one a slow test.
    slowTestThreshold: Number.POSITIVE_INFINITY,
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    // Long runs (npm run test:long) take bigger numbers.
    testTimeout: process.env['VDKIT_LONG'] ? 1_200_000 : 180_000,
    // A hook may build the package first.
    hookTimeout: 60_000,
    // The budgets in docs/testing.md are for two cores, so both work.
    maxWorkers: availableParallelism(),
  },
});
