/** Internal snapshots of QCOW2 against QEMU: each works on what the other left, and finds it sound and the same. */
import { createHash } from 'node:crypto';
import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Disk, inspect } from '../../src/index.ts';
import { localFiles } from '../../src/storage/local/index.ts';
import { Random } from '../../src/testing/random.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { SnapshotModel } from '../model/snapshots.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';

const KIB = 1024;
const SIZE = 700 * KIB + 512;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(memoryFolder(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

/** Options of `qemu-img create`. */
const KINDS = [
  'cluster_size=512',
  'cluster_size=4096',
  'cluster_size=65536',
  'cluster_size=4096,refcount_bits=4',
  'cluster_size=512,refcount_bits=8',
  'cluster_size=4096,refcount_bits=64',
  'compat=0.10,cluster_size=512',
  'compat=0.10,cluster_size=4096',
  'extended_l2=on,cluster_size=16384',
  'cluster_size=4096,preallocation=metadata',
];

describe('qcow2 snapshots', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'beside qemu-img', (qemuImg, qemuIo) => {
    it.each(KINDS)('random work of both, %s', async (options) => {
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', options, at('disk.qcow2'), String(SIZE));
      await work(qemuImg, qemuIo, new Uint8Array(SIZE));
    });

    it.each(['cluster_size=512', 'cluster_size=4096,compression_type=zstd', 'extended_l2=on,cluster_size=16384'])(
      'random work of both on compressed clusters, %s',
      async (options) => {
        const content = mixed(SIZE);
        await writeFile(at('disk.raw'), content);
        const to = ['-O', 'qcow2', '-o', options, at('disk.raw'), at('disk.qcow2')];
        await qemuImg.run('convert', '-c', '-f', 'raw', ...to);
        await work(qemuImg, qemuIo, content);
      },
    );

    it('over a backing file', async () => {
      const content = mixed(SIZE);
      await writeFile(at('base.raw'), content);
      const over = ['-b', 'base.raw', '-F', 'raw', at('disk.qcow2'), String(SIZE)];
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4096', ...over);
      await work(qemuImg, qemuIo, content);
    });

    it('list, create, apply, delete and rename are what QEMU sees', async () => {
      const image = at('disk.qcow2');
      await qemuImg.run('create', '-q', '-f', 'qcow2', image, String(SIZE));
      const contents: Uint8Array[] = [];
      for (const [number, name] of ['one', 'two', 'three'].entries()) {
        await using disk = await Disk.open(image, { mode: 'write' });
        await disk.write(0, new Uint8Array(200_000).fill(number + 1));
        contents.push(new Uint8Array(200_000).fill(number + 1));
        await disk.snapshots.create(name);
      }
      await expectClean(qemuImg, image);
      const listed = await qemuImg.run('snapshot', '-l', image);
      for (const [number, name] of ['one', 'two', 'three'].entries()) {
        expect(listed).toMatch(new RegExp(`^${number + 1} +${name} `, 'm'));
      }
      await qemuImg.run('snapshot', '-a', 'two', image);
      await qemuImg.run('snapshot', '-d', 'three', image);
      {
        await using disk = await Disk.open(image, { mode: 'write' });
        const bytes = new Uint8Array(200_000);
        await disk.read(0, bytes);
        expect(Buffer.compare(bytes, contents[1] ?? bytes)).toBe(0);
        expect(disk.snapshots.list.map(({ id, name }) => [id, name])).toEqual([
          ['1', 'one'],
          ['2', 'two'],
        ]);
        await disk.snapshots.rename('two', 'zwei');
        await disk.snapshots.apply('one');
        await disk.snapshots.delete('1');
      }
      await expectClean(qemuImg, image);
      expect(await qemuImg.run('snapshot', '-l', image)).toMatch(/^2 +zwei /m);
      await qemuImg.run('snapshot', '-d', 'zwei', image);
      await expectClean(qemuImg, image);
    });

    it('an entry of the table is what QEMU writes', async () => {
      const images = [at('theirs.qcow2'), at('ours.qcow2')] as const;
      await qemuImg.run('create', '-q', '-f', 'qcow2', images[0], String(SIZE));
      await copyFile(...images);
      await qemuImg.run('snapshot', '-c', 'first', images[0]);
      const { snapshots } = await inspect(images[0]);
      {
        await using disk = await Disk.open(images[1], { mode: 'write' });
        await disk.snapshots.create('first', { createdMs: snapshots?.[0]?.createdMs ?? 0 });
      }
      const [theirs, ours] = await Promise.all(images.map(entryOf));
      // Where the L1 table lies, and the fraction of a second, are not the same. The count of instructions is "none" here;
      // QEMU writes that for machines, and qemu-img leaves it 0.
      for (const entry of [theirs, ours]) entry?.fill(0, 0, 8).fill(0, 20, 24).fill(0, 56, 64);
      expect(ours).toEqual(theirs);
    });

    it('a snapshot of another size, there and back', async () => {
      const image = at('disk.qcow2');
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', image, String(SIZE));
      await session(image, (disk) => disk.snapshots.create('small'));
      await qemuImg.run('resize', '-q', image, String(SIZE * 3));
      await session(image, async (disk) => {
        await disk.write(SIZE * 3 - 1024, new Uint8Array(1024).fill(5));
        await disk.snapshots.create('large');
        await disk.snapshots.apply('small');
        expect(disk.size).toBe(SIZE);
        await disk.write(0, new Uint8Array(1024).fill(6));
      });
      await expectClean(qemuImg, image);
      await session(image, async (disk) => {
        await disk.snapshots.apply('large');
        expect(disk.size).toBe(SIZE * 3);
        const bytes = new Uint8Array(1024);
        await disk.read(SIZE * 3 - 1024, bytes);
        expect(bytes).toEqual(new Uint8Array(1024).fill(5));
      });
      await expectClean(qemuImg, image);
    });
  });
});

