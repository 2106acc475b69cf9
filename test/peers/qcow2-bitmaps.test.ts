/** Persistent bitmaps of QCOW2 against QEMU: each finds those of the other, sound and with the same bits. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readBitmaps } from '../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { readHeader } from '../../src/formats/qcow2/open.ts';
import { Disk, inspect } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';

const SIZE = 8 * 1024 * 1024;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

/** With names of features and backing files the extension begins in the first sector, or ends behind it. */
const KINDS: readonly (readonly [string, string | null])[] = [
  ['cluster_size=512', null],
  ['cluster_size=4096', null],
  ['cluster_size=65536', null],
  ['cluster_size=65536', 'base.raw'],
  ['cluster_size=65536', `${'b'.repeat(200)}.raw`],
  ['cluster_size=8192,extended_l2=off,refcount_bits=64', null],
  ['cluster_size=2097152', 'base.raw'],
];

describe('qcow2 bitmaps', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'beside qemu-img', (qemuImg, qemuIo) => {
    it.each(KINDS)('made by vdkit, recorded by QEMU, %s over %s', async (options, base) => {
      const image = await make(qemuImg, options, base);
      await session(image, async (disk) => {
        await disk.bitmaps.add('one');
        await disk.bitmaps.add('two', { granularity: 4096 });
        await disk.bitmaps.add('still', { enabled: false, granularity: 65_536 });
      });
      await expectClean(qemuImg, image);
      await qemuIo.run('-f', 'qcow2', '-c', 'write -q -P 1 1M 64k', '-c', 'write -q -P 1 5M 512', image);
      await expectClean(qemuImg, image);
      const listed = await theirBitmaps(qemuImg, image);
      expect(listed.map(({ name, flags }) => [name, flags])).toEqual([
        ['one', ['auto']],
        ['two', ['auto']],
        ['still', []],
      ]);
      expect((await inspect(image)).bitmaps?.map(({ name, inconsistent }) => [name, inconsistent])).toEqual([
        ['one', false],
        ['two', false],
        ['still', false],
      ]);
      await session(image, async (disk) => {
        await disk.bitmaps.merge('still', ['two']);
        await disk.bitmaps.disable('two');
        await disk.bitmaps.clear('one');
      });
      await expectClean(qemuImg, image);
      const still = await dirty(image, 'still');
      for (const place of [1024 * 1024, 5 * 1024 * 1024]) expect(still.has(place), String(place)).toBe(true);
      expect(still.has(3 * 1024 * 1024)).toBe(false);
      expect((await dirty(image, 'one')).size).toBe(0);
      await session(image, (disk) => disk.write(0, new Uint8Array(512).fill(9)));
      await expectClean(qemuImg, image);
      const after = await theirBitmaps(qemuImg, image);
      expect(after.map(({ name, flags }) => [name, flags])).toEqual([
        ['one', ['auto']],
        ['two', []],
        ['still', []],
      ]);
      expect([...(await dirty(image, 'one'))].includes(0)).toBe(true);
      expect((await dirty(image, 'two')).has(0)).toBe(false);
      await qemuImg.run('bitmap', '--remove', image, 'one');
      await session(image, async (disk) => {
        await disk.bitmaps.remove('two');
        await disk.bitmaps.remove('still');
      });
      await expectClean(qemuImg, image);
      expect((await inspect(image)).bitmaps).toEqual([]);
      const info = JSON.parse(await qemuImg.run('info', '--output=json', image));
      expect(info['backing-filename']).toBe(base ?? undefined);
    });

    it('made by QEMU, changed by vdkit', async () => {
      const image = await make(qemuImg, 'cluster_size=65536', 'base.raw');
      await qemuImg.run('bitmap', '--add', '-g', '8192', image, 'theirs');
      await qemuImg.run('bitmap', '--add', '--disable', image, 'off');
      await qemuIo.run('-f', 'qcow2', '-c', 'write -q -P 1 2M 128k', image);
      await session(image, async (disk) => {
        expect(disk.bitmaps.list).toMatchObject([
          { name: 'theirs', granularity: 8192, enabled: true, inconsistent: false },
          { name: 'off', granularity: 65_536, enabled: false, inconsistent: false },
        ]);
        await disk.bitmaps.merge('off', ['theirs']);
        await disk.snapshots.create('snap');
      });
      await expectClean(qemuImg, image);
      expect([...(await dirty(image, 'off'))].sort((a, b) => a - b)).toEqual([2_097_152, 2_162_688]);
      await session(image, (disk) => disk.bitmaps.disable('theirs'));
      await qemuImg.run('bitmap', '--enable', image, 'off');
      await qemuImg.run('bitmap', '--merge', 'theirs', image, 'off');
      await expectClean(qemuImg, image);
    });
  });
});

async function make(qemuImg: PeerProgram, options: string, base: string | null): Promise<string> {
  const image = at('disk.qcow2');
  if (base !== null) await qemuImg.run('create', '-q', '-f', 'raw', at(base), String(SIZE));
  const over = base === null ? [] : ['-b', base, '-F', 'raw'];
  await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', options, ...over, image, String(SIZE));
  return image;
}

async function session(image: string, run: (disk: Disk) => Promise<unknown>): Promise<void> {
  await using disk = await Disk.open(image, { mode: 'write', allow: ['same-directory'] });
  await run(disk);
}

async function expectClean(qemuImg: PeerProgram, image: string): Promise<void> {
  await qemuImg.run('check', '-q', '-f', 'qcow2', image);
}

async function theirBitmaps(qemuImg: PeerProgram, image: string): Promise<{ name: string; flags: string[] }[]> {
  const info = JSON.parse(await qemuImg.run('info', '--output=json', '-f', 'qcow2', image));
  return info['format-specific'].data.bitmaps;
}

/** Starts of the units of 64 KiB in which a bit is set, read from the file. */
async function dirty(image: string, name: string): Promise<Set<number>> {
  const file = await readFile(image);
  const provider = new MemoryProvider();
  const storage = await provider.create('/copy');
  await storage.write(0, file);
  const header = await readHeader(storage);
  const bitmap = (await readBitmaps(storage, header)).find((one) => one.name === name);
  const units = new Set<number>();
  if (bitmap === undefined) return units;
  for (let entry = 0; entry < bitmap.tableEntries; entry++) {
    const offset = Number(file.readBigUInt64BE(bitmap.tableOffset + entry * 8));
    if (offset === 0) continue;
    for (let at = 0; at < header.clusterSize * 8; at++) {
      if ((((file[offset + (at >> 3)] ?? 0) >> (at & 7)) & 1) === 0) continue;
      const start = (entry * header.clusterSize * 8 + at) * 2 ** bitmap.granularityBits;
      units.add(start - (start % 65_536));
    }
  }
  return units;
}
