/** `vdkit cache`, `--cache` and `vdkit filters`. */

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from './run-cli.ts';

let folder: string;
const at = (name: string): string => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-cache-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('cache files on the command line', () => {
  it('are made, used, shown, emptied and removed', async () => {
    await runCli(['create', at('a.vdi'), '16M']);
    const made = await runCli(['cache', 'create', at('a.vci'), '8M', '--json']);
    expect(made.status).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({ schema: 'vdkit/cache/1', capacity: 8 * 2 ** 20, identity: null });
    const raw = await runCli(['convert', at('a.vdi'), at('b.raw'), '--cache', at('a.vci')]);
    expect(raw.status).toBe(0);
    const same = await runCli(['compare', at('a.vdi'), at('b.raw'), '--cache', at('a.vci')]);
    expect(same.status).toBe(0);
    const info = await runCli(['cache', 'info', at('a.vci')]);
    expect(info.stdout).toMatch(/state: for image [0-9a-f-]{36}/);
    const dropped = await runCli(['cache', 'drop', at('a.vci')]);
    expect(dropped.stdout).toMatch(/state: empty/);
    expect((await runCli(['cache', 'drop', at('a.vci'), '--remove'])).status).toBe(0);
    expect((await runCli(['cache', 'info', at('a.vci')])).status).toBe(1);
  });

  it('are made where they are missing, and emptied with a warning where the image changed', async () => {
    await runCli(['create', at('c.vdi'), '16M']);
    const first = await runCli(['compare', at('c.vdi'), at('c.vdi'), '--cache', at('c.vci'), '--cache-size', '2M']);
    expect(first.status).toBe(0);
    expect(statSync(at('c.vci')).size).toBeLessThanOrEqual(2 * 2 ** 20);
    await runCli(['create', at('c.vdi'), '16M', '--force']);
    const second = await runCli(['compare', at('c.vdi'), at('c.vdi'), '--cache', at('c.vci')]);
    expect(second.status).toBe(0);
    expect(second.stderr).toMatch(/did not match the current state of the images and was emptied/);
  });

  it.each([
    [['cache', 'create', 'x.vci'], /Missing argument/],
    [['cache', 'create', 'x.vci', '1K'], /size of the cache is not valid/],
    [['cache', 'info', 'x.vci', '2M'], /Too many arguments/],
    [['cache', 'info', 'a.vdi'], /not a cache image/],
    [['cache', 'info', 'a.vdi', '--fixed'], /--fixed applies only to "cache create"/],
    [['compare', 'a.vdi', 'a.vdi', '--cache-size', '2M'], /--cache-size requires/],
    [['compare', 'a.vdi', 'a.vdi', '--cache', 'a.vdi'], /not a cache image|has this image open/],
  ])('refuse %j', async (words, message) => {
    await runCli(['create', at('a.vdi'), '16M', '--force']);
    const { status, stderr } = await runCli(words.map((word) => (/\.\w+$/.test(word) ? at(word) : word)));
    expect(status).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});

describe('filters on the command line', () => {
  it('are listed with what they take', async () => {
    expect((await runCli(['filters'])).stdout).toMatch(/^byteswap: .*\n {2}width \(integer, default 2\)/);
    expect(JSON.parse((await runCli(['filters', '--json'])).stdout)).toMatchObject({
      filters: [{ name: 'byteswap', configKeys: [{ name: 'width' }] }],
    });
  });
});

describe('plugins on the command line', () => {
  const plugin = new URL('../../examples/VDPluginBoxes.mjs', import.meta.url).pathname;

  it('bring formats and filters for the call that names them', async () => {
    const formats = await runCli(['formats', '--json', '--plugin', plugin]);
    const listed = JSON.parse(formats.stdout);
    expect(listed.formats.map(({ name }: { name: string }) => name)).toContain('boxes');
    expect(listed.caches).toMatchObject([{ name: 'vci' }]);
    expect(listed.filters.map(({ name }: { name: string }) => name)).toEqual(['byteswap', 'invert']);
    expect((await runCli(['create', at('p.boxes'), '1M', '--plugin', plugin])).status).toBe(0);
    expect((await runCli(['info', at('p.boxes'), '--plugin', plugin])).stdout).toMatch(/boxes/);
    expect((await runCli(['convert', at('p.boxes'), at('p.vdi'), '--plugin', plugin])).status).toBe(0);
    expect((await runCli(['info', at('p.boxes')])).stdout).toMatch(/raw/);
  });

  it('are loaded from a directory, and refused with the reason', async () => {
    const folder = new URL('../../examples/', import.meta.url).pathname;
    expect((await runCli(['filters', '--plugin', folder])).stdout).toMatch(/^invert: /m);
    const missing = await runCli(['filters', '--plugin', at('missing.mjs')]);
    expect([missing.status, missing.stderr]).toEqual([1, expect.stringMatching(/No plugin of that name/)]);
    const none = await runCli(['filters', '--plugin', at('a.vdi')]);
    expect([none.status, none.stderr]).toEqual([1, expect.stringMatching(/cannot be loaded as a module/)]);
  });
});
