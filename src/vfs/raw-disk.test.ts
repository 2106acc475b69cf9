/** Images that describe a disk of the host: files stand for devices, and a loop device where there is one. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { gptDisk, LINUX, SOME_ID } from '../../test/vfs/tables.ts';
import { BOOT_SECTOR, MBR_ENTRIES, MBR_ENTRY } from '../binary/partition-tables.ts';
import { checkImage } from '../operations/check.ts';
import { removeImage } from '../operations/files.ts';
import { openDisk } from '../operations/open.ts';
import { listPartitions } from './partitions/index.ts';
import { createRawDisk } from './raw-disk.ts';

const SECTOR = 512;
const SIZE = 4 * 1024 * 1024;
/** Sectors of the partitions: two primary ones, and an extended one with two logical ones. */
const ONE = { start: 64, count: 1024 };
const TWO = { start: 1088, count: 1000 };
const EXTENDED = { start: 3000, count: 5000 };
const FIVE = { start: 3063, count: 500 };
const SIX = { start: 4063, count: 600 };

const ID = '7d5f9c30-1a2b-4c3d-8e4f-001122334455';

let folder = '';
let device = '';
let image = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-raw-'));
  device = join(folder, 'host.img');
  image = join(folder, 'disk.vmdk');
  writeFileSync(device, hostDisk());
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Every sector has its number; the tables lie over that. */
function hostDisk(): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  const view = new DataView(bytes.buffer);
  for (let sector = 0; sector < SIZE / SECTOR; sector++) {
    for (let at = 0; at < SECTOR; at += 4) view.setUint32(sector * SECTOR + at, sector + 1, true);
  }
  table(bytes, 0, [
    [0x83, ONE],
    [0x83, TWO],
    [0x05, EXTENDED],
  ]);
  table(bytes, 3000, [
    [0x83, { start: 63, count: 500 }],
    [0x05, { start: 1000, count: 1000 }],
  ]);
  table(bytes, 4000, [[0x83, { start: 63, count: 600 }]]);
  return bytes;
}

type Entry = readonly [type: number, place: { readonly start: number; readonly count: number }];

function table(bytes: Uint8Array, sector: number, entries: readonly Entry[]): void {
  const at = sector * SECTOR;
  bytes.fill(0, at, at + SECTOR);
  entries.forEach(([type, { start, count: sectorCount }], slot) => {
    const empty = MBR_ENTRY.decode(new Uint8Array(MBR_ENTRY.size));
    bytes.set(MBR_ENTRY.encode({ ...empty, type, start, sectorCount }), at + MBR_ENTRIES + slot * MBR_ENTRY.size);
  });
  BOOT_SECTOR.put(bytes, 'signature', 0xaa55, at);
}

