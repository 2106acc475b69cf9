/** VMDK images of all options for the model suite: which ones a seed has. */
import { basename, join } from 'node:path';
import { defaultRegistry } from '../../../src/formats/index.ts';
import type { Config } from '../../../src/image/contract.ts';
import type { Random } from '../../../src/testing/random.ts';
import { inspectDisk } from '../../model/qemu.ts';
import type { SetUp, Shape } from '../../model/scenario.ts';
import type { ModelKit } from '../kit.ts';

const SECTOR = 512;
/** Small ones more often: they have more tables. */
const GRAINS = [4096, 4096, 4096, 8192, 65_536, 65_536, 262_144] as const;
const ADAPTERS = ['ide', 'buslogic', 'lsilogic', 'legacyESX'] as const;

/** Relations of images: alone, of several files, over another one, and in changing chains. */
function shapes(): Shape[] {
  const format = defaultRegistry().find('vmdk');
  const shape = (title: string, variant: Shape['variant'], below: Shape['below']): Shape => ({
    title,
    format,
    variant,
    below,
    suite: 'test/model/options',
    setUp: (random) => setUpOf(random, below),
  });
  return [
    shape('sparse', [], []),
    shape('split', ['split'], []),
    shape('over VMDK', [], [format]),
    shape('split over VMDK', ['split'], [format]),
    shape('a chain that changes', [], [format, format]),
  ];
}

function setUpOf(random: Random, below: Shape['below']): SetUp {
  const size = (): number => SECTOR * (400 + random.below(800));
  const configs = [...below, null].map(() => configOf(random));
  const top = size();
  return {
    unit: Number(configs.at(-1)?.['grain_size']),
    sizes: [...below.map(() => (random.chance(0.4) ? top : size())), top],
    configs,
    most: 1024 * 1024,
    start: random.pick(['empty', 'empty', 'converted']),
    inner: false,
    other: configOf,
  };
}

function configOf(random: Random): Config {
  return {
    grain_size: GRAINS[random.below(GRAINS.length)] ?? 65_536,
    ...(random.chance(0.4) ? { zeroed_grain: 'on' } : {}),
    adapter_type: random.pick([...ADAPTERS]),
  };
}

export const models: ModelKit = {
  shapes,
  seeds: [50, 300],
  async inspect(run, folder, image) {
    const path = join(folder, basename(image.name));
    const opened = ['--image-opts', `driver=vmdk,file.driver=file,file.filename=${path}`];
    await inspectDisk(run, opened, { folder, format: 'vmdk', image, rounds: true });
  },
  operations: [
    ...['read', 'write', 'zero', 'discard', 'flush', 'compact', 'check', 'reopen', 'start converted'],
    ...['stack', 'merge forward', 'merge backward'],
  ],
  options: [
    ...[...new Set(GRAINS)].map((size) => `grain_size=${size}`),
    ...ADAPTERS.map((word) => `adapter_type=${word}`),
    'zeroed_grain=on',
  ],
};
