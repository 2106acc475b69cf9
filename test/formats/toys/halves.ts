/** Images of three files for the test suites. */
import { formatCrashSuite } from '../../../src/testing/index.ts';
import { missingDirectoryFlush } from '../../faults/mutations.ts';
import type { FormatKit } from '../kit.ts';
import { withToys } from './registry.ts';

const SIZE = 48 * 1024;

export const kit: FormatKit = {
  format: 'halves',
  golden: { without: 'no program has the format' },
  hostile: { without: 'a sample is one file' },
  async crash() {
    const suite = (seed: number) => formatCrashSuite({ registry: withToys(), format: 'halves', size: SIZE, seed });
    return {
      rows: [{ title: 'traffic', suite, options: {} }],
      seeds: [1, 11],
      states: [500, 1000],
      atLeast: [500, 5000],
      needed: [],
      mutants: [
        {
          name: 'missing directory flush',
          mutate: missingDirectoryFlush,
          suite: ({ wrap = (provider) => provider }) => {
            const { build, open, ...rest } = suite(21);
            return { ...rest, build: (provider) => build(wrap(provider)), open: (provider) => open(wrap(provider)) };
          },
        },
      ],
      options: {},
    };
  },
};
