/** VHD images of all options for the model suite: which ones a seed has. */
import { basename, join } from 'node:path';
import { defaultRegistry } from '../../../src/formats/index.ts';
import { DISK_TYPE, FOOTER, HEADER } from '../../../src/formats/vhd/layout.ts';
import type { Config } from '../../../src/image/contract.ts';
import type { Random } from '../../../src/testing/random.ts';
import { fileBytes } from '../../model/extents.ts';
import { inspectDisk } from '../../model/qemu.ts';
import type { SetUp, Shape } from '../../model/scenario.ts';
import type { ModelKit } from '../kit.ts';

const SECTOR = 512;
/** Small ones more often: they have more blocks. The largest bitmap here has two sectors. */
const BLOCKS = [512, 4096, 4096, 8192, 65_536, 524_288, 4_194_304] as const;

/** Relations of images: alone, over another one, and in changing chains. */
function shapes(): Shape[] {
  const format = defaultRegistry().find('vhd');
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
    shape('over VHD', [], [format]),
    shape('a chain that changes', [], [format, format]),
  ];
}

function setUpOf(random: Random, below: Shape['below']): SetUp {
  const size = (): number => SECTOR * (400 + random.below(800));
  const configs = [...below, null].map(() => configOf(random));
  const top = size();
  return {
    unit: Number(configs.at(-1)?.['block_size']),
    sizes: [...below.map(() => (random.chance(0.4) ? top : size())), top],
    configs,
    most: 1024 * 1024,
    start: random.pick(['empty', 'empty', 'converted']),
    inner: false,
    other: configOf,
  };
}

function configOf(random: Random): Config {
  return { block_size: BLOCKS[random.below(BLOCKS.length)] ?? 4096 };
}

export const models: ModelKit = {
  shapes,
  seeds: [24, 300],
  async inspect(run, folder, image) {
    const path = join(folder, basename(image.name));
    // QEMU opens a child as if it had no parent, and looks for no bitmap before blocks of less than 4 KiB.
    const bytes = await fileBytes(image);
    const type = FOOTER.get(bytes.subarray(-FOOTER.size), 'type');
    if (type === DISK_TYPE.differencing) return;
    if (type === DISK_TYPE.dynamic && HEADER.get(bytes.subarray(SECTOR), 'blockSize') < 4096) return;
    const opened = ['--image-opts', `driver=vpc,file.driver=file,file.filename=${path}`];
    await inspectDisk(run, opened, { folder, format: 'vhd', image, contentOnly: true });
  },
  operations: [
    ...['read', 'write', 'zero', 'discard', 'flush', 'compact', 'check', 'reopen', 'start converted'],
    ...['stack', 'merge forward', 'merge backward'],
  ],
  options: [...new Set(BLOCKS)].map((size) => `block_size=${size}`),
};
