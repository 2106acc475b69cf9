/**
 * Conformance of every writable format, in each of its variants and over every storage: the cases that `vdkit/testing`
 * has for authors of plugins. The list of formats is the registry's: a new one takes part by being registered.
 */
import { describe, it } from 'vitest';
import { conformanceCases } from '../../src/testing/conformance.ts';
import { wordsBesideDefault } from '../formats/variants.ts';
import { rounds } from './random.ts';
import { REGISTRY as registry } from './registry.ts';
import { STORAGE_KINDS } from './storages.ts';

const writable = registry.formats.filter(({ capabilities, create }) => capabilities.write && create !== undefined);

describe.each(writable)('$name', ({ name: format, variants }) => {
  const words = variants.map(({ word }) => word);
  const left = words.filter((word) => !wordsBesideDefault(words).includes(word));

  describe.each(STORAGE_KINDS)('over $name', (kind) => {
    const cases = conformanceCases({ registry, format, place: () => kind.make(), rounds: rounds(12, 1500) });
    const ways = new Set(cases.map(({ way }) => way).filter((way) => !left.includes(way)));
    describe.each([...ways])('%s', (way) => {
      for (const { title, run } of cases.filter((one) => one.way === way)) it(title, run);
    });
  });
});
