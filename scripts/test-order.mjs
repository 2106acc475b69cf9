/**
 * Order of the test files: those that take longest begin first, so that all workers end together. Files that share a
 * process come last and one after the other, since another file in between ends the process.
 */
import { relative } from 'node:path';
import { BaseSequencer } from 'vitest/node';
import { ROOT } from './prepare.mjs';

/** The longest first. The others follow in vitest's order: by the time of the last run, or by size. */
export const LONGEST = [
  // With a separate process.
  'test/faults/power-cuts-0.test.ts',
  'test/faults/power-cuts-1.test.ts',
  'test/hostile/hostile.test.ts',
  'test/browser/conformance.test.ts',
  'test/faults/mutants-1.test.ts',
  'test/faults/chain.test.ts',
  'test/package/package.test.ts',
  'test/model/options.test.ts',
  'test/faults/again.test.ts',
  'test/faults/cache.test.ts',
  'test/places/places.test.ts',
  'test/docs/examples.test.ts',
  'test/hostile/limits.test.ts',
  'test/faults/faults.test.ts',
  'test/docs/cli-examples.test.ts',
  'test/large/requests.test.ts',
  'test/faults/mutants-0.test.ts',
  'test/large/lists.test.ts',
  'test/model/layers.test.ts',
  'test/places/process.test.ts',
  'test/faults/rebase-commit.test.ts',
  'test/faults/qcow2-snapshots.test.ts',
  'test/model/model.test.ts',
  'test/docs/plugin-suite.test.ts',
  'test/hostile/pool.test.ts',
  // Sharing one.
  'test/peers/made.test.ts',
  'test/conformance/conformance.test.ts',
  'test/units/units.test.ts',
  'test/cli/interrupt.test.ts',
  'test/peers/operations.test.ts',
  'test/alternation/alternation.test.ts',
  'test/scenarios/scenarios-chains.test.ts',
  'test/moves/moves.test.ts',
  'test/moves/cut.test.ts',
  'test/scenarios/invariants.test.ts',
  'test/peers/sizes.test.ts',
  'test/peers/samples.test.ts',
  'test/peers/qcow2-cuts.test.ts',
  'test/peers/qcow2-snapshots.test.ts',
  'test/peers/qcow2-rebase-commit.test.ts',
  'test/peers/qcow2-images.test.ts',
  'test/peers/qcow2-check.test.ts',
  'test/peers/qcow2-compressed.test.ts',
  'test/scenarios/scenarios-space.test.ts',
  'test/scenarios/scenarios-io.test.ts',
  'src/formats/vmdk/resize-faults.test.ts',
  'test/scenarios/quirks.test.ts',
  'test/cli/recognised.test.ts',
  'test/cli/process.test.ts',
  'test/peers/opens.test.ts',
  'test/peers/vmdk-chains.test.ts',
];

export class LongestFirst extends BaseSequencer {
  /** @param {Parameters<BaseSequencer['sort']>[0]} files */
  async sort(files) {
    const rank = new Map(LONGEST.map((file, index) => [file, index]));
    /** @param {(typeof files)[number]} file */
    const rankOf = ({ moduleId, project }) => {
      const place = rank.get(relative(ROOT, moduleId).replaceAll('\\', '/')) ?? LONGEST.length;
      return project.config.isolate ? place : LONGEST.length + 1 + place;
    };
    const sorted = await super.sort(files);
    return sorted.toSorted((one, other) => rankOf(one) - rankOf(other));
  }
}