/** Sessions of vdkit and of QEMU's programs on the same image, in turns. */
async function work(qemuImg: PeerProgram, qemuIo: PeerProgram, content: Uint8Array): Promise<void> {
  const image = at('disk.qcow2');
  const random = new Random(content.length + (content[0] ?? 0));
  const model = new SnapshotModel({ provider: localFiles(), name: image }, content, random);
  for (let round = 0; round < rounds(2, 12); round++) {
    await model.session(20);
    await expectClean(qemuImg, image);
    await expectSnapshots(qemuImg, model);
    const name = `theirs ${round}`;
    await qemuImg.run('snapshot', '-c', name, image);
    model.kept.set(name, model.active.slice());
    const [first] = model.kept.keys();
    if (round % 2 === 1 && first !== undefined) {
      await qemuImg.run('snapshot', '-a', first, image);
      model.active = model.kept.get(first)?.slice() ?? model.active;
      await qemuImg.run('snapshot', '-d', first, image);
      model.kept.delete(first);
    }
    const offset = random.below(model.active.length / 512 - 8) * 512;
    await qemuIo.run('-f', 'qcow2', '-c', `write -q -P 77 ${offset} 4096`, image);
    model.active.fill(77, offset, offset + 4096);
    await model.expectAll();
  }
  await expectClean(qemuImg, image);
}

/** Exit status 0: neither errors nor leaks. */
async function expectClean(qemuImg: PeerProgram, image: string): Promise<void> {
  await qemuImg.run('check', '-q', '-f', 'qcow2', image);
}

/** QEMU reads the disk and every snapshot as they must be. */
async function expectSnapshots(qemuImg: PeerProgram, { active, kept }: SnapshotModel): Promise<void> {
  for (const [name, bytes] of [[null, active] as const, ...kept]) {
    const which = name === null ? [] : ['-l', `snapshot.name=${name}`];
    await qemuImg.run('convert', ...which, '-f', 'qcow2', '-O', 'raw', at('disk.qcow2'), at('read.raw'));
    if (name !== null) await truncate(at('read.raw'), bytes.length);
    expect(hash(await readFile(at('read.raw'))), name ?? 'the disk').toBe(hash(bytes));
  }
}

async function session(image: string, run: (disk: Disk) => Promise<unknown>): Promise<void> {
  await using disk = await Disk.open(image, { mode: 'write' });
  await run(disk);
}

/** The first entry of the snapshot table. */
async function entryOf(image: string): Promise<Uint8Array> {
  const file = await readFile(image);
  const offset = Number(file.readBigUInt64BE(64));
  const length = 40 + file.readUInt32BE(offset + 36) + file.readUInt16BE(offset + 12) + file.readUInt16BE(offset + 14);
  return Uint8Array.from(file.subarray(offset, offset + length));
}

function hash(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('hex');
}

/** Text that compresses, and noise that does not. */
function mixed(size: number): Uint8Array {
  const random = new Random(12);
  const content = new Uint8Array(size);
  for (let offset = 0; offset < size; offset += 40 * KIB) {
    const length = Math.min(30 * KIB, size - offset);
    if (random.below(3) === 0) content.set(randomBytes(random, length), offset);
    else for (let n = 0; n < length; n++) content[offset + n] = (n % 251) >> 3;
  }
  return content;
}
