/** Operations of the model suite on snapshots, bitmaps and compressed clusters, as data. */
import type { Config } from '../../src/image/contract.ts';
import type { Random } from '../../src/testing/random.ts';
import type { Content, Range } from './operations.ts';

/** A write that is stored compressed where it covers whole units. */
export interface CompressOperation extends Range {
  readonly kind: 'compress';
  readonly content: Content;
  readonly seed: number;
}

/** `pick` chooses among those that are there by then. */
export interface SnapshotOperation {
  readonly kind: 'snapshot';
  readonly act: 'create' | 'apply' | 'delete' | 'rename';
  readonly pick: number;
}

export interface BitmapOperation {
  readonly kind: 'bitmap';
  readonly act: 'add' | 'remove' | 'clear' | 'enable' | 'disable' | 'merge';
  readonly pick: number;
  readonly granularity: number;
}

export type InnerOperation =
  | CompressOperation
  | SnapshotOperation
  | BitmapOperation
  /** The disk is converted into a new image, which is compared. */
  | { readonly kind: 'convert'; readonly config: Config; readonly compress: boolean };

/** One of them. */
export function makeInner(random: Random, range: Range, config: (random: Random) => Config): InnerOperation {
  const roll = random.below(100);
  const pick = random.below(1000);
  if (roll < 40) {
    const content = random.pick<Content>(['mixed', 'mixed', 'text', 'text', 'random', 'same']);
    return { kind: 'compress', ...range, content, seed: random.below(1_000_000) };
  }
  if (roll < 70) {
    const act = random.pick<SnapshotOperation['act']>(['create', 'create', 'create', 'apply', 'delete', 'rename']);
    return { kind: 'snapshot', act, pick };
  }
  if (roll < 96) {
    const act = random.pick<BitmapOperation['act']>([
      'add',
      'add',
      'add',
      'remove',
      'clear',
      'enable',
      'disable',
      'merge',
    ]);
    return { kind: 'bitmap', act, pick, granularity: random.pick([512, 1024, 4096, 65_536]) };
  }
  return { kind: 'convert', config: config(random), compress: random.chance(0.6) };
}

/** The operation as a call in a program. */
export function describeInner(operation: InnerOperation): string {
  switch (operation.kind) {
    case 'compress': {
      const { offset, length, content, seed } = operation;
      return `disk.compress(${offset}, ${content}Bytes(${length}, ${seed})).then((write) => write.store())`;
    }
    case 'snapshot':
      return `disk.snapshots.${operation.act}(${operation.act === 'create' ? 'nextName()' : `some(${operation.pick})`})`;
    case 'bitmap': {
      const { act, pick, granularity } = operation;
      if (act === 'add')
        return `disk.bitmaps.add(nextName(), { granularity: ${granularity}, enabled: ${pick % 4 > 0} })`;
      return `disk.bitmaps.${act}(some(${pick}))`;
    }
    case 'convert':
      return `convertAndCompare(${JSON.stringify({ config: operation.config, compress: operation.compress })})`;
  }
}
