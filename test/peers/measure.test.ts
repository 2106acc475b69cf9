/** `vdkit measure` against what `vdkit convert` then writes, for every target, and against `qemu-img measure`. */
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Measure } from '../../src/image/contract.ts';
import { Disk } from '../../src/index.ts';
import { Random } from '../../src/testing/random.ts';
import { runCli } from '../cli/run-cli.ts';
import { randomBytes } from '../conformance/random.ts';
import { describeWithPeers } from './peers.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** The last unit is never whole. */
const SIZE = 24 * MIB + 3 * 512;

let folder: string;
const at = (name: string): string => join(folder, name);

/** Names of sources, and their formats. */
const SOURCES = [
  ['some.raw', 'raw'],
  ['all.raw', 'raw'],
  ['none.raw', 'raw'],
  ['some.qcow2', 'qcow2'],
] as const;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-measure-'));
  const random = new Random(4);
  // What is stored is never zero: measuring does not read it.
  const noise = randomBytes(random, MIB).map((byte) => byte | 1);
  for (const [name] of SOURCES.slice(0, 3)) {
    const file = await open(at(name), 'wx');
    await file.truncate(SIZE);
    for (let offset = 0; offset < SIZE && name !== 'none.raw'; ) {
      const length = Math.min(name === 'all.raw' ? MIB : 4 * KIB * (1 + random.below(200)), SIZE - offset);
      await file.write(noise, 0, length, offset);
      offset += length + (name === 'all.raw' ? 0 : 4 * KIB * (1 + random.below(900)));
    }
    await file.close();
  }
  await vdkit('convert', at('some.raw'), at('some.qcow2'), '--format', 'raw', '--option', 'cluster_size=4096');
  await using disk = await Disk.open(at('some.qcow2'), { mode: 'write' });
  await disk.snapshots.create('before');
  await disk.write(0, noise);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function vdkit(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCli(words);
  expect(status, stderr).toBe(0);
  return stdout;
}

/** Format of the target, and how it is made: a variant, and config keys. */
const TARGETS: readonly (readonly [format: string, variant: string | null, options: string])[] = [
  ['raw', null, ''],
  ['raw', 'fixed', ''],
  ['vdi', null, ''],
  ['vdi', 'fixed', ''],
  ['vdi', null, 'AllocationBlockSize=65536'],
  ['qcow2', null, ''],
  ...[512, 1024, 4096, 16_384, 262_144, 2_097_152].map((size) => ['qcow2', null, `cluster_size=${size}`] as const),
  ...[1, 8, 64].map((bits) => ['qcow2', null, `cluster_size=512,refcount_bits=${bits}`] as const),
  ['qcow2', null, 'compat=0.10'],
  ['qcow2', null, 'extended_l2=on'],
  ['qcow2', null, 'extended_l2=on,cluster_size=16384'],
  ['qcow2', null, 'lazy_refcounts=on,compression_type=zstd'],
  ...['metadata', 'falloc', 'full'].map((how) => ['qcow2', null, `preallocation=${how}`] as const),
  ['qcow2', null, 'preallocation=metadata,cluster_size=512,refcount_bits=64'],
  ['qcow2', null, 'preallocation=metadata,extended_l2=on'],
  ['qcow2', null, 'data_file=data.raw'],
  ['qcow2', null, 'data_file=data.raw,data_file_raw=on'],
  ['qcow2', null, 'data_file=data.raw,preallocation=metadata,cluster_size=4096'],
];

/** Within 1 %, or a unit of the target. */
function expectClose(measured: number, real: number, unit: number, what: string): void {
  expect(Math.abs(measured - real), `${what}: ${measured} for ${real}`).toBeLessThanOrEqual(Math.max(real / 100, unit));
}

/** Bytes of an allocation unit. */
function unitOf(options: string): number {
  return Number(/(?:cluster_size|AllocationBlockSize)=(\d+)/.exec(options)?.[1] ?? 65_536);
}

async function measured(...words: string[]): Promise<Measure> {
  return JSON.parse(await vdkit('measure', '--json', ...words));
}

describe('measure', () => {
  describe.each(TARGETS)('%s %s %s', (format, variant, options) => {
    const words = [
      ...(variant === null ? [] : ['--variant', variant]),
      ...(options === '' ? [] : options.split(',').flatMap((pair) => ['--option', pair])),
    ];
    it.each(SOURCES)('of %s is what convert writes', async (source, sourceFormat) => {
      const target = at(`target.${format}`);
      const { required, fullyAllocated } = await measured(
        at(source),
        '--to',
        format,
        '--format',
        sourceFormat,
        ...words,
      );
      await vdkit('convert', at(source), target, '--force', '--format', sourceFormat, ...words);
      const { size, blocks } = await stat(target);
      // A sparse raw file has the size of the disk whatever it holds.
      const real = format === 'raw' && variant === null ? blocks * 512 : size;
      expectClose(required, real, unitOf(options), 'required');
      if (source === 'all.raw') expectClose(fullyAllocated, size, unitOf(options), 'fully allocated');
      await rm(target);
      await rm(at('data.raw'), { force: true });
    });
  });

  it('of a snapshot inside an image is what convert makes of that', async () => {
    for (const snapshot of [['--snapshot', 'before'], []]) {
      const { required } = await measured(at('some.qcow2'), '--to', 'qcow2', ...snapshot);
      await vdkit('convert', at('some.qcow2'), at('target.qcow2'), ...snapshot);
      expectClose(required, (await stat(at('target.qcow2'))).size, 65_536, 'required');
      await rm(at('target.qcow2'));
    }
    const [then, now] = await Promise.all([
      measured(at('some.qcow2'), '--to', 'qcow2', '--snapshot', 'before'),
      measured(at('some.qcow2'), '--to', 'qcow2'),
    ]);
    expect(then.required).toBeLessThan(now.required);
  });

  describeWithPeers(['qemu-img'], 'beside qemu-img', (qemuImg) => {
    const theirs = TARGETS.filter(([format, variant]) => format !== 'vdi' && variant === null);
    it.each(theirs)('%s %s %s', async (format, _variant, options) => {
      const config = options === '' ? [] : ['-o', options.replace('data.raw', at('data.raw'))];
      const pairs = options === '' ? [] : options.split(',').flatMap((pair) => ['--option', pair]);
      for (const [source, sourceFormat] of SOURCES) {
        const args = ['measure', '--output=json', '-f', sourceFormat, '-O', format, ...config, at(source)];
        const { required, 'fully-allocated': full } = JSON.parse(await qemuImg.run(...args));
        const ours = await measured(at(source), '--to', format, '--format', sourceFormat, ...pairs);
        // QEMU counts the tables of the whole disk in any case, and data that lies in a file of its own.
        const data = options.includes('data_file') ? SIZE : 0;
        // With room for metadata only it counts what the medium holds at first, and vdkit how long the file is.
        const most = options.includes('preallocation=metadata') ? full : required;
        expect(ours.required, `${source}: required`).toBeLessThanOrEqual(most * 1.01 + unitOf(options));
        expectClose(ours.fullyAllocated + data, full, 2 * unitOf(options), `${source}: fully allocated`);
      }
    });
  });
});
