/** Compressed QCOW2 images that vdkit writes: sound for QEMU, with the same content, and as small as its own. */
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compare } from '../../src/operations/compare-images.ts';
import { convert } from '../../src/operations/convert.ts';
import { measure } from '../../src/operations/measure.ts';
import { openDisk } from '../../src/operations/open.ts';
import { Random } from '../../src/testing/random.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { oneIn, randomBytes } from '../conformance/random.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** The last cluster is never whole. */
const SIZE = 6 * MIB + 3 * 512;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(memoryFolder(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

const CLUSTERS = Array.from({ length: 13 }, (_, index) => 2 ** (9 + index));
/** Config of the image. */
const KINDS = [
  ...CLUSTERS.map((size) => `cluster_size=${size}`),
  'compat=0.10',
  ...[1, 2, 4, 8, 32, 64].map((bits) => `refcount_bits=${bits}`),
  'refcount_bits=2,cluster_size=4096',
  'refcount_bits=8,cluster_size=2097152',
  'extended_l2=on,cluster_size=16384',
  'extended_l2=on',
];
const ZSTD_KINDS = ['cluster_size=512', 'cluster_size=65536', 'cluster_size=2097152', 'extended_l2=on'];

describe('qcow2, compressed', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'written by vdkit', (qemuImg, qemuIo) => {
    it.each([
      ...oneIn(3, KINDS).map((options) => [options, 'zlib'] as const),
      ...oneIn(2, ZSTD_KINDS, 1).map((options) => [options, 'zstd'] as const),
    ])('%s, %s', async (options, method) => {
      await writeMixed(at('disk.raw'), SIZE);
      const config = configOf(options);
      const result = await convert(at('disk.raw'), at('ours.qcow2'), { sourceFormat: 'raw', config, compress: method });
      await expectSound(qemuImg, at('ours.qcow2'));
      expect(result.written).toBeLessThanOrEqual(SIZE);
      await expectNoLarger(qemuImg, options, method, method === 'zlib' ? 1.01 : 1.1);
      const { required } = await measure(at('disk.raw'), { sourceFormat: 'raw', format: 'qcow2', config });
      expect((await stat(at('ours.qcow2'))).size).toBeLessThanOrEqual(required);
      // Afterwards they are images like others.
      await change(qemuIo, at('ours.qcow2'));
      await qemuImg.run('check', '-q', '-f', 'qcow2', at('ours.qcow2'));
    });

    it.each(['cluster_size=4096', 'extended_l2=on,cluster_size=16384', 'refcount_bits=1'])(
      'and written over, %s',
      async (options) => {
        await writeMixed(at('disk.raw'), SIZE);
        await convert(at('disk.raw'), at('ours.qcow2'), {
          sourceFormat: 'raw',
          config: configOf(options),
          compress: true,
        });
        const random = new Random(5);
        {
          await using ours = await openDisk(at('ours.qcow2'), { mode: 'write' });
          await using raw = await openDisk(at('disk.raw'), { mode: 'write', format: 'raw' });
          for (let round = 0; round < 60; round++) {
            const offset = random.below(SIZE - 70_000);
            const bytes = randomBytes(random, 1 + random.below(70_000));
            if (round % 2 === 0) bytes.fill(round + 1, 0, bytes.length / 2);
            for (const disk of [ours, raw]) {
              if (round % 5 === 4) await disk.zero(offset, bytes.length);
              else if (round % 2 === 0 && disk === ours) await (await ours.compress(offset, bytes)).store();
              else await disk.write(offset, bytes);
            }
            if (round % 7 === 0) await ours.flush();
          }
        }
        await expectSound(qemuImg, at('ours.qcow2'));
      },
    );

    it('over a backing file, and into an image that is there', async () => {
      await writeMixed(at('base.raw'), SIZE);
      await writeMixed(at('disk.raw'), SIZE, 13);
      const options = { sourceFormat: 'raw', compress: true, allow: ['same-directory'] };
      await convert(at('disk.raw'), at('ours.qcow2'), { ...options, parent: at('base.raw'), parentFormat: 'raw' });
      await expectSound(qemuImg, at('ours.qcow2'));
      await rm(at('disk.raw'));
      await writeMixed(at('disk.raw'), SIZE, 14);
      await convert(at('disk.raw'), at('ours.qcow2'), { ...options, into: true, format: 'qcow2' });
      await expectSound(qemuImg, at('ours.qcow2'));
    });
  });
});

function configOf(options: string): Record<string, string> {
  return Object.fromEntries(options.split(',').map((pair) => pair.split('=') as [string, string]));
}

/** `disk.raw` and the image hold the same for both programs. */
async function expectSound(qemuImg: PeerProgram, image: string): Promise<void> {
  await qemuImg.run('check', '-q', '-f', 'qcow2', image);
  await qemuImg.run('compare', '-q', '-f', 'raw', '-F', 'qcow2', at('disk.raw'), image);
  await using ours = await openDisk(image, { allow: ['same-directory'] });
  await using raw = await openDisk(at('disk.raw'), { format: 'raw' });
  expect(await compare(ours, raw, { strict: true })).toMatchObject({ same: true, firstDifference: null });
}

/** Beside what QEMU makes of the same. A few sectors do not count. */
async function expectNoLarger(qemuImg: PeerProgram, options: string, method: string, factor: number): Promise<void> {
  const create = `${options}${method === 'zstd' ? ',compression_type=zstd' : ''}`;
  await qemuImg.run('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', create, at('disk.raw'), at('theirs.qcow2'));
  const [ours, theirs] = await Promise.all([stat(at('ours.qcow2')), stat(at('theirs.qcow2'))]);
  expect(ours.size).toBeLessThanOrEqual(theirs.size * factor + 8192);
}

async function change(qemuIo: PeerProgram, image: string): Promise<void> {
  const random = new Random(6);
  const commands: string[] = [];
  for (let n = 0; n < 20; n++) {
    const offset = random.below(SIZE / 512 - 200) * 512;
    commands.push('-c', `${n % 4 === 3 ? 'write -z' : 'write -P 7'} ${offset} ${(1 + random.below(100)) * 512}`);
  }
  await qemuIo.run('-f', 'qcow2', ...commands, image);
}

const TEXT = Buffer.from(Array.from({ length: 60_000 }, (_, n) => `line ${n * n} of a text\n`).join(''));

/** Text, noise, stored zeroes and holes, in pieces that do not keep to clusters. */
async function writeMixed(path: string, size: number, seed = 12): Promise<void> {
  const random = new Random(seed);
  const file = await open(path, 'wx');
  try {
    await file.truncate(size);
    for (let offset = 0; offset < size; offset += (1 + random.below(9)) * 37 * KIB) {
      const length = Math.min(1 + random.below(300 * KIB), size - offset);
      const kind = random.below(4);
      const bytes = kind === 0 ? randomBytes(random, length) : kind === 1 ? new Uint8Array(length) : TEXT;
      await file.write(bytes, 0, length, offset);
    }
  } finally {
    await file.close();
  }
}
