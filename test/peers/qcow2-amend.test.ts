/** Amended QCOW2 images against QEMU: sound for it, with the same content, and the same things said as where it did it. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { amendImage, compare, Disk } from '../../src/index.ts';
import { oneIn } from '../conformance/random.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

interface Case {
  readonly name: string;
  /** Options of the image, for QEMU. */
  readonly made: string;
  readonly base?: boolean;
  readonly snapshots?: number;
  /** QEMU takes minutes for the same. */
  readonly alone?: boolean;
  /** Options requested from both programs. */
  readonly asked: Readonly<Record<string, string | number>>;
}

const WIDTHS = [1, 2, 4, 8, 16, 32, 64];

const CASES: readonly Case[] = [
  ...WIDTHS.map((bits) => ({
    name: `refcounts of ${bits} bits`,
    // QEMU takes seconds for narrow ones in large clusters.
    made: `cluster_size=${bits === 64 ? 65_536 : 4096},refcount_bits=${bits === 16 ? 64 : 16}`,
    asked: { refcount_bits: bits },
  })),
  { name: 'other refcounts, small clusters', made: 'cluster_size=512', asked: { refcount_bits: 64 } },
  { name: 'other refcounts, large clusters', made: 'cluster_size=2M', asked: { refcount_bits: 1 }, alone: true },
  { name: 'other refcounts, snapshots', made: 'cluster_size=4096', snapshots: 3, asked: { refcount_bits: 4 } },
  { name: 'lazy refcounts', made: 'lazy_refcounts=off', asked: { lazy_refcounts: 'on' } },
  { name: 'no lazy refcounts', made: 'lazy_refcounts=on', asked: { lazy_refcounts: 'off' } },
  { name: 'version 3', made: 'compat=0.10', asked: { compat: '1.1' } },
  { name: 'version 3, small clusters', made: 'compat=0.10,cluster_size=512', asked: { compat: 'v3' } },
  {
    name: 'version 3, a backing file',
    made: 'compat=0.10',
    base: true,
    asked: { compat: '1.1', lazy_refcounts: 'on' },
  },
  {
    name: 'version 3 with wide refcounts',
    made: 'compat=0.10',
    snapshots: 2,
    asked: { compat: '1.1', refcount_bits: 64 },
  },
  { name: 'version 2', made: 'lazy_refcounts=on', asked: { compat: '0.10' } },
  { name: 'version 2, small clusters', made: 'cluster_size=512', asked: { compat: '0.10' } },
  { name: 'version 2, a backing file', made: 'cluster_size=4096', base: true, asked: { compat: 'v2' } },
  { name: 'version 2, snapshots', made: 'cluster_size=4096', snapshots: 2, asked: { compat: '0.10' } },
  {
    name: 'version 2, snapshots over a backing file',
    made: 'cluster_size=4096',
    base: true,
    snapshots: 2,
    asked: { compat: '0.10' },
  },
  { name: 'version 2 with narrower refcounts', made: 'refcount_bits=64', asked: { compat: '0.10', refcount_bits: 16 } },
  { name: 'version 2, zstd without compressed clusters', made: 'compression_type=zstd', asked: { compat: '0.10' } },
];

