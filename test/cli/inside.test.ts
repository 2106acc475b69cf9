/** `--offset` and `--partition`: images inside of disks and files, with every command that opens one. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { gptDisk, LINUX, SOME_ID } from '../vfs/tables.ts';
import { runCli } from './run-cli.ts';

const MIB = 2 ** 20;
let folder: string;
const at = (name: string): string => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-inside-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function ok(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCli(words);
  expect({ status, stderr: stderr.includes('error:') ? stderr : '' }).toEqual({ status: 0, stderr: '' });
  return stdout;
}
const json = async (...words: string[]) => JSON.parse(await ok(...words, '--json'));

/** An image of that format with a pattern in it. */
async function inner(format: string): Promise<Buffer> {
  const raw = Buffer.alloc(4 * MIB);
  raw.fill(0x5a, MIB, MIB + 4096);
  writeFileSync(at('content.raw'), raw);
  await ok('convert', at('content.raw'), at(`inner.${format}`), '--format', 'raw', '--force');
  return readFileSync(at(`inner.${format}`));
}

/** A raw disk with the image in its second partition. */
async function partitioned(format = 'vdi'): Promise<string> {
  const slot = { type: LINUX, id: SOME_ID, first: 2048, last: 2048 + 65_535, name: 'data' };
  const disk = gptDisk(40 * MIB, [null, slot]);
  disk.set(await inner(format), MIB);
  writeFileSync(at('disk.raw'), disk);
  return at('disk.raw');
}
const IN = ['--partition', '2'] as const;

describe('an image in a partition', () => {
  it('is looked at, mapped, measured, checked, compared and converted', async () => {
    const disk = await partitioned();
    const before = readFileSync(disk);
    expect(await json('info', disk, ...IN)).toMatchObject({
      format: 'vdi',
      file: `${disk} (partition 2)`,
      virtualSize: 4 * MIB,
      partitionTable: null,
    });
    const { extents } = await json('map', disk, ...IN);
    expect(extents.find(({ state }: { state: string }) => state === 'data')).toMatchObject({ offset: MIB });
    expect((await json('measure', disk, ...IN, '--to', 'raw')).fullyAllocated).toBe(4 * MIB);
    expect(await json('check', disk, ...IN)).toMatchObject({ clean: true, format: 'vdi' });
    expect(await json('compare', disk, at('content.raw'), ...IN)).toMatchObject({ same: true });
    expect(await json('compare', at('content.raw'), disk, '--partition-b', '2')).toMatchObject({ same: true });
    await ok('convert', disk, at('out.raw'), ...IN);
    expect(readFileSync(at('out.raw')).equals(readFileSync(at('content.raw')))).toBe(true);
    await ok('copy', disk, at('copy.vdi'), ...IN);
    expect(await json('compare', at('copy.vdi'), at('content.raw'))).toMatchObject({ same: true });
    // Nothing of that wrote.
    expect(readFileSync(disk).equals(before)).toBe(true);
  });

  it('is changed in its place, and nothing beside it', async () => {
    const disk = await partitioned();
    const before = readFileSync(disk);
    await ok('set', disk, ...IN, '--comment', 'inside');
    await ok('resize', disk, '8M', ...IN);
    await ok('compact', disk, ...IN);
    await ok('check', disk, ...IN, '--repair');
    expect(await json('info', disk, ...IN)).toMatchObject({ comment: 'inside', virtualSize: 8 * MIB });
    expect(await json('compare', disk, at('content.raw'), ...IN)).toMatchObject({ same: true });
    const after = readFileSync(disk);
    expect(after.length).toBe(before.length);
    for (const [from, to] of [
      [0, MIB],
      [MIB + 32 * MIB, 40 * MIB],
    ] as const) {
      expect(after.subarray(from, to).equals(before.subarray(from, to))).toBe(true);
    }
  });

  it('has snapshots and bitmaps as any other', async () => {
    const disk = await partitioned('qcow2');
    await ok('snapshot', 'create', disk, 'monday', ...IN);
    expect(await ok('snapshot', 'list', disk, ...IN)).toContain('monday');
    await ok('bitmap', 'add', disk, 'changes', ...IN);
    expect(await ok('bitmap', 'list', disk, ...IN)).toContain('changes');
    await ok('amend', disk, '-o', 'lazy_refcounts=on', ...IN);
    expect(await json('check', disk, ...IN)).toMatchObject({ clean: true });
  });

  it('may lie in an image of another format', async () => {
    await partitioned();
    await ok('convert', at('disk.raw'), at('disk.qcow2'), '--format', 'raw');
    await ok('set', at('disk.qcow2'), ...IN, '--comment', 'deep');
    expect(await json('info', at('disk.qcow2'), ...IN)).toMatchObject({ comment: 'deep', format: 'vdi' });
    expect(await json('check', at('disk.qcow2'))).toMatchObject({ clean: true });
  });

  it('is raw for writing only when that is said', async () => {
    const disk = await partitioned();
    const file = readFileSync(disk).fill(1, MIB, MIB + 4096);
    writeFileSync(disk, file);
    expect((await json('info', disk, ...IN)).format).toBe('raw');
    const { status, stderr } = await runCli(['resize', disk, '1M', ...IN]);
    expect([status, stderr]).toEqual([1, expect.stringContaining('--format')]);
  });

  it('needs its parent named', async () => {
    await inner('vdi');
    await ok('create', at('diff.vdi'), '--parent', at('inner.vdi'));
    const bytes = readFileSync(at('diff.vdi'));
    writeFileSync(at('bundle'), Buffer.concat([Buffer.alloc(1000), bytes]));
    const { status, stderr } = await runCli(['map', at('bundle'), '--offset', '1000']);
    expect([status, stderr]).toEqual([1, expect.stringContaining('--parent')]);
    await ok('map', at('bundle'), '--offset', '1000', '--parent', at('inner.vdi'));
  });
});

