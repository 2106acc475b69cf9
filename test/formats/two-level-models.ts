/** Images of two levels for the model suite: sizes of clusters and tables at random, alone and in chains. */
import { basename, join } from 'node:path';
import { defaultRegistry } from '../../src/formats/index.ts';
import type { Config } from '../../src/image/contract.ts';
import type { Random } from '../../src/testing/random.ts';
import { inspectDisk } from '../model/qemu.ts';
import type { SetUp, Shape } from '../model/scenario.ts';
import type { ModelKit } from './kit.ts';

const SECTOR = 512;

/** At least one. */
type Some<T> = readonly [T, ...T[]];

/** Options of the images of a format. */
export interface TwoLevelModels {
  readonly format: string;
  readonly starts: Some<SetUp['start']>;
  /** Sizes of clusters. Small ones more often: they have more tables. */
  readonly clusters: Some<number>;
  /** Numbers of clusters in a table; left out: the format has no choice. */
  readonly tables?: Some<number>;
  /** QEMU neither checks the format nor tells zeroes from what is not stored. */
  readonly contentOnly: boolean;
}

/** The kit of a format. */
export function twoLevelModels(kit: TwoLevelModels): ModelKit {
  const { format, clusters, tables, starts, contentOnly } = kit;
  return {
    shapes: () => shapes(kit),
    seeds: [72, 300],
    async inspect(run, folder, image) {
      const path = join(folder, basename(image.name));
      const opened = ['--image-opts', `driver=${format},file.driver=file,file.filename=${path}`];
      await inspectDisk(run, opened, { folder, format, image, contentOnly, leaks: true });
    },
    operations: [
      ...['read', 'write', 'zero', 'discard', 'flush', 'compact', 'check', 'reopen'],
      ...starts.flatMap((start) => (start === 'empty' ? [] : [`start ${start}`])),
      ...['stack', 'merge forward', 'merge backward'],
    ],
    options: [
      ...[...new Set(clusters)].map((size) => `cluster_size=${size}`),
      ...[...new Set(tables ?? [])].map((size) => `table_size=${size}`),
    ],
  };
}

/** Relations of images: alone, over another one, and in changing chains. */
function shapes(kit: TwoLevelModels): Shape[] {
  const format = defaultRegistry().find(kit.format);
  const shape = (title: string, below: Shape['below']): Shape => ({
    title,
    format,
    variant: [],
    below,
    suite: 'test/model/options',
    setUp: (random) => setUpOf(kit, random, below),
  });
  return [shape('alone', []), shape('over its own format', [format]), shape('a chain that changes', [format, format])];
}

function setUpOf(kit: TwoLevelModels, random: Random, below: Shape['below']): SetUp {
  const size = (): number => SECTOR * (400 + random.below(800));
  const configs = [...below, null].map(() => configOf(kit, random));
  const top = size();
  return {
    unit: Number(configs.at(-1)?.['cluster_size']),
    sizes: [...below.map(() => (random.chance(0.4) ? top : size())), top],
    configs,
    most: 1024 * 1024,
    start: random.pick(kit.starts),
    inner: false,
    other: (one) => configOf(kit, one),
  };
}

function configOf({ clusters, tables }: TwoLevelModels, random: Random): Config {
  const cluster_size = random.pick(clusters);
  return { cluster_size, ...(tables === undefined ? {} : { table_size: random.pick(tables) }) };
}
