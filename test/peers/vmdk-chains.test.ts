/** Chains of VMDK images that QEMU and vdkit make and change in turns: each reads what the other left, by its own links. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk, inspect, rebaseImage } from '../../src/index.ts';
import { describeWithPeers } from './peers.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 5 * MIB;
const NAMES = ['0.vmdk', '1.vmdk', '2.vmdk'] as const;
const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-chains-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

type Maker = 'vdkit' | 'QEMU';
/** Makers of the three images, base first. */
const MAKERS: readonly (readonly Maker[])[] = [
  ['QEMU', 'vdkit', 'QEMU'],
  ['vdkit', 'QEMU', 'vdkit'],
  ['vdkit', 'vdkit', 'vdkit'],
  ['QEMU', 'QEMU', 'QEMU'],
];
const SUBFORMATS = ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse'];

describe('vmdk chains', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'beside qemu-img', (qemuImg, qemuIo) => {
    const makers = {
      async QEMU(name: string, parent: string | null, subformat: string) {
        const over = parent === null ? [] : ['-b', parent, '-F', 'vmdk'];
        await qemuImg.run('create', '-q', '-f', 'vmdk', '-o', `subformat=${subformat}`, ...over, at(name), `${SIZE}`);
      },
      async vdkit(name: string, parent: string | null, subformat: string) {
        const base = parent === null ? { size: SIZE } : { parent: at(parent) };
        await createImage(at(name), { format: 'vmdk', config: { subformat }, ...base });
      },
    };
    const writers = {
      QEMU: (name: string, offset: number, byte: number) =>
        qemuIo.run('-f', 'vmdk', '-c', `write -q -P ${byte} ${offset} ${300 * KIB}`, at(name)),
      async vdkit(name: string, offset: number, byte: number) {
        await using disk = await Disk.open(at(name), { ...OPEN, mode: 'write' });
        await disk.write(offset, new Uint8Array(300 * KIB).fill(byte));
      },
    };
    const whole = async (): Promise<void> => {
      await qemuImg.run('convert', '-f', 'vmdk', '-O', 'raw', at('2.vmdk'), at('before.raw'));
    };

    async function family(who: readonly Maker[], subformat: string): Promise<void> {
      for (const [number, name] of NAMES.entries()) {
        const maker = who[number] ?? 'vdkit';
        const parent = number === 0 ? null : (NAMES[number - 1] ?? null);
        await makers[maker](name, parent, number === 0 ? subformat : 'monolithicSparse');
        await writers[maker](name, number * MIB + 100, number + 1);
      }
      await whole();
    }

    /** Both read the disk as it was, and find nothing wrong. */
    async function expectSame(name = '2.vmdk'): Promise<void> {
      await qemuImg.run('compare', '-q', '-f', 'raw', '-F', 'vmdk', at('before.raw'), at(name));
      await using disk = await Disk.open(at(name), OPEN);
      expect(disk.warnings).toEqual([]);
      const bytes = new Uint8Array(SIZE);
      await disk.read(0, bytes);
      await using before = await Disk.open(at('before.raw'), { format: 'raw' });
      const wanted = new Uint8Array(SIZE);
      await before.read(0, wanted);
      expect(Buffer.compare(bytes, wanted)).toBe(0);
      for (const image of disk.images) {
        await qemuImg.run('check', '-q', '-f', 'vmdk', image.name);
        expect((await checkImage(image.name, OPEN)).findings).toEqual([]);
      }
    }

    const withDisk = async (change: (disk: Disk) => Promise<unknown>): Promise<void> => {
      await using disk = await Disk.open(at('2.vmdk'), { ...OPEN, mode: 'write' });
      await change(disk);
    };

    it.each(MAKERS.flatMap((who, at) => SUBFORMATS.slice(0, at === 0 ? 3 : 1).map((one) => [who, one] as const)))(
      '%j over %s: are read by both, and written in turns',
      async (who, subformat) => {
        await family(who, subformat);
        await expectSame();
        for (const writer of ['QEMU', 'vdkit', 'QEMU'] as const) {
          await writers[writer]('2.vmdk', 3 * MIB + 77 * 512, writer.length);
          await whole();
          await expectSame();
        }
      },
    );

    it.each(MAKERS.slice(0, 2))('%s, %s, %s: are rebased, committed and merged', async (...who) => {
      await family(who, 'monolithicSparse');
      await rebaseImage(at('2.vmdk'), at('0.vmdk'), OPEN);
      await expectSame();
      await rebaseImage(at('2.vmdk'), at('1.vmdk'), OPEN);
      await expectSame();
      await withDisk((disk) => disk.commit());
      await expectSame();
      await expectSame('1.vmdk');
      await writers.QEMU('2.vmdk', 4 * MIB, 9);
      await whole();
      await withDisk((disk) => disk.merge(0, 1));
      await expectSame();
      await withDisk((disk) => disk.merge(1, 0));
      expect((await readdir(folder)).sort()).toEqual(['1.vmdk', 'before.raw']);
      await expectSame('1.vmdk');
    });

    it('are committed by QEMU into a parent of vdkit, which is named as changed', async () => {
      await family(MAKERS[2] ?? [], 'monolithicSparse');
      await qemuImg.run('commit', '-q', '-f', 'vmdk', at('2.vmdk'));
      await expectSame('1.vmdk');
      // QEMU gives the parent a new content ID and leaves the old one in the child.
      const { warnings } = await inspect(at('2.vmdk'), { ...OPEN, chain: true });
      expect(warnings.join()).toContain('modified after');
      await expect(qemuImg.run('compare', '-q', '-F', 'vmdk', at('before.raw'), at('2.vmdk'))).rejects.toThrow();
      // A rebase without a look at the data accepts the parent as it is.
      await rebaseImage(at('2.vmdk'), at('1.vmdk'), { ...OPEN, unsafe: true });
      await expectSame();
    });
  });
});
