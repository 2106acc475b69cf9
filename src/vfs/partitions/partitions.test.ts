/** Partition tables written by hand: correct ones and hostile ones. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { rounds } from '../../../test/conformance/random.ts';
import { DISK_ID, gptDisk, LINUX, putSlots, resealHeader, SOME_ID } from '../../../test/vfs/tables.ts';
import { isImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { MemoryStorage } from '../../storage/memory.ts';
import { Random } from '../../testing/random.ts';
import { listPartitions, partitionOf } from './index.ts';

const MIB = 2 ** 20;

async function storageOf(bytes: Uint8Array): Promise<Storage> {
  const storage = new MemoryStorage('disk');
  await storage.write(0, bytes);
  return storage;
}
const list = async (bytes: Uint8Array, sectorSize?: number) =>
  listPartitions(await storageOf(bytes), sectorSize === undefined ? {} : { sectorSize });
const places = ({ partitions }: Awaited<ReturnType<typeof list>>) =>
  partitions.map(({ number, kind, offset, length }) => [number, kind, offset, length]);

/** Two primary partitions, an unused entry, an extended one with three logical ones. */
function mbrDisk(): Uint8Array {
  const disk = new Uint8Array(8 * MIB);
  new DataView(disk.buffer).setUint32(440, 0x1234_abcd, true);
  putSlots(disk, 0, [
    { type: 0x83, start: 2048, count: 100, active: true },
    null,
    { type: 0x07, start: 2200, count: 50 },
    { type: 0x05, start: 4096, count: 8192 },
  ]);
  putSlots(disk, 4096 * 512, [
    { type: 0x82, start: 8, count: 100 },
    { type: 0x05, start: 1000, count: 500 },
  ]);
  putSlots(disk, 5096 * 512, [
    { type: 0x83, start: 16, count: 200 },
    { type: 0x05, start: 3000, count: 500 },
  ]);
  putSlots(disk, 7096 * 512, [{ type: 0x0b, start: 1, count: 300 }]);
  return disk;
}

describe('an MBR', () => {
  it('has primary partitions by their entry and logical ones from 5 on', async () => {
    const table = await list(mbrDisk());
    expect(table).toMatchObject({ kind: 'mbr', sectorSize: 512, diskId: '0x1234abcd', warnings: [] });
    expect(places(table)).toEqual([
      [1, 'primary', 2048 * 512, 100 * 512],
      [3, 'primary', 2200 * 512, 50 * 512],
      [4, 'extended', 4096 * 512, 8192 * 512],
      [5, 'logical', 4104 * 512, 100 * 512],
      [6, 'logical', 5112 * 512, 200 * 512],
      [7, 'logical', 7097 * 512, 300 * 512],
    ]);
    expect(table.partitions[0]).toMatchObject({
      type: '0x83',
      typeName: 'Linux',
      flags: ['active'],
      name: null,
      guid: null,
    });
    expect(table.partitions[3]).toMatchObject({ type: '0x82', typeName: 'Linux swap', flags: [] });
  });

  it('counts in sectors of 4096 bytes where it is told so', async () => {
    const disk = new Uint8Array(8 * MIB);
    putSlots(disk, 0, [{ type: 0x83, start: 256, count: 512 }]);
    expect(places(await list(disk, 4096))).toEqual([[1, 'primary', MIB, 2 * MIB]]);
    await expectKind(() => list(disk, 1024), 'invalid-argument');
  });

  it('is none where the sector is none, or that of a file system', async () => {
    const none = { kind: 'none', partitions: [], warnings: [], diskId: null };
    expect(await list(new Uint8Array(MIB))).toMatchObject(none);
    expect(await list(new Uint8Array(100))).toMatchObject(none);
    expect(await list(new Uint8Array(0))).toMatchObject(none);
    const text = mbrDisk();
    text[446] = 0x4e;
    expect(await list(text)).toMatchObject(none);
    const fat = new Uint8Array(MIB);
    putSlots(fat, 0, []);
    fat.set(new TextEncoder().encode('FAT16   '), 54);
    expect(await list(fat)).toMatchObject(none);
    const empty = new Uint8Array(MIB);
    putSlots(empty, 0, []);
    expect(await list(empty)).toMatchObject({ ...none, kind: 'mbr', diskId: '0x00000000' });
  });

  it('tells of chains that are loops, lead out, or end in nothing', async () => {
    const loop = mbrDisk();
    putSlots(loop, 7096 * 512, [
      { type: 0x0b, start: 1, count: 300 },
      { type: 0x05, start: 1000, count: 500 },
    ]);
    expect(await list(loop)).toMatchObject({ warnings: [expect.stringContaining('a loop')] });
    expect((await list(loop)).partitions).toHaveLength(6);
    const out = mbrDisk();
    putSlots(out, 7096 * 512, [
      { type: 0x0b, start: 1, count: 300 },
      { type: 0x05, start: 8192, count: 500 },
    ]);
    expect(await list(out)).toMatchObject({ warnings: [expect.stringContaining('leaves its extended')] });
    const nothing = mbrDisk();
    nothing[7096 * 512 + 511] = 0;
    expect(await list(nothing)).toMatchObject({ warnings: [expect.stringContaining('is missing')] });
    const outside = mbrDisk();
    putSlots(outside, 7096 * 512, [{ type: 0x0b, start: 5000, count: 4000 }]);
    expect(await list(outside)).toMatchObject({ warnings: [expect.stringContaining('outside its extended')] });
  });

  it('tells of partitions that reach behind the end', async () => {
    const disk = new Uint8Array(MIB);
    putSlots(disk, 0, [{ type: 0x83, start: 1, count: 0xffff_ffff }]);
    const table = await list(disk);
    expect(table.partitions[0]).toMatchObject({ offset: 512, length: 0xffff_ffff * 512 });
    expect(table.warnings).toEqual(['Partition 1 reaches beyond the end of the disk.']);
  });
});

