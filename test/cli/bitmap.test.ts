/** `vdkit bitmap`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Disk } from '../../src/index.ts';
import { type Outcome, runCli } from './run-cli.ts';

let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-bitmap-'));
  await ok('create', at('disk.qcow2'), '1M');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ok = async (...words: string[]): Promise<Outcome> => {
  const outcome = await runCli(words);
  expect({ status: outcome.status, stderr: outcome.stderr }).toMatchObject({ status: 0 });
  return outcome;
};
const list = async (): Promise<unknown> =>
  JSON.parse((await ok('bitmap', 'list', at('disk.qcow2'), '--json')).stdout).bitmaps;

describe('vdkit bitmap', () => {
  it('adds, lists, switches, merges, clears and removes', async () => {
    const image = at('disk.qcow2');
    expect((await ok('bitmap', 'list', image)).stderr).toContain('has no bitmaps');
    expect((await ok('bitmap', 'add', image, 'one')).stderr).toContain('bitmap "one" is added');
    await ok('bitmap', 'add', image, 'two', '--granularity', '4K', '--disabled');
    await ok('bitmap', 'enable', image, 'two');
    await ok('bitmap', 'disable', image, 'one');
    await ok('bitmap', 'merge', image, 'one', 'two');
    await ok('bitmap', 'clear', image, 'one');
    expect(await list()).toEqual([
      { name: 'one', granularity: 65_536, enabled: false, inconsistent: false },
      { name: 'two', granularity: 4096, enabled: true, inconsistent: false },
    ]);
    const text = '"one", one bit per 64 KiB, not recording\n"two", one bit per 4 KiB, recording\n';
    expect((await ok('bitmap', 'list', image)).stdout).toBe(text);
    {
      await using disk = await Disk.open(image, { mode: 'write' });
      await disk.write(0, new Uint8Array(512).fill(1));
    }
    expect(await list()).toMatchObject([{ inconsistent: false }, { inconsistent: false }]);
    await ok('bitmap', 'remove', image, 'two');
    expect(await list()).toMatchObject([{ name: 'one' }]);
  });

  it('says what is wrong with the words', async () => {
    for (const words of [
      ['list', at('disk.qcow2'), 'x'],
      ['add', at('disk.qcow2')],
      ['merge', at('disk.qcow2'), 'x'],
      ['clear', at('disk.qcow2'), 'x', '--disabled'],
      ['drop', at('disk.qcow2'), 'x'],
    ]) {
      expect((await runCli(['bitmap', ...words])).status).toBe(64);
    }
  });

  it('fails where there is no such bitmap, and where there can be none', async () => {
    const missing = await runCli(['bitmap', 'clear', at('disk.qcow2'), 'one']);
    expect([missing.status, missing.stderr]).toEqual([1, expect.stringContaining('has no bitmap "one"')]);
    await ok('create', at('disk.vdi'), '1M');
    for (const words of [
      ['list', at('disk.vdi')],
      ['add', at('disk.vdi'), 'x'],
    ]) {
      const outcome = await runCli(['bitmap', ...words]);
      expect([outcome.status, outcome.stderr]).toEqual([1, expect.stringContaining('does not support bitmaps')]);
    }
  });
});
