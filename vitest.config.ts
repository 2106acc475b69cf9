import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './scripts/test-order.mjs';

/** Files that share a process: a separate one costs more than most of them take. */
const SHARED = [
  'src/**/*.test.ts',
  'test/{alternation,cli,conformance,damage,golden,large,moves,peers,scenarios,units}/**/*.test.ts',
  'test/faults/{again,errors,faults,flusher,kit,prepare,rebase-commit,timer,toy,toy-docs}.test.ts',
  'test/faults/qcow2-{amend,bitmaps,repair,snapshots}.test.ts',
  'test/{hostile/repair,model/growth,model/views}.test.ts',
];
/** Those among them that replace modules, or what modules find when they are loaded. */
const PRIVATE = ['src/storage/local/**/*.test.ts', 'src/vfs/stream-source.test.ts', 'src/codec/system-deflate.test.ts'];

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
    // Most of what a test makes is gone soon: with more room for it, much less is copied by the garbage collector.
    // And by one thread: the other core has a worker, and memory outside of the heap is given back at once.
    // Buffers of images call for a collection every 64 MB: at once it costs half of what it costs in steps.
    execArgv: ['--max-semi-space-size=32', '--single-threaded-gc', '--no-incremental-marking'],
    setupFiles: [fileURLToPath(new URL('scripts/test-worker.mjs', import.meta.url))],
    // A line a file, not one a slow test.
    slowTestThreshold: Number.POSITIVE_INFINITY,
    projects: [
      { extends: true, test: { name: 'shared', include: SHARED, exclude: PRIVATE, isolate: false } },
      {
        extends: true,
        test: { name: 'alone', include: [...PRIVATE, 'test/**/*.test.ts'], exclude: SHARED.slice(1) },
      },
    ],
    // Long runs (npm run test:long) take bigger numbers.
    testTimeout: process.env['VDKIT_LONG'] ? 1_200_000 : 180_000,
    // A hook may build the package first.
    hookTimeout: 60_000,
    // The budgets in docs/testing.md are for two cores, so both work.
    maxWorkers: availableParallelism(),
  },
});
