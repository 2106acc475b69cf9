/** VMDK through power cuts: every way to create one under the common workloads, in more states, and more mutants. */
import { commonCrashes } from '../../faults/common-crashes.ts';
import { publishBeforeData } from '../../faults/mutations.ts';
import type { CrashKit } from '../crash-kit.ts';

export function makeCrash(): CrashKit {
  const common = commonCrashes('vmdk');
  const [first] = common?.mutants ?? [];
  if (common === null || first === undefined) throw new Error('VMDK can be made and written');
  return {
    ...common,
    seeds: [2, 16],
    atLeast: [5000, 50_000],
    mutants: [...common.mutants, { name: 'publish before data', mutate: publishBeforeData, suite: first.suite }],
  };
}
