/**
 * Known traps of QCOW2 for readers and writers. Each image is QEMU's own, or one that it may meet; vdkit reads it as
 * QEMU does, writes to it, and QEMU finds it sound afterwards.
 */
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Disk, inspect } from '../../src/index.ts';
import { Random } from '../../src/testing/random.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { randomBytes } from '../conformance/random.ts';
import { describeWithPeers } from './peers.ts';

const KIB = 1024;
const CLUSTER = 4 * KIB;
const SIZE = 256 * KIB;
const COPIED = 1n << 63n;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-traps-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const image = (): string => at('disk.qcow2');

async function patch(change: (bytes: Buffer, l2: number, l1: number) => void): Promise<void> {
  const bytes = await readFile(image());
  const l1 = Number(bytes.readBigUInt64BE(40));
  const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
  change(bytes, l2, l1);
  await writeFile(image(), bytes);
}

async function entryAt(index: number): Promise<bigint> {
  let entry = 0n;
  await patch((bytes, l2) => {
    entry = bytes.readBigUInt64BE(l2 + index * 8);
  });
  return entry;
}

async function contentOf(snapshot?: string): Promise<Buffer> {
  const how = snapshot === undefined ? {} : { snapshot };
  await using disk = await Disk.open(image(), { allow: ['same-directory'], ...how });
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** Changes a byte of each cluster in the range, and of no other. */
async function touch(from: number, to: number): Promise<void> {
  await using disk = await Disk.open(image(), { mode: 'write', allow: ['same-directory'] });
  for (let offset = from; offset < to; offset += CLUSTER) await disk.write(offset + 100, Uint8Array.of(0xee));
}

describe('qcow2', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'known traps', (qemuImg, qemuIo) => {
    const create = async (options = '', ...over: string[]): Promise<void> => {
      const config = `cluster_size=${CLUSTER}${options}`;
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', config, ...over, image(), String(SIZE));
    };
    const io = (...commands: string[]) =>
      qemuIo.run('-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((one) => ['-c', one]), image());
    const clean = () => qemuImg.run('check', '-q', '-f', 'qcow2', image());
    const theirs = async (): Promise<Buffer> => {
      await qemuImg.run('convert', '-f', 'qcow2', '-O', 'raw', image(), at('read.raw'));
      return readFile(at('read.raw'));
    };
    /** Both read `wanted`; then vdkit writes, and both read that. */
    const expectSame = async (wanted: Buffer, from: number, to: number): Promise<void> => {
      expect(Buffer.compare(await contentOf(), wanted), 'read by vdkit').toBe(0);
      await touch(from, to);
      for (let offset = from; offset < to; offset += CLUSTER) wanted[offset + 100] = 0xee;
      expect(Buffer.compare(await contentOf(), wanted), 'read by vdkit afterwards').toBe(0);
      await clean();
      expect(Buffer.compare(await theirs(), wanted), 'read by QEMU').toBe(0);
    };

    it.each(['', ',extended_l2=on'])('zero clusters hide the parent, with and without room%s', async (options) => {
      await writeFile(at('base.raw'), Buffer.alloc(SIZE, 7));
      const bigger = options === '' ? '' : `${options},cluster_size=16384`;
      await create(bigger, '-b', 'base.raw', '-F', 'raw');
      await io('write -q -P 1 0 64k', 'write -q -z 0 32k', 'write -q -z 128k 32k');
      const wanted = Buffer.alloc(SIZE, 7)
        .fill(0, 0, 32 * KIB)
        .fill(1, 32 * KIB, 64 * KIB);
      wanted.fill(0, 128 * KIB, 160 * KIB);
      if (options === '') expect((await entryAt(0)) & ~COPIED & ~1n, 'the first has room').not.toBe(0n);
      await expectSame(wanted, 0, 16 * KIB);
      await expectSame(wanted, 128 * KIB, 144 * KIB);
    });

    it.each(['', ',extended_l2=on'])('a compaction frees the room of zeroed clusters%s', async (options) => {
      await writeFile(at('base.raw'), Buffer.alloc(SIZE, 7));
      const bigger = options === '' ? '' : `${options},cluster_size=16384`;
      await create(bigger, '-b', 'base.raw', '-F', 'raw');
      await io('write -q -P 1 0 128k', 'write -q -z 16k 96k');
      const before = (await stat(image())).size;
      {
        await using disk = await Disk.open(image(), { mode: 'write', allow: ['same-directory'] });
        await disk.compact();
      }
      expect((await stat(image())).size).toBeLessThanOrEqual(before - 96 * KIB);
      const wanted = Buffer.alloc(SIZE, 7)
        .fill(1, 0, 128 * KIB)
        .fill(0, 16 * KIB, 112 * KIB);
      await expectSame(wanted, 16 * KIB, 48 * KIB);
    });

    it('compressed clusters cross sectors and clusters, and the file ends inside the last', async () => {
      const content = Buffer.alloc(SIZE);
      // About two thirds of it are noise: streams of 2,800 bytes.
      for (let offset = 0; offset < SIZE; offset += CLUSTER) {
        content.set(randomBytes(new Random(offset + 1), 2800), offset);
      }
      await writeFile(at('content.raw'), content);
      const to = ['-O', 'qcow2', '-o', `cluster_size=${CLUSTER}`, at('content.raw'), image()];
      await qemuImg.run('convert', '-c', '-f', 'raw', ...to);
      const last = await entryAt(SIZE / CLUSTER - 1);
      const shift = 62n - 4n;
      const start = Number(last & ((1n << shift) - 1n));
      const crossing = await Promise.all([0, 1, 2, 3].map(entryAt));
      const starts = crossing.map((entry) => Number(entry & ((1n << shift) - 1n)));
      expect(starts.some((from) => Math.floor(from / CLUSTER) !== Math.floor((from + 2800) / CLUSTER))).toBe(true);
      // The stream and not a byte more: less than its sectors say.
      const { size } = await stat(image());
      const bytes = await readFile(image());
      let end = size;
      while (end > start && bytes[end - 1] === 0) end--;
      await truncate(image(), end);
      expect(end % 512).not.toBe(0);
      await expectSame(content, SIZE - 8 * CLUSTER, SIZE);
    });

    it('padding behind deflate data is no part of it', async () => {
      await create();
      await io('write -q -c -P 5 0 4k', 'write -q -c -P 6 4k 4k');
      // Only sectors are counted, so rubbish may follow in the last of them.
      await truncate(image(), Math.ceil((await stat(image())).size / CLUSTER) * CLUSTER);
      await patch((bytes, l2) => {
        const entry = bytes.readBigUInt64BE(l2 + 8);
        const start = Number(entry & ((1n << 58n) - 1n));
        bytes.fill(0xa5, start + 100, Math.ceil((start + 100) / 512) * 512);
      });
      const wanted = Buffer.alloc(SIZE)
        .fill(5, 0, CLUSTER)
        .fill(6, CLUSTER, 2 * CLUSTER);
      await expectSame(wanted, 0, CLUSTER);
    });

    it('reserved bits in an L2 entry: the cluster is read, and nothing written before a repair', async () => {
      await create();
      await io('write -q -P 5 0 64k');
      await patch((bytes, l2) => bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l2) | 0x84n, l2));
      expect((await contentOf()).subarray(0, 64 * KIB).every((byte) => byte === 5)).toBe(true);
      await expectKind(() => touch(32 * KIB, 64 * KIB), 'read-only');
    });

    it('a stale COPIED bit does not let a snapshot be overwritten', async () => {
      await create();
      await io('write -q -P 5 0 64k');
      await qemuImg.run('snapshot', '-c', 'kept', image());
      await patch((bytes, l2, l1) => {
        for (let n = 0; n < 16; n++) bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l2 + n * 8) | COPIED, l2 + n * 8);
        bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l1) | COPIED, l1);
      });
      const before = await contentOf('kept');
      await touch(0, 64 * KIB);
      expect(Buffer.compare(await contentOf('kept'), before)).toBe(0);
      expect((await contentOf())[100]).toBe(0xee);
    });

    it.each([1, 2])('counts of %i bits do not overflow: the snapshot is refused, and nothing changed', async (bits) => {
      await create(`,refcount_bits=${bits}`);
      await io('write -q -P 5 0 64k');
      const most = 2 ** bits - 1;
      {
        await using disk = await Disk.open(image(), { mode: 'write' });
        for (let n = 1; n < most; n++) await disk.snapshots.create(`number ${n}`);
      }
      {
        await using disk = await Disk.open(image(), { mode: 'write' });
        await expectKind(() => disk.snapshots.create('one too many'), 'limit');
      }
      await clean();
      expect((await inspect(image())).snapshots).toHaveLength(most - 1);
      expect(Buffer.compare(await theirs(), Buffer.alloc(SIZE).fill(5, 0, 64 * KIB))).toBe(0);
    });

    it('what a snapshot shares with the disk is copied when it is written, by any program', async () => {
      await create();
      await io('write -q -P 5 0 64k', 'write -q -c -P 8 64k 4k');
      await qemuImg.run('snapshot', '-c', 'kept', image());
      await io('write -q -P 6 0 16k');
      const kept = await contentOf('kept');
      const wanted = Buffer.alloc(SIZE)
        .fill(5, 0, 64 * KIB)
        .fill(8, 64 * KIB, 68 * KIB);
      expect(Buffer.compare(kept, wanted)).toBe(0);
      await expectSame(wanted.fill(6, 0, 16 * KIB), 8 * KIB, 72 * KIB);
      expect(Buffer.compare(await contentOf('kept'), kept)).toBe(0);
      await qemuImg.run('snapshot', '-a', 'kept', image());
      await clean();
      expect(Buffer.compare(await theirs(), kept)).toBe(0);
    });

    it('a bitmap with the in-use flag is of no use, is kept, and can be removed', async () => {
      await create();
      await qemuImg.run('bitmap', '--add', image(), 'bits');
      await patch((bytes) => {
        // The extension with the directory, whose entry has its flags at 12.
        let extension = bytes.readUInt32BE(100);
        while (bytes.readUInt32BE(extension) !== 0x2385_2875) extension += 8 + bytes.readUInt32BE(extension + 4);
        const directory = Number(bytes.readBigUInt64BE(extension + 24));
        bytes.writeUInt32BE(bytes.readUInt32BE(directory + 12) | 1, directory + 12);
      });
      expect((await inspect(image())).bitmaps).toMatchObject([{ name: 'bits', inconsistent: true }]);
      const wanted = Buffer.alloc(SIZE);
      await expectSame(wanted, 0, 64 * KIB);
      const info = JSON.parse(await qemuImg.run('info', '--output=json', '-f', 'qcow2', image()));
      expect(info['format-specific'].data.bitmaps).toMatchObject([{ name: 'bits', flags: ['in-use', 'auto'] }]);
      {
        await using disk = await Disk.open(image(), { mode: 'write' });
        await expectKind(() => disk.bitmaps.clear('bits'), 'unsupported');
        await disk.bitmaps.remove('bits');
      }
      await clean();
    });
  });
});
