/** QCOW2 by QEMU beyond the ways of the kit: chains, snapshots, bitmaps and compressed data, read as QEMU does. */
import { open, truncate } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { DiskOpenOptions } from '../../src/disk/options.ts';
import { compare } from '../../src/operations/compare-images.ts';
import { convert } from '../../src/operations/convert.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import { Random } from '../../src/testing/random.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { oneIn, randomBytes } from '../conformance/random.ts';
import { way } from '../formats/peer-kit.ts';
import { qemuKit } from '../formats/qcow2/peers.ts';
import { expectSameDisk, formatOf, useFolder } from './both-sides.ts';
import { randomChanges } from './changes.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';
import { writeByQemu } from './qemu.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Many clusters of each size, the last one not whole. */
const SIZE = 8 * MIB + 3 * 512;
const ALLOWED: DiskOpenOptions = { allow: ['same-directory'] };

const at = useFolder();

const CLUSTERS = Array.from({ length: 13 }, (_, index) => 2 ** (9 + index));

describe('qcow2', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'written by qemu-io', (qemuImg, qemuIo) => {
    it.each(oneIn(2, ['compat=1.1', 'compat=0.10', 'cluster_size=512', 'extended_l2=on'], 1))(
      'a chain of three, %s',
      async (options) => {
        await qemuImg.run('create', '-q', '-f', 'raw', at('base.raw'), String(SIZE - MIB));
        await change(qemuIo, at('base.raw'), 2, 'raw', SIZE - MIB);
        const create = ['create', '-q', '-f', 'qcow2', '-o', options];
        await qemuImg.run(...create, '-b', 'base.raw', '-F', 'raw', at('middle.qcow2'), String(SIZE - 512));
        await change(qemuIo, at('middle.qcow2'), 3, 'qcow2', SIZE - 512);
        await qemuImg.run(...create, '-b', 'middle.qcow2', '-F', 'qcow2', at('disk.qcow2'), String(SIZE));
        await change(qemuIo, at('disk.qcow2'), 4);
        await expectSame(qemuImg, at('disk.qcow2'));
        await using disk = await openDisk(at('disk.qcow2'), ALLOWED);
        expect(disk.images.map(({ format }) => format)).toEqual(['raw', 'qcow2', 'qcow2']);
      },
    );

    it('over a compressed parent', async () => {
      await writeMixed(at('base.raw'), SIZE);
      await qemuImg.run('convert', '-c', '-f', 'raw', '-O', 'qcow2', at('base.raw'), at('base.qcow2'));
      const create = ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2'];
      await qemuImg.run(...create, at('disk.qcow2'), String(SIZE + MIB));
      await change(qemuIo, at('disk.qcow2'), 5);
      await expectSame(qemuImg, at('disk.qcow2'));
    });

    it.each(['compat=1.1', 'compat=0.10', 'extended_l2=on,cluster_size=16384'])('snapshots, %s', async (options) => {
      const image = at('disk.qcow2');
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', options, image, String(SIZE));
      for (const [round, name] of ['first', 'second'].entries()) {
        await change(qemuIo, image, 6 + round);
        await qemuImg.run('snapshot', '-c', name, image);
      }
      if (!options.includes('0.10')) await qemuImg.run('resize', '-q', image, String(SIZE + 5 * MIB));
      await change(qemuIo, image, 8);
      await expectSame(qemuImg, image);
      const { snapshots } = await inspect(image);
      expect(snapshots?.map(({ id, name, virtualSize }) => [id, name, virtualSize])).toEqual([
        ['1', 'first', SIZE],
        ['2', 'second', SIZE],
      ]);
      expect(Math.abs(Date.now() - (snapshots?.[0]?.createdMs ?? 0))).toBeLessThan(600_000);
      for (const name of ['first', 'second']) {
        const wanted = at(`${name}.raw`);
        await qemuImg.run('convert', '-l', `snapshot.name=${name}`, '-f', 'qcow2', '-O', 'raw', image, wanted);
        // It copies as many bytes as the disk has now.
        await truncate(wanted, SIZE);
        await using disk = await openDisk(image, { snapshot: name });
        await expectContent(disk, wanted);
      }
      await expectKind(() => openDisk(image, { snapshot: 'third' }), 'not-found');
    });

    it('bitmaps', async () => {
      const image = at('disk.qcow2');
      await qemuImg.run('create', '-q', '-f', 'qcow2', image, String(SIZE));
      await qemuImg.run('bitmap', '--add', '-g', '32768', image, 'one');
      await qemuImg.run('bitmap', '--add', '--disable', image, 'two');
      await change(qemuIo, image, 9);
      expect((await inspect(image)).bitmaps).toEqual([
        { name: 'one', granularity: 32_768, enabled: true, inconsistent: false },
        { name: 'two', granularity: 65_536, enabled: false, inconsistent: false },
      ]);
      await expectSame(qemuImg, image);
    });
  });

  describeWithPeers(['qemu-img'], 'converted by qemu-img', (qemuImg) => {
    const zlib = CLUSTERS.map((size) => `cluster_size=${size}`);
    const kinds = [...oneIn(4, zlib), ...oneIn(4, zlib, 2).map((options) => `${options},compression_type=zstd`)];
    it.each([...kinds, 'compat=0.10', 'extended_l2=on', 'extended_l2=on,compression_type=zstd'])(
      'compressed, %s',
      async (options) => {
        await writeMixed(at('disk.raw'), SIZE);
        const to = ['-O', 'qcow2', '-o', options];
        await qemuImg.run('convert', '-c', '-f', 'raw', ...to, at('disk.raw'), at('disk.qcow2'));
        await expectSame(qemuImg, at('disk.qcow2'));
        await using disk = await openDisk(at('disk.qcow2'));
        await expectContent(disk, at('disk.raw'));
        await expectSmallReads(disk, at('disk.raw'));
      },
    );

    it('and by vdkit back to raw', async () => {
      await writeMixed(at('disk.raw'), SIZE);
      await qemuImg.run('convert', '-c', '-f', 'raw', '-O', 'qcow2', at('disk.raw'), at('disk.qcow2'));
      await convert(at('disk.qcow2'), at('back.raw'), { format: 'raw' });
      expect(await qemuImg.run('compare', '-f', 'raw', '-F', 'raw', at('disk.raw'), at('back.raw'))).toContain(
        'identical',
      );
    });

    it('encrypted is known but refused', async () => {
      const secret = ['--object', 'secret,id=s,data=secret'];
      const options = 'encrypt.format=aes,encrypt.key-secret=s';
      await qemuImg.run('create', '-q', ...secret, '-f', 'qcow2', '-o', options, at('disk.qcow2'), String(MIB));
      expect((await inspect(at('disk.qcow2'))).variant).toContain('encrypted-aes');
      await expectKind(() => openDisk(at('disk.qcow2')), 'unsupported');
    });
  });
});

