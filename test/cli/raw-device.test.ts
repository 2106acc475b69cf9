/** `create --raw-device`: a file stands for the disk, and a loop device where one can be made. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { putSlots } from '../vfs/tables.ts';
import { runCli } from './run-cli.ts';

const MIB = 2 ** 20;
const SECTOR = 512;
const ID = '7d5f9c30-1a2b-4c3d-8e4f-001122334455';

let folder = '';
let device = '';
let image = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-cli-raw-'));
  // Elsewhere than the image: what lies beside an image needs no permission.
  device = join(mkdtempSync(join(tmpdir(), 'vdkit-host-')), 'host.img');
  image = join(folder, 'disk.vmdk');
  const disk = new Uint8Array(2 * MIB);
  for (let sector = 0; sector < disk.length / SECTOR; sector++) {
    disk.fill((sector % 250) + 1, sector * SECTOR, (sector + 1) * SECTOR);
  }
  disk.fill(0, 0, SECTOR);
  const slots = [
    { type: 0x83, start: 100, count: 500 },
    { type: 0x07, start: 1000, count: 700 },
  ];
  putSlots(disk, 0, slots);
  writeFileSync(device, disk);
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(join(device, '..'), { recursive: true, force: true });
});

async function json(...words: string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await runCli(['--json', ...words]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as Record<string, unknown>;
}

describe('create --raw-device', () => {
  it('describes the whole device, which opens with --allow alone', async () => {
    const made = await json('create', image, '--raw-device', device, '--uuid', ID, '--comment', 'host');
    expect(made).toMatchObject({
      ...{ schema: 'vdkit/create/1', file: image, format: 'vmdk', virtualSize: 2 * MIB, uuid: ID, comment: 'host' },
      ...{ device, mode: 'device', writable: false, partitionTable: null, partitions: null, parts: [] },
      details: { 'create type': 'fullDevice' },
    });
    const refused = await runCli(['convert', image, join(folder, 'out.raw')]);
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('--allow') });
    expect((await runCli(['convert', image, join(folder, 'out.raw'), '--allow', device])).status).toBe(0);
    expect(readFileSync(join(folder, 'out.raw')).equals(readFileSync(device))).toBe(true);
    expect((await runCli(['compare', image, device, '--allow', device])).status).toBe(0);
  });

  it('describes partitions, and reports what it shows', async () => {
    const words = ['create', image, '--raw-device', device, '--partitions', '2', '--raw-writable'];
    const made = await json(...words);
    expect(made).toMatchObject({
      ...{ device, mode: 'partitions', writable: true, virtualSize: 2 * MIB },
      partitionTable: { kind: 'mbr', sectorSize: SECTOR },
      partitions: [{ number: 2, offset: 1000 * SECTOR, length: 700 * SECTOR, type: '0x07' }],
      parts: [{ file: join(folder, 'disk-pt.vmdk'), role: 'extent' }],
    });
    const info = await json('info', image, '--allow', device);
    expect(info['uuid']).toBe(made['uuid']);
    expect(info['partitions']).toMatchObject([{ number: 1 }, { number: 2 }]);
    const out = join(folder, 'out.raw');
    expect((await runCli(['convert', image, out, '--allow', device])).status).toBe(0);
    const [host, shown] = [readFileSync(device), readFileSync(out)];
    expect(shown.subarray(1000 * SECTOR, 1700 * SECTOR).equals(host.subarray(1000 * SECTOR, 1700 * SECTOR))).toBe(true);
    expect(shown.subarray(100 * SECTOR, 1000 * SECTOR).every((byte) => byte === 0)).toBe(true);
  });

  it('says in a sentence what was made, and how to open it', async () => {
    const { stderr } = await runCli(['create', image, '--raw-device', device, '--partitions', '1,2']);
    expect(stderr).toContain(
      `describes partitions 1, 2 of ${device}, 2 MiB, for reading; open it with --allow ${device}`,
    );
  });

  it.each([
    [['1G'], 'Omit the size'],
    [['--variant', 'fixed'], '--variant does not apply'],
    [['--parent', 'x.vmdk'], '--parent does not apply'],
    [['--block-size', '64K'], '--block-size does not apply'],
    [['--option', 'a=b'], '--option does not apply'],
    [['--preallocation', 'full'], '--preallocation does not apply'],
    [['--partitions', '1,x'], 'is not a list of numbers'],
    [['--partitions', '9'], 'There are: 1, 2.'],
    [['--uuid', 'x'], '--uuid takes a UUID'],
    [['--to', 'vdi'], 'cannot describe a device'],
  ])('refuses %j', async (words, text) => {
    const { status, stderr } = await runCli(['create', image, '--raw-device', device, ...words]);
    expect(status).not.toBe(0);
    expect(stderr).toContain(text);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([['--partitions', '1'], ['--raw-writable']])('is named by what needs it: %s', async (...words) => {
    const { status, stderr } = await runCli(['create', image, '1M', ...words]);
    expect(status).not.toBe(0);
    expect(stderr).toContain(`${words[0]} needs --raw-device`);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('takes a block device, and writes to it when asked to', async ({ skip }) => {
    let loop = '';
    try {
      loop = execFileSync('losetup', ['--find', '--show', device], { encoding: 'utf8', stdio: 'pipe' }).trim();
    } catch {
      skip('no loop device can be made here');
    }
    try {
      const made = await json('create', image, '--raw-device', loop, '--raw-writable');
      expect(made).toMatchObject({ device: loop, mode: 'device', writable: true, virtualSize: 2 * MIB, parts: [] });
      const source = join(folder, 'new.raw');
      writeFileSync(source, new Uint8Array(2 * MIB).fill(0x5a));
      expect((await runCli(['compare', image, loop, '--allow', loop])).status).toBe(0);
      expect((await runCli(['delete', image, '--allow', loop])).status).toBe(0);
      expect(readdirSync(folder)).toEqual(['new.raw']);
    } finally {
      execFileSync('losetup', ['--detach', loop]);
    }
  });
});
