/** Caches and QEMU: it changes no identity of an image when it writes, and a cache of it is not believed afterwards. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { describeWithPeers } from './peers.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-cache-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

async function ok(...words: string[]): Promise<string> {
  const { status, stderr } = await runCli(words);
  expect({ words, status, stderr }).toMatchObject({ status: 0 });
  return stderr;
}

describe('caches', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'of images that QEMU writes', (qemuImg, qemuIo) => {
    it.each(['vdi', 'qcow2', 'raw'])('%s: what is read is what QEMU reads', async (format) => {
      const [image, cache, out] = [at(`disk.${format}`), at('c.vci'), at('out.raw')];
      const convert = ['convert', image, out, '--format', format, '--force', '--cache', cache, '--cache-size', '4M'];
      await qemuImg.run('create', '-q', '-f', format, image, '4M');
      for (const value of [17, 34, 51]) {
        await qemuIo.run('-f', format, '-c', `write -P ${value} 64k 128k`, image);
        for (let round = 0; round < 2; round++) {
          const said = await ok(...convert);
          expect(said.includes('was emptied'), `${value}, round ${round}`).toBe(value > 17 && round === 0);
          await qemuImg.run('compare', '-f', format, '-F', 'raw', image, out);
        }
      }
    });

    it('a snapshot and the image itself do not answer for each other', async () => {
      const [image, cache] = [at('d.qcow2'), at('c.vci')];
      await qemuImg.run('create', '-q', '-f', 'qcow2', image, '4M');
      await qemuIo.run('-f', 'qcow2', '-c', 'write -P 1 64k 128k', image);
      await qemuImg.run('snapshot', '-c', 'monday', image);
      await qemuIo.run('-f', 'qcow2', '-c', 'write -P 2 64k 128k', image);
      await qemuImg.run('convert', '-l', 'monday', '-O', 'raw', image, at('monday.raw'));
      await qemuImg.run('convert', '-O', 'raw', image, at('now.raw'));
      for (const [words, wanted] of [
        [['--snapshot', 'monday'], 'monday.raw'],
        [[], 'now.raw'],
        [['--snapshot', 'monday'], 'monday.raw'],
      ] as const) {
        await ok('convert', image, at('out.raw'), ...words, '--force', '--cache', cache, '--cache-size', '4M');
        await qemuImg.run('compare', '-f', 'raw', '-F', 'raw', at('out.raw'), at(wanted));
        const other = wanted === 'now.raw' ? 'monday.raw' : 'now.raw';
        const compared = await runCli(['compare', image, at(other), ...words, '--format-b', 'raw', '--cache', cache]);
        expect(compared.status).toBe(1);
      }
    });
  });
});
