import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { CACHES, defaultRegistry, FORMATS } from './index.ts';
import { RECOGNISED } from './recognised/index.ts';
import { SIGNED_WRAPPERS } from './recognised/wrappers.ts';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));

describe('the list of formats', () => {
  it('names the format of every folder, raw last', async () => {
    const entries = await readdir(FOLDER, { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory() && entry.name !== 'recognised');
    const known = new Set(RECOGNISED.map((format) => format.name));
    const opened = FORMATS.map((format) => format.name).filter((name) => !known.has(name));
    const all = [...opened, ...CACHES.map((format) => format.name)];
    expect(all.sort()).toEqual(folders.map((entry) => entry.name).sort());
    expect(FORMATS.at(-1)?.name).toBe('raw');
  });

  it('has what every file of the recognised formats exports', async () => {
    const files = (await readdir(`${FOLDER}recognised`)).filter((name) => /^[a-z0-9-]+\.ts$/.test(name));
    const families = files
      .map((name) => name.replace('.ts', ''))
      .filter((name) => !['index', 'look', 'recognise', 'refuse', 'wrappers'].includes(name));
    const listed = new Set(RECOGNISED.map((format) => format.name));
    // One file has a table of them.
    const rows = SIGNED_WRAPPERS.map((format) => format.name);
    expect([...listed].sort()).toEqual([...families, ...rows].sort());
  });

  it('makes a separate registry for each caller', () => {
    const one = defaultRegistry();
    const [vdi] = FORMATS;
    expect(vdi?.name).toBe('vdi');
    if (vdi === undefined) return;
    one.register({ ...vdi, name: 'mine', aliases: [] });
    expect(one.formats).toHaveLength(FORMATS.length + 1);
    expect(defaultRegistry().formats).toEqual(FORMATS);
  });

  it.each(FORMATS)('$name describes itself well', (format) => {
    expect(format.name).toMatch(/^[a-z0-9]+$/);
    expect(format.title).not.toBe('');
    const { extensions, aliases, capabilities } = format;
    for (const { extension } of extensions) expect(extension).toMatch(/^[a-z0-9]+$/);
    for (const alias of aliases) expect(alias).toMatch(/^[a-z0-9]+$/);
    expect(format.create !== undefined).toBe(capabilities.createFixed || capabilities.createDynamic);
    expect(format.plan !== undefined).toBe(format.create !== undefined);
    if (!capabilities.read) expect(capabilities.write).toBe(false);
  });

  it.each([
    ['disk.vdi', 'vdi'],
    ['disk.VMDK', 'vmdk'],
    ['disk.vhd', 'vhd'],
    ['disk.avhdx', 'vhdx'],
    ['disk.qcow2', 'qcow2'],
    ['disk.hdd', 'parallels'],
    ['disc.iso', 'raw'],
    ['disk.img', 'raw'],
    ['disk.raw', 'raw'],
    ['disc.cue', 'cue'],
    ['disc.viso', 'viso'],
  ])('knows %s by its name', (name, format) => {
    expect(defaultRegistry().byExtension(name)?.name).toBe(format);
  });
});
