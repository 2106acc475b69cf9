/** VMDK streams beside those of qemu-img: the same grains, each form read from a pipe, and the form of VMware read by it. */
import { createReadStream } from 'node:fs';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SECTOR } from '../../src/binary/numbers.ts';
import { Environment } from '../../src/disk/open/environment.ts';
import { GRAIN_MARKER, SPARSE_HEADER } from '../../src/formats/vmdk/layout.ts';
import { convert } from '../../src/operations/convert.ts';
import { openForwards } from '../../src/operations/forward-disk.ts';
import { ByteStream } from '../../src/storage/byte-stream.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import { describeWithPeers } from './peers.ts';

const MIB = 2 ** 20;
/** Whole grains, or an odd number of sectors. */
const SIZES = [70 * MIB, 70 * MIB + 3 * SECTOR];

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-streams-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

async function writeRaw(size: number): Promise<void> {
  const random = new Random(size);
  const file = await open(at('disk.raw'), 'w');
  await file.truncate(size);
  for (const offset of [0, 65_000, 200_000, 33 * MIB, 66 * MIB, size - 5000]) {
    await file.write(randomBytes(random, 5000), 0, 5000, offset);
    await file.write(new Uint8Array(90_000).fill(offset % 251), 0, Math.min(90_000, size - offset), offset + 5000);
  }
  await file.truncate(size);
  await file.close();
}

/** Grains by their place in the disk. QEMU ends the last one with the disk, VMware pads it. */
async function grainsOf(name: string): Promise<Map<number, string>> {
  const stream = await readFile(name);
  const { overhead, grainSize } = SPARSE_HEADER.decode(stream);
  const grains = new Map<number, string>();
  for (let offset = overhead * SECTOR; offset + GRAIN_MARKER.size < stream.length; ) {
    const { lba, size } = GRAIN_MARKER.decode(stream.subarray(offset));
    const start = offset + GRAIN_MARKER.size;
    if (size > 0) {
      const grain = Buffer.alloc(grainSize * SECTOR);
      grain.set(inflateSync(stream.subarray(start, start + size)));
      grains.set(lba, grain.toString('latin1'));
    }
    offset += size > 0 ? Math.ceil((GRAIN_MARKER.size + size) / SECTOR) * SECTOR : SECTOR + lba * SECTOR;
  }
  return grains;
}

describe('vmdk streams', () => {
  describeWithPeers(['qemu-img'], 'beside those of QEMU', (qemuImg) => {
    it('have the same grains, are read from a pipe, and by QEMU', async () => {
      for (const size of SIZES) {
        await writeRaw(size);
        const theirs = ['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized'];
        await qemuImg.run(...theirs, at('disk.raw'), at('theirs.vmdk'));
        const how = { sourceFormat: 'raw', variant: ['stream'], force: true };
        await convert(at('disk.raw'), at('ours.vmdk'), how);
        const grains = await grainsOf(at('ours.vmdk'));
        expect(grains.size).toBeGreaterThan(5);
        expect(grains).toEqual(await grainsOf(at('theirs.vmdk')));
        for (const name of ['ours.vmdk', 'theirs.vmdk']) {
          const stream = new ByteStream(createReadStream(at(name)), name);
          const disk = await openForwards(stream, { environment: await Environment.of({}) });
          if (disk === null) throw new Error(`${name} is read forwards`);
          await convert(disk, at('back.raw'), { force: true });
          expect((await readFile(at('back.raw'))).equals(await readFile(at('disk.raw'))), name).toBe(true);
          await qemuImg.run('compare', '-f', 'raw', '-F', 'vmdk', at('disk.raw'), at(name));
        }
      }
    });
  });
});
