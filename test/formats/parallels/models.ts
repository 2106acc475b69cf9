/** Parallels images of both signatures for the model suite, with clusters that are powers of two or not. */
import { basename, join } from 'node:path';
import { defaultRegistry } from '../../../src/formats/index.ts';
import type { Config } from '../../../src/image/contract.ts';
import type { Random } from '../../../src/testing/random.ts';
import { inspectDisk } from '../../model/qemu.ts';
import type { SetUp, Shape } from '../../model/scenario.ts';
import type { ModelKit } from '../kit.ts';

const SECTOR = 512;
/** Small ones more often: their tables grow past the first cluster. */
const CLUSTERS = [512, 1536, 4096, 4096, 32_256, 65_536] as const;

function shapes(): Shape[] {
  const format = defaultRegistry().find('parallels');
  const shape = (title: string, variant: Shape['variant']): Shape => ({
    title,
    format,
    variant,
    below: [],
    suite: 'test/model/options',
    setUp,
  });
  return [shape('classic', []), shape('extended', ['ext'])];
}

function setUp(random: Random): SetUp {
  const config = configOf(random);
  return {
    unit: Number(config['cluster_size']),
    sizes: [SECTOR * (400 + random.below(800))],
    configs: [config],
    most: 1024 * 1024,
    start: random.pick(['empty', 'empty', 'converted']),
    inner: false,
    other: configOf,
  };
}

function configOf(random: Random): Config {
  return { cluster_size: CLUSTERS[random.below(CLUSTERS.length)] ?? 4096 };
}

export const models: ModelKit = {
  shapes,
  seeds: [48, 300],
  async inspect(run, folder, image) {
    const path = join(folder, basename(image.name));
    const opened = ['--image-opts', `driver=parallels,file.driver=file,file.filename=${path}`];
    await inspectDisk(run, opened, { folder, format: 'parallels', image, contentOnly: true, leaks: true });
  },
  operations: [
    ...['read', 'write', 'zero', 'discard', 'flush', 'compact', 'check', 'reopen', 'resize', 'start converted'],
  ],
  options: [...new Set(CLUSTERS)].map((size) => `cluster_size=${size}`),
};
