/** Conformance of delta files of ESX: two words of the variant make one, and the suite of all formats takes one at a time. */
import { describe, it } from 'vitest';
import { FORMATS } from '../../src/formats/index.ts';
import { vmdk } from '../../src/formats/vmdk/index.ts';
import type { Format, FormatCreateOptions } from '../../src/image/contract.ts';
import { Registry } from '../../src/image/registry.ts';
import { conformanceCases } from '../../src/testing/conformance.ts';
import { rounds } from './random.ts';

const asDelta = (options: FormatCreateOptions): FormatCreateOptions => ({
  ...options,
  variant: [...options.variant.filter((word) => word === 'diff'), 'dynamic', 'esx'],
});

const { create, plan } = vmdk;
if (create === undefined || plan === undefined) throw new Error('VMDK can be made');

const delta: Format = {
  ...vmdk,
  variants: vmdk.variants.filter(({ word }) => word === 'dynamic' || word === 'diff'),
  create: (files, options) => create(files, asDelta(options)),
  plan: async (options) => plan(asDelta(options)),
};

const registry = new Registry(FORMATS.map((format) => (format === vmdk ? delta : format)));
const cases = conformanceCases({ registry, format: 'vmdk', rounds: rounds(24, 1500) });

describe.each([...new Set(cases.map(({ way }) => way))])('vmdk: a delta file, %s', (way) => {
  for (const { title, run } of cases.filter((one) => one.way === way)) it(title, run);
});