describe('qcow2 amend', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'beside qemu-img', (qemuImg, qemuIo) => {
    it.each(oneIn(3, CASES))('$name', async ({ made, base, snapshots = 0, asked, alone }) => {
      const image = at('disk.qcow2');
      const over = base === true ? ['-b', 'base.qcow2', '-F', 'qcow2'] : [];
      await makeBase(qemuImg, qemuIo);
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', made, ...over, image, '8M');
      const fill = async (seed: number): Promise<void> => {
        const [one, other] = [(seed * 700) % 4000, (seed * 900) % 5000];
        await qemuIo.run(
          ...[
            '-f',
            'qcow2',
            '-c',
            `write -q -P ${seed + 1} ${one}k 600k`,
            '-c',
            `write -q -P ${seed + 9} ${other}k 8k`,
          ],
          ...['-c', `write -q -z ${one + 64}k 128k`, '-c', `write -q -z -u 7M 64k`, '-c', `write -q -z ${other}k 256k`],
          image,
        );
      };
      await fill(1);
      for (let n = 0; n < snapshots; n++) {
        await qemuImg.run('snapshot', '-c', `s${n}`, image);
        await fill(n + 2);
      }
      const [before, theirs] = [at('before.qcow2'), at('theirs.qcow2')];
      await copyFile(image, before);
      await copyFile(image, theirs);
      await amendImage(image, asked, { allow: ['same-directory'] });
      const words = Object.entries(asked).map(([key, value]) => `${key}=${value}`);
      await qemuImg.run('check', '-q', '-f', 'qcow2', image);
      if (alone !== true) {
        await qemuImg.run('amend', '-q', '-f', 'qcow2', '-o', words.join(','), theirs);
        expect(await saidOf(qemuImg, image)).toEqual(await saidOf(qemuImg, theirs));
      }
      await qemuImg.run('compare', '-q', '-f', 'qcow2', '-F', 'qcow2', before, image);
      await expectSame(before, image, snapshots);
      // It goes on as any other image.
      await qemuIo.run('-f', 'qcow2', '-c', 'write -q -P 77 3M 1M', '-c', 'write -q -P 78 0 64k', image);
      await qemuImg.run('check', '-q', '-f', 'qcow2', image);
      await expectSame(before, image, snapshots, true);
    });

    it('a data file of another name, which need not be raw any more', async () => {
      const image = at('disk.qcow2');
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', `data_file=${at('a.raw')},data_file_raw=on`, image, '1M');
      await copyFile(at('a.raw'), at('b.raw'));
      await copyFile(image, at('theirs.qcow2'));
      const asked = `data_file=${at('b.raw')},data_file_raw=off`;
      await amendImage(image, { data_file: at('b.raw'), data_file_raw: 'off' });
      await qemuImg.run('amend', '-q', '-f', 'qcow2', '-o', asked, at('theirs.qcow2'));
      expect(await saidOf(qemuImg, image)).toEqual(await saidOf(qemuImg, at('theirs.qcow2')));
      await qemuImg.run('check', '-q', '-f', 'qcow2', image);
    });

    it('another backing file, as an unsafe rebase of QEMU makes it', async () => {
      const image = at('disk.qcow2');
      await makeBase(qemuImg, qemuIo);
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', image);
      await copyFile(at('base.qcow2'), at('other.qcow2'));
      await copyFile(image, at('theirs.qcow2'));
      await amendImage(image, { backing_file: 'other.qcow2', backing_fmt: 'qcow2' });
      await qemuImg.run('rebase', '-q', '-u', '-f', 'qcow2', '-b', 'other.qcow2', '-F', 'qcow2', at('theirs.qcow2'));
      expect(await saidOf(qemuImg, image)).toEqual(await saidOf(qemuImg, at('theirs.qcow2')));
      await qemuImg.run('check', '-q', '-f', 'qcow2', image);
      await amendImage(image, { backing_file: '' });
      await qemuImg.run('rebase', '-q', '-u', '-f', 'qcow2', '-b', '', at('theirs.qcow2'));
      expect(await saidOf(qemuImg, image)).toEqual(await saidOf(qemuImg, at('theirs.qcow2')));
    });
  });
});

async function makeBase(qemuImg: PeerProgram, qemuIo: PeerProgram): Promise<void> {
  await qemuImg.run('create', '-q', '-f', 'qcow2', at('base.qcow2'), '8M');
  await qemuIo.run('-f', 'qcow2', '-c', 'write -q -P 99 0 7M', at('base.qcow2'));
}

/** All but where the file is and how large it is. */
async function saidOf(qemuImg: PeerProgram, image: string): Promise<unknown> {
  const info = JSON.parse(await qemuImg.run('info', '--output=json', '-f', 'qcow2', image));
  const { filename: _name, 'actual-size': _size, ...rest } = info;
  return rest;
}

async function expectSame(before: string, image: string, snapshots: number, onlySnapshots = false): Promise<void> {
  const names = Array.from({ length: snapshots }, (_, n) => `s${n}`);
  for (const snapshot of onlySnapshots ? names : [undefined, ...names]) {
    const how = { allow: ['same-directory'], ...(snapshot === undefined ? {} : { snapshot }) };
    await using one = await Disk.open(before, how);
    await using other = await Disk.open(image, how);
    expect(await compare(one, other), snapshot).toMatchObject({ same: true });
  }
}