async function contentOf(name: string, allow: readonly string[]): Promise<Uint8Array> {
  await using disk = await openDisk(name, { allow });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

describe('a description of a whole device', () => {
  it('reads it, once its name is allowed', async () => {
    expect(await createRawDisk(image, device)).toMatchObject({
      ...{ file: image, device, format: 'vmdk', virtualSize: SIZE, writable: false, table: null, partitions: null },
      ...{ uuid: expect.stringMatching(/^[0-9a-f]{8}-/), warnings: [] },
    });
    expect(await readdir(folder)).toEqual(['disk.vmdk', 'host.img']);
    await expect(openDisk(image)).rejects.toMatchObject({ kind: 'denied', hint: expect.stringContaining('allow') });
    expect(Buffer.compare(await contentOf(image, [device]), readFileSync(device))).toBe(0);
  });

  it('is not written unless that was asked for', async () => {
    await createRawDisk(image, device);
    await expect(openDisk(image, { mode: 'write', allow: [device] })).rejects.toMatchObject({ kind: 'read-only' });
    await createRawDisk(image, device, { writable: true, force: true });
    await expect(openDisk(image, { mode: 'write', allow: [folder] })).rejects.toMatchObject({ kind: 'denied' });
    {
      await using disk = await openDisk(image, { mode: 'write', allow: [device] });
      await disk.write(5 * SECTOR, new Uint8Array(SECTOR).fill(0xee));
    }
    const bytes = readFileSync(device);
    expect(bytes.subarray(5 * SECTOR, 6 * SECTOR).every((byte) => byte === 0xee)).toBe(true);
    expect(bytes.length).toBe(SIZE);
  });

  it('is deleted without the device', async () => {
    await createRawDisk(image, device, { writable: true });
    await removeImage(image, { allow: [device] });
    expect(await readdir(folder)).toEqual(['host.img']);
  });

  it('is refused for what is no disk', async () => {
    writeFileSync(device, 'x');
    await expect(createRawDisk(image, device)).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(createRawDisk(image, join(folder, 'none'))).rejects.toMatchObject({ kind: 'not-found' });
    expect(await readdir(folder)).toEqual(['host.img']);
  });
});

describe('a description of partitions', () => {
  it('shows them and the tables; all else reads zero, and tables are changed in a copy', async () => {
    const report = await createRawDisk(image, device, { partitions: [6, 1], writable: true, comment: 'two', uuid: ID });
    expect(report).toMatchObject({
      uuid: ID,
      comment: 'two',
      writable: true,
      virtualSize: SIZE,
      table: { kind: 'mbr' },
    });
    expect(report.partitions).toEqual(report.table?.partitions.filter(({ number }) => number === 1 || number === 6));
    expect(await readdir(folder)).toEqual(['disk-pt.vmdk', 'disk.vmdk', 'host.img']);
    const host = readFileSync(device);
    const wanted = new Uint8Array(SIZE);
    const ranges = [{ start: 0, count: 64 }, ONE, { start: 3000, count: 1 }, { start: 4000, count: 1 }, SIX];
    for (const { start, count } of ranges) {
      wanted.set(host.subarray(start * SECTOR, (start + count) * SECTOR), start * SECTOR);
    }
    expect(Buffer.compare(await contentOf(image, [device]), wanted)).toBe(0);
    expect(await checkImage(image, { allow: [device] })).toMatchObject({ findings: [] });
    await using disk = await openDisk(image, { mode: 'write', allow: [device] });
    const { partitions } = await listPartitions(disk);
    expect(partitions.map(({ number }) => number)).toEqual([1, 2, 3, 5, 6]);
    await disk.write(0, new Uint8Array(SECTOR));
    await disk.write(SIX.start * SECTOR, new Uint8Array(SECTOR).fill(7));
    await disk.flush();
    const now = readFileSync(device);
    expect(Buffer.compare(now.subarray(0, SECTOR), host.subarray(0, SECTOR))).toBe(0);
    expect(now[SIX.start * SECTOR]).toBe(7);
    expect(
      Buffer.compare(
        now.subarray(TWO.start * SECTOR, FIVE.start * SECTOR),
        host.subarray(TWO.start * SECTOR, FIVE.start * SECTOR),
      ),
    ).toBe(0);
  });

  it('is refused for partitions that are not there, and without a table', async () => {
    await expect(createRawDisk(image, device, { partitions: [9] })).rejects.toMatchObject({ kind: 'not-found' });
    await expect(createRawDisk(image, device, { partitions: [3] })).rejects.toMatchObject({ kind: 'unsupported' });
    writeFileSync(device, new Uint8Array(SIZE));
    await expect(createRawDisk(image, device, { partitions: [1] })).rejects.toMatchObject({ kind: 'unsupported' });
    expect(await readdir(folder)).toEqual(['host.img']);
  });
});

describe('partitions of a GPT', () => {
  /** The first partition begins there. */
  it.each([34, 2048])('are shown between both copies of the table: sector %d', async (first) => {
    const last = 5999;
    const slots = [
      { type: LINUX, id: SOME_ID, first, last: 2999 },
      { type: LINUX, id: ID, first: 5000, last },
    ];
    const host = gptDisk(SIZE, slots);
    // What no table takes is filled: the places between partitions, too.
    for (let sector = 34; sector < SIZE / SECTOR - 34; sector++)
      host.fill((sector % 250) + 1, sector * SECTOR, (sector + 1) * SECTOR);
    writeFileSync(device, host);
    const { partitions, table: found, warnings } = await createRawDisk(image, device, { partitions: [2] });
    expect(partitions?.map(({ number, offset, guid }) => [number, offset, guid])).toEqual([[2, 5000 * SECTOR, ID]]);
    expect([found?.kind, warnings]).toEqual(['gpt', []]);
    const wanted = new Uint8Array(SIZE);
    const end = SIZE / SECTOR;
    // Tables and boot loaders are at most the first and the last MiB, and lie outside of all partitions.
    const ranges = [
      [0, Math.min(first, 2048)],
      [5000, last + 1],
      [Math.max(last + 1, end - 2048), end],
    ] as const;
    for (const [from, to] of ranges) wanted.set(host.subarray(from * SECTOR, to * SECTOR), from * SECTOR);
    expect(Buffer.compare(await contentOf(image, [device]), wanted)).toBe(0);
    await using disk = await openDisk(image, { allow: [device] });
    expect(await listPartitions(disk)).toMatchObject({ kind: 'gpt', warnings: [], partitions: found?.partitions });
  });

  it('are found by the copy at the end where the first table is damaged, which is reported', async () => {
    const host = gptDisk(SIZE, [{ type: LINUX, id: ID, first: 2048, last: 5999 }]);
    host[600] = 1;
    writeFileSync(device, host);
    const { partitions, warnings } = await createRawDisk(image, device, { partitions: [1] });
    expect(partitions?.map(({ number }) => number)).toEqual([1]);
    expect(warnings).toEqual([expect.stringContaining('The copy at the end is.')]);
  });

  it('are refused where they overlap', async () => {
    const slots = [
      { type: LINUX, id: SOME_ID, first: 2048, last: 5000 },
      { type: LINUX, id: ID, first: 5000, last: 5999 },
    ];
    writeFileSync(device, gptDisk(SIZE, slots));
    await expect(createRawDisk(image, device, { partitions: [1, 2] })).rejects.toMatchObject({ kind: 'corrupt' });
    expect(await readdir(folder)).toEqual(['host.img']);
  });
});

describe('a loop device', () => {
  it('is described, read and written', async ({ skip }) => {
    let loop = '';
    try {
      loop = execFileSync('losetup', ['--find', '--show', device], { encoding: 'utf8', stdio: 'pipe' }).trim();
    } catch {
      skip('no loop device can be made here');
    }
    try {
      await createRawDisk(image, loop, { writable: true });
      await expect(openDisk(image, { allow: ['/dev'] })).rejects.toMatchObject({ kind: 'denied' });
      expect(Buffer.compare(await contentOf(image, [loop]), readFileSync(device))).toBe(0);
      {
        await using disk = await openDisk(image, { mode: 'write', allow: [loop] });
        await disk.write(700, new Uint8Array(900).fill(0xab));
      }
      expect((await contentOf(image, [loop])).subarray(700, 1600).every((byte) => byte === 0xab)).toBe(true);
      await removeImage(image, { allow: [loop] });
    } finally {
      execFileSync('losetup', ['--detach', loop]);
    }
  });
});
