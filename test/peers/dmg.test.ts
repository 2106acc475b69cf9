/** New DMG images: read by 7-Zip, dmg2img and QEMU, and by vdkit itself. */
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage } from '../../src/operations/check.ts';
import { convert } from '../../src/operations/convert.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import { describeWithPeers } from './peers.ts';

const MIB = 2 ** 20;
/** Whole chunks, an odd number of sectors, and less than a chunk. */
const SIZES = [3 * MIB, 5 * MIB + 3 * 512, 4 * 512];

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-dmg-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

/** Noise, text and holes. */
async function makeDmg(size: number, variant: string): Promise<Buffer> {
  const file = await open(at('disk.raw'), 'w');
  await file.truncate(size);
  await file.write(randomBytes(new Random(size), Math.min(300_000, size)));
  if (size > 2 * MIB) await file.write(new Uint8Array(700_000).fill(7), 0, 700_000, 2 * MIB + 512);
  await file.write(new Uint8Array(512).fill(9), 0, 512, size - 512);
  await file.close();
  await convert(at('disk.raw'), at('disk.dmg'), { format: 'dmg', variant: [variant] });
  return readFile(at('disk.raw'));
}

describe.each(['udzo', 'udbz'])('dmg %s', (variant) => {
  it.each(SIZES)('of %i bytes has the right checksums and content', async (size) => {
    const wanted = await makeDmg(size, variant);
    expect((await checkImage(at('disk.dmg'))).findings).toEqual([]);
    await convert(at('disk.dmg'), at('back.raw'), { format: 'raw' });
    expect((await readFile(at('back.raw'))).equals(wanted)).toBe(true);
  });

  describeWithPeers(['dmg2img'], 'beside dmg2img', (dmg2img) => {
    it.each(SIZES)('is read, with %i bytes', async (size) => {
      const wanted = await makeDmg(size, variant);
      await dmg2img.run('-s', at('disk.dmg'), at('peer.raw'));
      expect((await readFile(at('peer.raw'))).equals(wanted)).toBe(true);
    });
  });

  describeWithPeers(['7zip'], 'beside 7-Zip', (sevenZip) => {
    it.each(SIZES)('is read, and its checksum is right, with %i bytes', async (size) => {
      const wanted = await makeDmg(size, variant);
      await sevenZip.run('x', `-o${at('out')}`, at('disk.dmg'));
      const [only = '', ...others] = await readdir(at('out'));
      expect(others).toEqual([]);
      expect((await readFile(join(at('out'), only))).equals(wanted)).toBe(true);
    });
  });
});

describe('dmg udzo', () => {
  describeWithPeers(['qemu-img'], 'beside QEMU', (qemuImg) => {
    it.each(SIZES)('is read, with %i bytes', async (size) => {
      const wanted = await makeDmg(size, 'udzo');
      await qemuImg.run('convert', '-f', 'dmg', '-O', 'raw', at('disk.dmg'), at('peer.raw'));
      expect((await readFile(at('peer.raw'))).equals(wanted)).toBe(true);
    });
  });
});