function change(qemuIo: PeerProgram, image: string, seed: number, format = 'qcow2', size = SIZE): Promise<void> {
  return writeByQemu(qemuIo, ['-f', format, image], randomChanges(seed, size));
}

const TEXT = Uint8Array.from({ length: 300 * KIB }, (_, index) => (index % 251) >> 3);

/** Text that compresses, noise that does not, and holes between. */
async function writeMixed(path: string, size: number): Promise<void> {
  const random = new Random(12);
  const file = await open(path, 'wx');
  try {
    await file.truncate(size);
    for (let offset = 0; offset < size; offset += (1 + random.below(9)) * 37 * KIB) {
      const length = Math.min(1 + random.below(300 * KIB), size - offset);
      const noise = random.below(3) === 0;
      await file.write(noise ? randomBytes(random, length) : TEXT, 0, length, offset);
    }
  } finally {
    await file.close();
  }
}

/** Content, size and map are what QEMU finds. */
async function expectSame(qemuImg: PeerProgram, path: string): Promise<void> {
  const [image, peer] = [{ path, way: way('') }, qemuKit.start(qemuImg)];
  await peer.toRaw?.(image, at('expected.raw'));
  await expectSameDisk({ format: formatOf('qcow2'), peer }, image, at('expected.raw'));
}

async function expectContent(disk: ChainDisk, raw: string): Promise<void> {
  await using wanted = await openDisk(raw, { format: 'raw' });
  expect(await compare(disk, wanted, { strict: true })).toMatchObject({ same: true, firstDifference: null });
  // Compare asks the map first; this does not.
  for (let offset = 0; offset < disk.size; offset += MIB) {
    const [a, b] = [
      new Uint8Array(Math.min(MIB, disk.size - offset)),
      new Uint8Array(Math.min(MIB, disk.size - offset)),
    ];
    await Promise.all([disk.read(offset, a), wanted.read(offset, b)]);
    expect(Buffer.compare(a, b), `the MiB at ${offset}`).toBe(0);
  }
}

/** Parts of clusters, and parts of several. */
async function expectSmallReads(disk: ChainDisk, raw: string): Promise<void> {
  await using wanted = await openDisk(raw, { format: 'raw' });
  const random = new Random(13);
  const reads = Array.from({ length: 60 }, async () => {
    const offset = random.below(disk.size - 1);
    const length = Math.min(1 + random.below(200_000), disk.size - offset);
    const [a, b] = [new Uint8Array(length), new Uint8Array(length)];
    const half = random.below(length);
    await Promise.all([disk.read(offset, [a.subarray(0, half), a.subarray(half)]), wanted.read(offset, b)]);
    expect(Buffer.compare(a, b), `${length} bytes at ${offset}`).toBe(0);
  });
  await Promise.all(reads);
}