describe('an image at an offset', () => {
  it('is read, written and grows at the end of a file that is no disk', async () => {
    const image = await inner('vdi');
    writeFileSync(at('bundle'), Buffer.concat([Buffer.alloc(777, 7), image]));
    expect(await json('compare', at('bundle'), at('content.raw'), '--offset', '777')).toMatchObject({ same: true });
    await ok('set', at('bundle'), '--offset', '777', '--comment', 'here');
    expect(await json('info', at('bundle'), '--offset', '777')).toMatchObject({ comment: 'here' });
    expect(
      readFileSync(at('bundle'))
        .subarray(0, 777)
        .every((byte) => byte === 7),
    ).toBe(true);
  });
});

describe('what is refused', () => {
  it.each([
    ['create', ['new.vdi', '1M']],
    ['rename', ['disk.raw', 'x.raw']],
    ['delete', ['disk.raw']],
    ['merge', ['disk.raw']],
    ['rebase', ['disk.raw', '--to', 'none']],
    ['commit', ['disk.raw']],
  ])('is %s, which works on whole files', async (command, words) => {
    for (const option of ['--offset', '--partition']) {
      const { status, stderr } = await runCli([command, ...words, option, '2']);
      expect([status, stderr]).toEqual([64, expect.stringContaining(`"vdkit ${command}" works on whole files`)]);
    }
  });

  it('is what says nothing, or too much', async () => {
    const disk = await partitioned();
    const cases: [string[], number, string][] = [
      [['info', disk, '--partition', '2', '--offset', '1M'], 64, 'exclude each other'],
      [['info', disk, '--partition', '0'], 64, '--partition'],
      [['info', disk, '--offset', 'far'], 64, '--offset'],
      [['info', disk, '--partition', '1'], 1, 'There is no partition 1'],
      [['info', disk, '--offset', '1T'], 1, 'beyond the end'],
      [['copy', disk, at('x.vdi'), '--move', ...IN], 64, '--move'],
      [['copy', disk, folder, ...IN], 64, 'no file name to keep'],
      [['formats', '--offset', '1'], 64, 'Unknown option'],
      [['convert', '-', at('x.vdi'), ...IN], 64, 'Standard input'],
      [['info', at('inner.vdi'), '--partition', '1'], 1, 'no partition table'],
    ];
    for (const [words, wanted, text] of cases) {
      const { status, stderr } = await runCli(words);
      expect([words, status, stderr]).toEqual([words, wanted, expect.stringContaining(text)]);
    }
  });
});

describe('info', () => {
  it('lists the partitions of a disk, whatever its format', async () => {
    const disk = await partitioned();
    await ok('convert', disk, at('disk.vdi'), '--format', 'raw');
    for (const name of [disk, at('disk.vdi')]) {
      const { partitionTable, partitions } = await json('info', name);
      expect(partitionTable).toMatchObject({ kind: 'gpt', sectorSize: 512 });
      expect(partitions).toEqual([
        expect.objectContaining({
          number: 2,
          offset: MIB,
          length: 32 * MIB,
          typeName: 'Linux',
          name: 'data',
          guid: SOME_ID,
        }),
      ]);
      const text = await ok('info', name);
      expect(text).toMatch(/^partition table: +GPT$/m);
      expect(text).toMatch(/^partition: +2: 32 MiB at 1048576, Linux, "data"$/m);
    }
  });

  it('says nothing of partitions where the disk cannot be read, and tells of tables that lie', async () => {
    await inner('vdi');
    await ok('create', at('diff.vdi'), '--parent', at('inner.vdi'));
    rmSync(at('inner.vdi'));
    expect(await json('info', at('diff.vdi'))).toMatchObject({ partitionTable: null, partitions: null });
    const broken = gptDisk(8 * MIB, []);
    broken[512 + 60] = 1;
    writeFileSync(at('broken.raw'), broken);
    expect((await runCli(['info', at('broken.raw')])).stderr).toContain('checksum');
  });
});
