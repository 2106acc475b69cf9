/** Images that vdkit rebased and committed, as QEMU sees them: sound, and with the content that QEMU makes of the same. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Disk, rebaseImage } from '../../src/index.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';

const MIB = 1024 * 1024;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(memoryFolder(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const allow = ['same-directory'];

/** Options for all images, and the sizes of the old parent, the new one, and the image. */
const KINDS: readonly (readonly [string, readonly number[]])[] = [
  ['cluster_size=65536', [8, 8, 8]],
  ['cluster_size=4096', [8, 6, 8]],
  ['cluster_size=512', [3, 4, 4]],
  ['compat=0.10,cluster_size=4096', [6, 9, 8]],
  ['extended_l2=on,cluster_size=65536', [8, 5, 9]],
  ['refcount_bits=8,cluster_size=1M', [8, 8, 8]],
];

describe('qcow2 rebase and commit', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'beside qemu-img', (qemuImg, qemuIo) => {
    const make = async (options: string, name: string, mib: number, writes: readonly string[], parent?: string) => {
      const over = parent === undefined ? [] : ['-b', parent, '-F', 'qcow2'];
      await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', options, ...over, at(name), `${mib}M`);
      await qemuIo.run('-f', 'qcow2', ...writes.flatMap((write) => ['-c', `write -q ${write}`]), at(name));
    };
    const family = async (options: string, [old = 8, other = 8, own = 8]: readonly number[]): Promise<void> => {
      await make(options, 'base.qcow2', 3, ['-P 1 0 2M', '-P 2 2500k 100k']);
      await make(options, 'old.qcow2', old, ['-P 3 1M 700k', '-z 100k 200k', `-P 4 ${old - 1}M 1M`], 'base.qcow2');
      await make(
        options,
        'new.qcow2',
        other,
        ['-P 5 500k 900k', '-P 4 2M 300k', `-P 6 ${other - 1}M 1M`],
        'base.qcow2',
      );
      await make(options, 'own.qcow2', own, ['-P 7 1200k 64k', '-z 1300k 64k', '-P 8 3k 1k'], 'old.qcow2');
      await qemuImg.run('convert', '-f', 'qcow2', '-O', 'raw', at('own.qcow2'), at('before.raw'));
    };
    const expectContent = async (name: string): Promise<void> => {
      await qemuImg.run('check', '-q', '-f', 'qcow2', at(name));
      await qemuImg.run('compare', '-q', '-f', 'raw', '-F', 'qcow2', at('before.raw'), at(name));
    };

    it.each(KINDS)('rebased onto another image, then onto none: %s', async (options, sizes) => {
      await family(options, sizes);
      await copyFile(at('own.qcow2'), at('theirs.qcow2'));
      await rebaseImage(at('own.qcow2'), at('new.qcow2'), { allow });
      await qemuImg.run('rebase', '-q', '-f', 'qcow2', '-b', 'new.qcow2', '-F', 'qcow2', at('theirs.qcow2'));
      expect(await saidOf(qemuImg, 'own.qcow2')).toEqual(await saidOf(qemuImg, 'theirs.qcow2'));
      await rm(at('old.qcow2'));
      await expectContent('own.qcow2');
      // Ours knows what both have of the same file, and what reads the same.
      expect(await held(qemuImg, 'own.qcow2')).toBeLessThanOrEqual(await held(qemuImg, 'theirs.qcow2'));
      await rebaseImage(at('own.qcow2'), null, { allow });
      await qemuImg.run('rebase', '-q', '-f', 'qcow2', '-b', '', at('theirs.qcow2'));
      expect(await saidOf(qemuImg, 'own.qcow2')).toEqual(await saidOf(qemuImg, 'theirs.qcow2'));
      await rm(at('new.qcow2'));
      await expectContent('own.qcow2');
      await qemuIo.run('-f', 'qcow2', '-c', 'write -q -P 9 1M 1M', at('own.qcow2'));
      await qemuImg.run('check', '-q', '-f', 'qcow2', at('own.qcow2'));
    });

    it.each(KINDS)('committed to its parent, and to the base: %s', async (options, sizes) => {
      await family(options, sizes);
      for (const name of ['base', 'old', 'own']) await copyFile(at(`${name}.qcow2`), at(`${name}-copy.qcow2`));
      await commit('own.qcow2', 1);
      for (const name of ['own.qcow2', 'old.qcow2']) await qemuImg.run('check', '-q', '-f', 'qcow2', at(name));
      await expectContent('own.qcow2');
      expect(await held(qemuImg, 'own.qcow2')).toBe(0);
      // As QEMU does it, by hash: a larger parent keeps its end.
      for (const name of ['base', 'old', 'own']) {
        await copyFile(at(`${name}.qcow2`), at(`${name}-ours.qcow2`));
        await copyFile(at(`${name}-copy.qcow2`), at(`${name}.qcow2`));
      }
      await qemuImg.run('commit', '-q', '-f', 'qcow2', at('own.qcow2'));
      await qemuImg.run('compare', '-q', '-f', 'qcow2', '-F', 'qcow2', at('old.qcow2'), at('old-ours.qcow2'));
      expect(await sizeOf(qemuImg, 'old.qcow2')).toBe(await sizeOf(qemuImg, 'old-ours.qcow2'));
      for (const name of ['base', 'old', 'own']) await copyFile(at(`${name}-copy.qcow2`), at(`${name}.qcow2`));
      await commit('own.qcow2', 0);
      await rm(at('old.qcow2'));
      await expectContent('own.qcow2');
      const [own = 8] = sizes.slice(2);
      expect(await sizeOf(qemuImg, 'base.qcow2')).toBe(Math.max(own, 3) * MIB);
      await expectContent('base.qcow2');
      await qemuIo.run('-f', 'qcow2', '-c', 'write -q -P 9 1M 1M', at('own.qcow2'));
      await qemuImg.run('commit', '-q', '-f', 'qcow2', at('own.qcow2'));
      for (const name of ['own.qcow2', 'base.qcow2']) await qemuImg.run('check', '-q', '-f', 'qcow2', at(name));
    });
  });
});

async function commit(name: string, base: number): Promise<void> {
  await using disk = await Disk.open(at(name), { mode: 'write', allow });
  // The copies beside it name the same parents.
  await disk.commit({ base, force: true });
}

async function saidOf(qemuImg: PeerProgram, name: string): Promise<unknown> {
  const info = JSON.parse(await qemuImg.run('info', '--output=json', '-f', 'qcow2', at(name)));
  const { filename: _name, 'actual-size': _size, ...rest } = info;
  return rest;
}

async function sizeOf(qemuImg: PeerProgram, name: string): Promise<number> {
  return JSON.parse(await qemuImg.run('info', '--output=json', '-f', 'qcow2', at(name)))['virtual-size'];
}

/** Bytes of data that an image holds itself, zeroes by a mark left out. */
async function held(qemuImg: PeerProgram, name: string): Promise<number> {
  const map = JSON.parse(await qemuImg.run('map', '--output=json', '-f', 'qcow2', at(name)));
  const own = map.filter(({ depth, data }: { depth: number; data: boolean }) => depth === 0 && data);
  return own.reduce((sum: number, { length }: { length: number }) => sum + length, 0);
}
