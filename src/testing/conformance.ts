/**
 * Conformance of a format: cases that every format that can be created and written must pass, in each of its variants.
 * They are functions, for any test runner.
 */
import { CALLBACK, checkArguments, NAME, optionsOf, optionsWith, POSITIVE } from '../arguments.ts';
import { REGISTRY } from '../disk/kinds.ts';
import { ImageError } from '../errors.ts';
import type { Registry } from '../image/registry.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { Bench, type ConformancePlace, type ConformanceWay, waysToMake } from './conformance-bench.ts';
import { PROMISES, type Promised } from './conformance-cases.ts';
import { ONCE_PROMISES } from './conformance-once.ts';

const USUAL = 40;

/** Options for the cases of a format. */
export interface ConformanceOptions {
  readonly registry: Registry;
  /** Name of a format that can be created and written. */
  readonly format: string;
  /** Makes an empty place for a case. Default: in memory. */
  place?(): Promise<ConformancePlace>;
  /** Number of random writes of a case. Default 40. */
  readonly rounds?: number | undefined;
}

/** One case. `run` rejects with a sentence about what is wrong. */
export interface ConformanceCase {
  /** Way in which the image is made. */
  readonly way: string;
  /** The promise. */
  readonly title: string;
  run(): Promise<void>;
}

const KIND = optionsWith({ registry: REGISTRY, format: NAME }, optionsOf({ place: CALLBACK, rounds: POSITIVE }));

/**
 * The cases of a format, for each way to make an image. Throws `unsupported` for a format that cannot be created and
 * written.
 */
export function conformanceCases(options: ConformanceOptions): readonly ConformanceCase[] {
  checkArguments('conformanceCases', { options: [options, KIND] });
  const { registry, place = inMemory, rounds = USUAL } = options;
  const format = registry.find(options.format);
  if (!format.capabilities.write || format.create === undefined) {
    throw new ImageError('unsupported', 'Images of this format cannot be created and written', { found: format.name });
  }
  return waysToMake(format).flatMap((way) =>
    promisesOf(way).map(({ title, work }) => ({
      way: way.title,
      title,
      async run() {
        const bench = new Bench({ registry, format, way, place: await place(), rounds });
        try {
          await work(bench);
        } finally {
          await bench.dispose();
        }
      },
    })),
  );
}

function promisesOf({ once, diff }: ConformanceWay): readonly Promised[] {
  return once ? ONCE_PROMISES : PROMISES.filter(({ alone }) => !(alone && diff));
}

async function inMemory(): Promise<ConformancePlace> {
  const provider = new MemoryProvider();
  return { provider, path: (name) => provider.resolve(name, ''), dispose: async () => {} };
}
