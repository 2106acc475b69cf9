/** Caches and other programs: they may leave an image's identity as it is, but a cache of it is not believed afterwards. */
import { describe, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { way } from '../formats/peer-kit.ts';
import { describePairings, fileName, type Pairing, useFolder } from './both-sides.ts';
import { describeWithPeers } from './peers.ts';

const MIB = 1024 * 1024;
const at = useFolder();

async function ok(...words: string[]): Promise<string> {
  const { status, stderr } = await runCli(words);
  expect({ words, status, stderr }).toMatchObject({ status: 0 });
  return stderr;
}

const takesPart = ({ peer, makeable }: Pairing): boolean => makeable.length > 0 && peer.write !== undefined;

await describePairings('a cache of an image that it writes', takesPart, ({ format, peer }) => {
  it('what is read is what the program reads', async () => {
    const [image, cache, out] = [{ path: at(fileName(format)), way: way('') }, at('c.vci'), at('out.raw')];
    const words = ['--format', format.name, '--force', '--cache', cache, '--cache-size', '4M'];
    await peer.make?.(image, 4 * MIB);
    for (const byte of [17, 34, 51]) {
      await peer.write?.(image, [{ how: 'write', offset: MIB / 16, length: MIB / 8, byte }]);
      for (let round = 0; round < 2; round++) {
        const said = await ok('convert', image.path, out, ...words);
        expect(said.includes('was emptied'), `${byte}, round ${round}`).toBe(byte > 17 && round === 0);
        await peer.same?.(image, out);
      }
    }
  });
});

describe('caches', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'of images that QEMU writes', (qemuImg, qemuIo) => {
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