describe('a GPT', () => {
  const slots = [
    { type: LINUX, id: SOME_ID, first: 2048, last: 4095, name: 'root äß', attributes: 0b101n | (1n << 60n) },
    null,
    { type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b', id: DISK_ID, first: 64, last: 64 },
  ];

  it.each([
    [512, 128, 128],
    [512, 256, 128],
    [512, 4096, 4],
    [4096, 128, 128],
    [4096, 512, 200],
    [512, 128, 3],
  ])('is read with sectors of %d bytes and entries of %d', async (sectorSize, entrySize, entryCount) => {
    const table = await list(gptDisk(4096 * 4200, slots, { sectorSize, entrySize, entryCount }));
    expect(table).toMatchObject({ kind: 'gpt', sectorSize, diskId: DISK_ID, warnings: [] });
    expect(table.partitions).toEqual([
      {
        number: 1,
        offset: 2048 * sectorSize,
        length: 2048 * sectorSize,
        kind: 'gpt',
        type: LINUX,
        typeName: 'Linux',
        name: 'root äß',
        guid: SOME_ID,
        flags: ['required', 'legacy-boot', 'attribute-60'],
      },
      {
        number: 3,
        offset: 64 * sectorSize,
        length: sectorSize,
        kind: 'gpt',
        type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
        typeName: 'EFI system',
        name: null,
        guid: DISK_ID,
        flags: [],
      },
    ]);
  });

  it.each([512, 4096])('is read from its copy at the end when that at the start is damaged: %d', async (sectorSize) => {
    for (const [at, word] of [
      [sectorSize, 'is missing'],
      [sectorSize + 60, 'checksum of its header'],
      [2 * sectorSize + 40, 'checksum of its entries'],
    ] as const) {
      const disk = gptDisk(4096 * 4200, slots, { sectorSize });
      disk[at] = (disk[at] ?? 0) ^ 0xff;
      const table = await list(disk);
      expect(table).toMatchObject({ kind: 'gpt', sectorSize });
      expect(table.partitions).toHaveLength(2);
      expect(table.warnings).toEqual([expect.stringContaining(word)]);
    }
  });

  it('says when its copy at the end is damaged or not there', async () => {
    const disk = gptDisk(4 * MIB, slots);
    disk[4 * MIB - 512 + 60] = 1;
    expect((await list(disk)).warnings).toEqual([expect.stringContaining('is damaged')]);
    disk.fill(0, 4 * MIB - 512);
    expect((await list(disk)).warnings).toEqual([expect.stringContaining('is missing')]);
    const cut = await list(gptDisk(4 * MIB, slots).subarray(0, 3 * MIB));
    expect(cut.warnings).toEqual([expect.stringContaining('beyond the end')]);
    expect(cut.partitions).toHaveLength(2);
  });

  it('is none when both are damaged', async () => {
    const disk = gptDisk(4 * MIB, slots);
    disk[512 + 60] = 1;
    disk[4 * MIB - 512 + 60] = 1;
    expect(await list(disk)).toMatchObject({
      kind: 'none',
      partitions: [],
      warnings: [expect.stringContaining('damaged')],
    });
  });

  it('counts only where the MBR says so', async () => {
    const disk = gptDisk(4 * MIB, slots);
    disk.fill(0, 446, 510);
    expect(await list(disk)).toMatchObject({ kind: 'mbr', partitions: [] });
    const alone = new Uint8Array(MIB);
    putSlots(alone, 0, [{ type: 0xee, start: 1, count: 2047 }]);
    const table = await list(alone);
    expect(table.warnings).toEqual(['The disk has a protective MBR but no GPT.']);
    expect(table.partitions[0]).toMatchObject({ typeName: 'protective GPT' });
  });

  it('is not believed what its fields cannot be, though the checksum is right', async () => {
    const changes: [number, number, string][] = [
      [12, 91, 'header has 91 bytes'],
      [12, 513, 'header has 513 bytes'],
      [24, 2, 'its own location'],
      [84, 127, '127 bytes each'],
      [84, 192, '192 bytes each'],
      [80, 0x7fff_ffff, 'its entries take'],
      [72, 0x7fff_ffff, 'beyond the end'],
      [72, 8190, 'outside the disk'],
      [40, 0x7fff_ffff, 'usable range'],
    ];
    for (const [field, value, word] of changes) {
      const disk = gptDisk(4 * MIB, slots);
      new DataView(disk.buffer).setUint32(512 + field, value, true);
      resealHeader(disk, 512);
      const { warnings, partitions } = await list(disk);
      expect(warnings[0], `field ${field}`).toContain(word);
      expect(partitions).toHaveLength(2);
    }
  });

  it('leaves out entries that lie nowhere', async () => {
    const odd = [
      { type: LINUX, id: SOME_ID, first: 100, last: 99 },
      { type: LINUX, id: SOME_ID, first: 2 ** 40, last: 2 ** 40 + 1 },
      { type: LINUX, id: SOME_ID, first: 100, last: 2 ** 53 },
      { type: LINUX, id: SOME_ID, first: 100, last: 9000 },
    ];
    const table = await list(gptDisk(4 * MIB, odd));
    expect(places(table)).toEqual([[4, 'gpt', 51_200, 8901 * 512]]);
    expect(table.warnings).toHaveLength(4);
  });
});

describe('the place of a partition', () => {
  it('is that of the table', async () => {
    const disk = await storageOf(mbrDisk());
    expect(await partitionOf(disk, 6)).toMatchObject({ offset: 5112 * 512, length: 200 * 512 });
    await expect(partitionOf(disk, 2)).rejects.toMatchObject({
      kind: 'not-found',
      hint: 'There are: 1, 3, 4, 5, 6, 7.',
    });
    await expectKind(() => partitionOf(disk, 4), 'unsupported');
    await expect(partitionOf(new MemoryStorage(), 1)).rejects.toMatchObject({
      hint: 'The disk has no partition table.',
    });
    const behind = new Uint8Array(MIB);
    putSlots(behind, 0, [{ type: 0x83, start: 1, count: 4096 }]);
    await expectKind(async () => partitionOf(await storageOf(behind), 1), 'corrupt');
  });
});

describe('hostile tables', () => {
  /** Offsets of tables; a byte there, or a whole field, is replaced. */
  const cases = (random: Random): Uint8Array => {
    const gpt = random.below(2) === 0;
    const disk = gpt
      ? gptDisk(4 * MIB, [{ type: LINUX, id: SOME_ID, first: 2048, last: 4095 }], { entryCount: 8 })
      : mbrDisk();
    const spots = gpt ? [512, 1024, 4 * MIB - 512, 446] : [446, 4096 * 512 + 446, 5096 * 512 + 446, 7096 * 512 + 446];
    for (let count = random.below(4) + 1; count > 0; count--) {
      const at = (spots[random.below(spots.length)] ?? 0) + random.below(92 - 8);
      const value = random.pick([0, 0xff, 0x7f, 0x05, 0xee, random.below(256)]);
      disk.fill(value, at, at + random.pick([1, 4, 8]));
    }
    // Most of the changes are made in earnest: with the right checksum.
    if (gpt && random.below(4) > 0) for (const at of [512, 4 * MIB - 512]) resealHeader(disk, at);
    return disk;
  };

  it('give an answer or a typed error, of little that was read', async () => {
    let odd = 0;
    for (let seed = 1; seed <= rounds(200, 20_000); seed++) {
      const disk = await storageOf(cases(new Random(seed)));
      let reads = 0;
      const counting = new Proxy(disk, {
        get(target, name) {
          if (name === 'read') reads++;
          const value = Reflect.get(target, name, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      try {
        const { warnings, partitions } = await listPartitions(counting);
        if (warnings.length > 0) odd++;
        for (const { number, offset, length } of partitions) {
          expect(Number.isSafeInteger(offset + length) && length > 0, `seed ${seed}, partition ${number}`).toBe(true);
        }
      } catch (error) {
        expect(isImageError(error), `seed ${seed}: ${String(error)}`).toBe(true);
      }
      expect(reads, `seed ${seed}`).toBeLessThan(300);
    }
    expect(odd).toBeGreaterThan(50);
  });
});
