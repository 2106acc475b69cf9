/**
 * VDI images that vdkit resized and repaired, as other programs see them: sound for QEMU and 7-Zip, and with the content
 * they should have. What every format can is in `operations.test.ts`.
 */
import { mkdtemp, open, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { HEADER } from '../../src/formats/vdi/layout.ts';
import { checkImage } from '../../src/operations/check.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';
import { type Fill, writeRaw } from './sparse-content.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** Position of the first block of a small image by QEMU. */
const DATA = 1024;
/** 7-Zip reads every byte of a disk, holes too. */
const SEVEN_ZIP_MAX = GIB;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-operations-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

async function change(image: string, run: (disk: ChainDisk) => Promise<void>): Promise<void> {
  await using disk = await openDisk(image, { mode: 'write', format: 'vdi' });
  await run(disk);
}

/** Blocks of the disk, each filled with its own byte. */
function blocks(numbers: readonly number[]): Fill[] {
  return numbers.map((number) => ({ offset: number * MIB, length: MIB, byte: 1 + (number % 200) }));
}

describe('vdi', () => {
  describeWithPeers(['qemu-img', 'qemu-io', '7zip'], 'after an operation', (qemuImg, qemuIo, sevenZip) => {
    async function makeByQemu(size: number, fills: readonly Fill[], zeroed: readonly Fill[] = []): Promise<void> {
      await qemuImg.run('create', '-q', '-f', 'vdi', at('disk.vdi'), String(size));
      await fillByQemu(qemuIo, [...fills, ...zeroed.map((fill) => ({ ...fill, byte: 0 }))]);
    }

    /** Everybody finds the image sound, and QEMU reads these fills and zeroes elsewhere. */
    async function expectSound(size: number, fills: readonly Fill[]): Promise<void> {
      const report = JSON.parse(await qemuImg.run('check', '--output=json', '-f', 'vdi', at('disk.vdi')));
      expect(report).toMatchObject({ 'check-errors': 0 });
      expect(report).not.toHaveProperty('corruptions');
      expect(report).not.toHaveProperty('leaks');
      await rm(at('expected.raw'), { force: true });
      await writeRaw(at('expected.raw'), size, fills);
      const info = JSON.parse(await qemuImg.run('info', '--output=json', '-f', 'vdi', at('disk.vdi')));
      expect(info['virtual-size']).toBe(size);
      const compare = await qemuImg.run('compare', '-f', 'raw', '-F', 'vdi', at('expected.raw'), at('disk.vdi'));
      expect(compare).toContain('Images are identical');
      if (size <= SEVEN_ZIP_MAX) await sevenZip.run('t', '-tvdi', at('disk.vdi'));
      expect(await checkImage(at('disk.vdi'))).toMatchObject({ findings: [] });
    }

    it('resize: grown where the map and data stand close, and cut again', async () => {
      const fills = blocks([0, 2, 3, 7, 19]);
      await createImage(at('disk.vdi'), { size: 20 * MIB, config: { DataAlignment: 512 } });
      await fillByQemu(qemuIo, fills);
      await change(at('disk.vdi'), (disk) => disk.resize(300 * MIB + 512));
      await expectSound(300 * MIB + 512, fills);
      await change(at('disk.vdi'), (disk) => disk.resize(20 * MIB));
      await expectSound(20 * MIB, fills);
      await change(at('disk.vdi'), (disk) => disk.resize(7 * MIB, { shrink: true }));
      await expectSound(7 * MIB, fills.slice(0, 3));
    });

    it('repair: entries beyond the file and a count that is too low', async () => {
      const fills = blocks([0, 1, 2, 5]);
      await makeByQemu(16 * MIB, fills);
      await patchHeader((sector) => HEADER.put(sector, 'blocksAllocated', 1));
      await patchEntry(9, 0x1234);
      await expect(qemuImg.run('check', '-f', 'vdi', at('disk.vdi'))).rejects.toThrow();
      expect(await checkImage(at('disk.vdi'), { repair: true })).toMatchObject({ clean: true, repaired: true });
      await expectSound(16 * MIB, fills);
    });

    it('repair: a block that two entries share, and a file that is cut off', async () => {
      const fills = blocks([0, 1, 2, 5, 6]);
      await makeByQemu(16 * MIB, fills);
      // Block 5 loses its slot to block 1, block 6 most of its data.
      await patchEntry(5, 1);
      await truncate(at('disk.vdi'), DATA + 4 * MIB + 4096);
      expect(await checkImage(at('disk.vdi'), { repair: true })).toMatchObject({
        repaired: true,
        findings: [{ severity: 'leak', code: 'unused-slots' }],
      });
      // What QEMU takes for an error is the slot that is no longer used.
      await change(at('disk.vdi'), (disk) => disk.compact());
      await expectSound(16 * MIB, [...blocks([0, 1, 2]), { offset: 6 * MIB, length: 4096, byte: 7 }]);
    });
  });
});

async function fillByQemu(qemuIo: PeerProgram, fills: readonly Fill[]): Promise<void> {
  const commands = fills.flatMap(({ offset, length, byte }) => ['-c', `write -q -P ${byte} ${offset} ${length}`]);
  await qemuIo.run('-f', 'vdi', '-t', 'unsafe', ...commands, at('disk.vdi'));
}

async function patchHeader(run: (sector: Uint8Array) => void): Promise<void> {
  const file = await open(at('disk.vdi'), 'r+');
  try {
    const sector = new Uint8Array(512);
    await file.read(sector, 0, 512, 0);
    run(sector);
    await file.write(sector, 0, 512, 0);
  } finally {
    await file.close();
  }
}

async function patchEntry(index: number, value: number): Promise<void> {
  let mapOffset = 0;
  await patchHeader((sector) => {
    mapOffset = HEADER.get(sector, 'mapOffset');
  });
  const entry = new Uint8Array(4);
  new DataView(entry.buffer).setUint32(0, value, true);
  const file = await open(at('disk.vdi'), 'r+');
  await file.write(entry, 0, 4, mapOffset + index * 4);
  await file.close();
}
