/** `vdkit snapshot`, and looking into snapshots with other commands. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Disk } from '../../src/index.ts';
import { type Outcome, runCli } from './run-cli.ts';

let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-snapshot-'));
  await ok('create', at('disk.qcow2'), '1M');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ok = async (...words: string[]): Promise<Outcome> => {
  const outcome = await runCli(words);
  expect({ status: outcome.status, stderr: outcome.stderr }).toMatchObject({ status: 0 });
  return outcome;
};
const json = async (...words: string[]): Promise<Record<string, unknown>> =>
  JSON.parse((await ok(...words, '--json')).stdout);

async function write(byte: number): Promise<void> {
  await using disk = await Disk.open(at('disk.qcow2'), { mode: 'write' });
  await disk.write(0, new Uint8Array(4096).fill(byte));
}

describe('vdkit snapshot', () => {
  it('creates, lists, renames, applies and deletes', async () => {
    const image = at('disk.qcow2');
    expect((await ok('snapshot', 'list', image)).stderr).toContain('has no snapshots');
    await write(1);
    expect((await ok('snapshot', 'create', image, 'monday')).stderr).toContain('snapshot "monday" created');
    await write(2);
    expect(await json('snapshot', 'create', image, 'tuesday')).toMatchObject({
      schema: 'vdkit/snapshot/1',
      file: image,
      snapshots: [
        { id: '1', name: 'monday', virtualSize: 2 ** 20, vmStateSize: 0 },
        { id: '2', name: 'tuesday' },
      ],
    });
    await ok('snapshot', 'rename', image, 'monday', 'good');
    expect((await ok('snapshot', 'list', image)).stdout).toMatch(/^1 "good", 1 MiB, 20.*\n2 "tuesday", 1 MiB, 20.*\n$/);
    expect((await runCli(['compare', image, image, '--snapshot-b', 'good'])).status).toBe(1);
    await ok('compare', image, image, '--snapshot-b', 'tuesday');
    await ok('compare', image, image, '--snapshot', 'good', '--snapshot-b', '1');
    await ok('snapshot', 'apply', image, 'good');
    await ok('compare', image, image, '--snapshot', 'good');
    await ok('snapshot', 'delete', image, '1');
    expect((await json('snapshot', 'list', image))['snapshots']).toHaveLength(1);
    await using disk = await Disk.open(image);
    const bytes = new Uint8Array(4096);
    await disk.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(4096).fill(1));
  });

  it('info tells of the disk as it was', async () => {
    await ok('snapshot', 'create', at('disk.qcow2'), 'monday');
    expect(await json('info', at('disk.qcow2'), '--snapshot', 'monday')).toMatchObject({ virtualSize: 2 ** 20 });
    expect((await runCli(['info', at('disk.qcow2'), '--snapshot', 'friday'])).status).toBe(1);
  });

  it('says what is wrong with the words', async () => {
    for (const words of [
      ['list', at('disk.qcow2'), 'x'],
      ['create', at('disk.qcow2')],
      ['rename', at('disk.qcow2'), 'x'],
      ['undo', at('disk.qcow2')],
      ['list'],
    ]) {
      expect((await runCli(['snapshot', ...words])).status).toBe(64);
    }
  });

  it('fails where there is no such snapshot, and where there can be none', async () => {
    const missing = await runCli(['snapshot', 'apply', at('disk.qcow2'), 'monday']);
    expect([missing.status, missing.stderr]).toEqual([1, expect.stringContaining('has no snapshot "monday"')]);
    await ok('create', at('disk.vdi'), '1M');
    for (const action of ['list', 'create']) {
      const words = ['snapshot', action, at('disk.vdi'), ...(action === 'create' ? ['x'] : [])];
      const outcome = await runCli(words);
      expect([outcome.status, outcome.stderr]).toEqual([
        1,
        expect.stringContaining('does not support internal snapshots'),
      ]);
    }
  });
});
