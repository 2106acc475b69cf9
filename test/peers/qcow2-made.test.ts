/**
 * QCOW2 images of every option, both ways: made by one program, written by the other, and found sound, with the same
 * content and the same map, run by run, by both. On the command line, as people do it.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Disk } from '../../src/index.ts';
import { Random } from '../../src/testing/random.ts';
import { runCli } from '../cli/run-cli.ts';
import { oneIn, randomBytes } from '../conformance/random.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';
import { expectSameMap, type QemuRun } from './qemu-map.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** The last cluster is not whole. */
const SIZE = 5 * MIB + 3 * 512;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

const KINDS = [
  ...Array.from({ length: 13 }, (_, index) => `cluster_size=${2 ** (9 + index)}`),
  'compat=0.10,cluster_size=4096',
  ...[1, 2, 4, 8, 32, 64].map((bits) => `refcount_bits=${bits},cluster_size=512`),
  'lazy_refcounts=on',
  'compression_type=zstd',
  ...['metadata', 'falloc', 'full'].map((how) => `preallocation=${how}`),
  'extended_l2=on,cluster_size=16384',
  'extended_l2=on,cluster_size=2097152',
  'extended_l2=on,preallocation=metadata',
  'data_file=data.raw',
  'data_file=data.raw,extended_l2=on',
  'data_file=data.raw,data_file_raw=on',
];
const PARENTED = ['cluster_size=512', 'cluster_size=65536', 'compat=0.10', 'extended_l2=on', 'data_file=data.raw'];

describe('qcow2 of every option', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'both ways', (qemuImg, qemuIo) => {
    const image = (): string => at('disk.qcow2');
    /** QEMU looks for data files from where it runs. */
    const opened = (options: string): string[] => {
      const data = options.includes('data_file') ? `,data-file.driver=file,data-file.filename=${at('data.raw')}` : '';
      return ['--image-opts', `driver=qcow2,file.driver=file,file.filename=${image()}${data}`];
    };
    const wanted = new Uint8Array(SIZE);
    const both = async (options: string): Promise<void> => {
      await expectBoth(qemuImg, opened(options), image(), wanted);
    };
    const work = async (options: string): Promise<void> => {
      await writeOurs(image(), wanted, 1);
      await both(options);
      await writeTheirs(qemuIo, opened(options), wanted, 2);
      await writeOurs(image(), wanted, 3);
      await both(options);
    };

    it.each(oneIn(2, KINDS))('made by vdkit, %s', async (options) => {
      wanted.fill(0);
      const pairs = options.split(',').flatMap((pair) => ['--option', pair]);
      await vdkit('create', image(), String(SIZE), ...pairs);
      await expectOptions(qemuImg, opened(options), options);
      await work(options);
    });

    it.each(oneIn(2, KINDS, 1))('made by QEMU, %s', async (options) => {
      wanted.fill(0);
      const absolute = options.replace('data.raw', at('data.raw'));
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', absolute, image(), String(SIZE));
      await work(options);
    });

    it.each(PARENTED)('over a backing file, made by either, %s', async (options) => {
      const base = randomBytes(new Random(9), SIZE);
      base.fill(0, MIB, 2 * MIB);
      for (const maker of ['vdkit', 'QEMU']) {
        await rm(at('base.qcow2'), { force: true });
        await vdkit('create', at('base.qcow2'), String(SIZE));
        {
          await using disk = await Disk.open(at('base.qcow2'), { mode: 'write' });
          await disk.write(0, base);
        }
        wanted.set(base);
        if (maker === 'vdkit') {
          const pairs = options.split(',').flatMap((pair) => ['--option', pair]);
          await vdkit('create', image(), '--parent', at('base.qcow2'), ...pairs);
        } else {
          const absolute = options.replace('data.raw', at('data.raw'));
          const over = ['-b', 'base.qcow2', '-F', 'qcow2'];
          await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', absolute, ...over, image(), String(SIZE));
        }
        await both(options);
        await work(options);
        await rm(image());
        await rm(at('data.raw'), { force: true });
      }
    });
  });
});

async function vdkit(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCli(words);
  expect(status, stderr).toBe(0);
  return stdout;
}

/** QEMU's report on an image created by vdkit. */
async function expectOptions(qemuImg: PeerProgram, opened: readonly string[], options: string): Promise<void> {
  const info = JSON.parse(await qemuImg.run('info', '--output=json', ...opened));
  const { data } = info['format-specific'];
  const said: Record<string, unknown> = {
    cluster_size: info['cluster-size'],
    compat: data.compat,
    refcount_bits: data['refcount-bits'],
    lazy_refcounts: data['lazy-refcounts'] === true ? 'on' : 'off',
    compression_type: data['compression-type'],
    extended_l2: data['extended-l2'] === true ? 'on' : 'off',
    data_file: data['data-file'],
    data_file_raw: data['data-file-raw'] === true ? 'on' : 'off',
  };
  for (const pair of options.split(',')) {
    const [key = '', value = ''] = pair.split('=');
    if (key !== 'preallocation') expect(String(said[key]), key).toBe(value);
  }
}

/** Sound, the same content, and the same map for both. */
async function expectBoth(
  qemuImg: PeerProgram,
  opened: readonly string[],
  image: string,
  wanted: Uint8Array,
): Promise<void> {
  await qemuImg.run('check', '-q', ...opened);
  await vdkit('check', image);
  const raw = `${image}.raw`;
  for (const convert of [
    () => qemuImg.run('convert', '-O', 'raw', ...opened, raw),
    () => vdkit('convert', image, raw, '--force', '--allow', join(image, '..')),
  ]) {
    await convert();
    await using found = await Disk.open(raw, { format: 'raw' });
    const bytes = new Uint8Array(found.size);
    await found.read(0, bytes);
    expect(Buffer.compare(bytes, wanted)).toBe(0);
  }
  await rm(raw);
  const theirs: QemuRun[] = JSON.parse(await qemuImg.run('map', '--output=json', ...opened));
  const { extents } = JSON.parse(await vdkit('map', image, '--json'));
  expectSameMap(extents, theirs);
}

async function writeOurs(image: string, wanted: Uint8Array, seed: number): Promise<void> {
  const random = new Random(seed);
  const allow = ['same-directory', join(image, '..', 'data.raw')];
  await using disk = await Disk.open(image, { mode: 'write', allow });
  for (let n = 0; n < 20; n++) {
    const offset = random.below(SIZE - 512);
    const length = Math.min(1 + random.below(n % 4 === 0 ? 600_000 : 9000), SIZE - offset);
    if (n % 5 === 4) {
      await disk.zero(offset, length);
      wanted.fill(0, offset, offset + length);
    } else {
      const bytes = randomBytes(random, length);
      await disk.write(offset, bytes);
      wanted.set(bytes, offset);
    }
  }
}

async function writeTheirs(
  qemuIo: PeerProgram,
  opened: readonly string[],
  wanted: Uint8Array,
  seed: number,
): Promise<void> {
  const random = new Random(seed + 100);
  const commands: string[] = [];
  for (let n = 0; n < 16; n++) {
    const offset = random.below(SIZE / 512 - 1) * 512;
    const length = Math.min((1 + random.below(n % 4 === 0 ? 1000 : 20)) * 512, SIZE - offset);
    const zero = n % 5 === 4;
    commands.push('-c', `write -q ${zero ? '-z' : `-P ${n + 1}`} ${offset} ${length}`);
    wanted.fill(zero ? 0 : n + 1, offset, offset + length);
  }
  await qemuIo.run(...commands, ...opened);
}
