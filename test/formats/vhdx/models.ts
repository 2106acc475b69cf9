/** VHDX images of all options for the model suite: which ones a seed has. */
import { basename, join } from 'node:path';
import { defaultRegistry } from '../../../src/formats/index.ts';
import { MIB } from '../../../src/formats/vhdx/layout.ts';
import type { Config } from '../../../src/image/contract.ts';
import { inspect } from '../../../src/operations/inspect.ts';
import type { Random } from '../../../src/testing/random.ts';
import { inspectDisk } from '../../model/qemu.ts';
import type { SetUp, Shape } from '../../model/scenario.ts';
import type { ModelKit } from '../kit.ts';

/** Small ones more often: there are more of them. */
const BLOCKS = [MIB, MIB, MIB, 2 * MIB, 4 * MIB] as const;
/** Operations count in sectors of 512 bytes, so there are no others. */
const SECTOR = 512;
const LOGS = [MIB, 2 * MIB] as const;

/** Relations of images: alone, over another one, and in changing chains. */
function shapes(): Shape[] {
  const format = defaultRegistry().find('vhdx');
  const shape = (title: string, variant: Shape['variant'], below: Shape['below']): Shape => ({
    title,
    format,
    variant,
    below,
    suite: 'test/model/options',
    setUp: (random) => setUpOf(random, below),
  });
  return [
    shape('dynamic', [], []),
    shape('fixed', ['fixed'], []),
    shape('over VHDX', [], [format]),
    shape('a chain that changes', [], [format, format]),
  ];
}

function setUpOf(random: Random, below: Shape['below']): SetUp {
  const size = (): number => SECTOR * (4000 + random.below(6000));
  const configs = [...below, null].map(() => configOf(random));
  const top = size();
  return {
    unit: Number(configs.at(-1)?.['block_size']),
    sizes: [...below.map(() => (random.chance(0.4) ? top : size())), top],
    configs,
    most: 8 * MIB,
    start: random.pick(['empty', 'empty', 'converted']),
    inner: false,
    other: configOf,
  };
}

function configOf(random: Random): Config {
  return {
    block_size: BLOCKS[random.below(BLOCKS.length)] ?? MIB,
    log_size: LOGS[random.below(LOGS.length)] ?? MIB,
  };
}

export const models: ModelKit = {
  shapes,
  seeds: [16, 200],
  async inspect(run, folder, image) {
    // It has no differencing images.
    if ((await inspect(image, { format: 'vhdx' })).differencing) return;
    const path = join(folder, basename(image.name));
    const opened = ['--image-opts', `driver=vhdx,file.driver=file,file.filename=${path}`];
    await run('check', '-q', ...opened);
    await inspectDisk(run, opened, { folder, format: 'vhdx', image, contentOnly: true });
  },
  operations: [
    ...['read', 'write', 'zero', 'discard', 'flush', 'compact', 'check', 'reopen', 'start converted'],
    ...['stack', 'merge forward', 'merge backward'],
  ],
  options: [...[...new Set(BLOCKS)].map((size) => `block_size=${size}`), ...LOGS.map((size) => `log_size=${size}`)],
};
