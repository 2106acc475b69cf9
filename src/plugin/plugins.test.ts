/** Formats, caches and filters from modules: loading, refusing, unloading. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  CACHES,
  createImage,
  Disk,
  defaultRegistry,
  detectFormat,
  FILTERS,
  type PluginRegister,
  Plugins,
  type Registry,
} from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';

const EXAMPLE = new URL('../../examples/VDPluginBoxes.mjs', import.meta.url).pathname;
const MIB = 1024 ** 2;

let folder: string;
let registry: Registry;
let plugins: Plugins;
const at = (name: string): string => join(folder, name);
const put = (name: string, text: string): string => {
  writeFileSync(at(name), text);
  return at(name);
};
const names = (): string[] => registry.formats.map(({ name }) => name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-plugins-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  registry = defaultRegistry();
  plugins = new Plugins(registry);
});

const FILTER = "{ name: 'nothing', title: 'none', configKeys: [], open: () => ({ close() {} }) }";

describe('a plugin', () => {
  it('is loaded once, and what it registers is used like anything else', async () => {
    const loaded = await plugins.load(EXAMPLE);
    expect(loaded).toEqual({ name: EXAMPLE, formats: ['boxes'], caches: [], filters: ['invert'], inUse: 0 });
    expect(await plugins.load(EXAMPLE)).toEqual(loaded);
    expect(plugins.list).toEqual([loaded]);
    // Behind the built-in formats, and before the one that takes everything.
    expect(names().slice(-2)).toEqual(['boxes', 'raw']);
    const image = { provider: new MemoryProvider(), name: '/a.boxes' };
    await using disk = await Disk.create(image, { registry, size: MIB });
    await disk.filters.add('INVERT');
    await disk.write(1000, Uint8Array.of(1, 2, 3));
    const bytes = new Uint8Array(4);
    await disk.read(999, bytes);
    expect(bytes).toEqual(Uint8Array.of(0, 1, 2, 3));
    await disk.flush();
    expect(await detectFormat(image, { registry })).toMatchObject({ format: 'boxes' });
  });

  it('is not unloaded while something of it is open', async () => {
    await plugins.load(EXAMPLE);
    const image = { provider: new MemoryProvider(), name: '/a.boxes' };
    const disk = await Disk.create(image, { registry, size: MIB });
    await disk.filters.add('invert');
    expect(plugins.list).toMatchObject([{ inUse: 2 }]);
    expect(() => plugins.unload(EXAMPLE)).toThrow(
      expect.objectContaining({ kind: 'busy', status: 'VERR_RESOURCE_BUSY' }),
    );
    await disk.filters.removeAll();
    expect(plugins.list).toMatchObject([{ inUse: 1 }]);
    await disk.close();
    plugins.unload(EXAMPLE);
    expect(plugins.list).toEqual([]);
    expect(names()).not.toContain('boxes');
    expect(() => registry.findFilter('invert')).toThrow();
    expect(() => plugins.unload(EXAMPLE)).toThrow(expect.objectContaining({ kind: 'not-found' }));
    await plugins.load(EXAMPLE);
    expect(names()).toContain('boxes');
  });

  it('is loaded again after it was unloaded', async () => {
    const file = put('VDPluginChanging.mjs', `export function VDPluginLoad(r) { r.registerFilter(${FILTER}); }`);
    await plugins.load(file);
    plugins.unload(file);
    put('VDPluginChanging.mjs', `export function VDPluginLoad(r) { r.registerFilter({ ...${FILTER}, name: 'new' }); }`);
    expect(await plugins.load(file)).toMatchObject({ filters: ['new'] });
  });

  it.each([
    ['no module', 'this is no JavaScript', 'invalid-format', /cannot be loaded as a module/],
    ['no plugin', 'export const a = 1;', 'invalid-format', /is not a plugin/],
    [
      'one that throws',
      'export function VDPluginLoad() { throw new Error("no"); }',
      'invalid-format',
      /failed when it was/,
    ],
    [
      'one that registers nonsense',
      'export function VDPluginLoad(r) { r.registerFormat(5); }',
      'invalid-format',
      /is not a format/,
    ],
    [
      'a filter without its functions',
      'export function VDPluginLoad(r) { r.registerFilter({ name: "a", title: "a", configKeys: [] }); }',
      'invalid-format',
      /is not a filter/,
    ],
    [
      'a cache without its functions',
      'export function VDPluginLoad(r) { r.registerCache({ name: "a", title: "a" }); }',
      'invalid-format',
      /is not a cache format/,
    ],
    [
      'a name that is taken',
      `export function VDPluginLoad(r) { r.registerFilter(${FILTER}); r.registerFilter({ ...${FILTER}, name: 'ByteSwap' }); }`,
      'exists',
      /already registered/,
    ],
  ])('that is %s is refused, and nothing of it stays', async (title, text, kind, message) => {
    const file = put(`VDPlugin-${title.replaceAll(' ', '-')}.mjs`, text);
    const before = [names(), registry.filters.length, registry.caches.length];
    await expect(plugins.load(file)).rejects.toMatchObject({ kind });
    await expect(plugins.load(file)).rejects.toThrow(message);
    expect([names(), registry.filters.length, registry.caches.length]).toEqual(before);
    expect(plugins.list).toEqual([]);
    expect([FILTERS.length, CACHES.length]).toEqual([registry.filters.length, registry.caches.length]);
  });

  it('registers only while it is loaded', async () => {
    let late = (): void => {};
    await plugins.add('late', {
      VDPluginLoad: (register: { registerFilter: (filter: unknown) => void }) => {
        late = () => register.registerFilter({ name: 'late', title: '', configKeys: [], open: () => ({}) });
      },
    });
    expect(late).toThrow(/has ended/);
    await expect(plugins.add('late', { VDPluginLoad() {} })).rejects.toMatchObject({ kind: 'exists' });
  });

  it('that does not exist is reported as missing', async () => {
    await expect(plugins.load(at('missing.mjs'))).rejects.toMatchObject({ kind: 'not-found' });
    await expect(plugins.loadAll(at('missing'))).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('may have a format whose images are no files: it composes where one is, and how people call it', async () => {
    await plugins.add('remote', {
      VDPluginLoad: ({ registerFormat }: PluginRegister) =>
        registerFormat({
          name: 'remote',
          title: 'far away',
          probe: () => ({ match: 'no', reason: 'it is no file' }),
          open: () => Promise.reject(new Error('there is no network here')),
          composeLocation: ({ host, disk }) => (host === undefined ? null : `remote://${host}/${disk}`),
          composeName: ({ disk }) => (disk === undefined ? null : `disk ${disk}`),
        }),
    });
    const format = registry.find('remote');
    expect(format.composeLocation?.({ host: 'a', disk: 3 })).toBe('remote://a/3');
    expect(format.composeLocation?.({})).toBeNull();
    expect(format.composeName?.({ disk: 3 })).toBe('disk 3');
    expect(registry.find('vdi').composeLocation).toBeUndefined();
  });

  it('with a format that fails to look at files does no harm to others', async () => {
    await plugins.add('bad', {
      VDPluginLoad: ({ registerFormat }: never) => {
        const format = {
          ...{ name: 'bad', title: 'bad' },
          probe: () => {
            throw new Error('no');
          },
          open: async () => {
            throw new TypeError('x is not a function');
          },
        };
        (registerFormat as (format: unknown) => void)(format);
      },
    });
    const image = { provider: new MemoryProvider(), name: '/a.vdi' };
    await createImage(image, { registry, size: MIB });
    expect(await detectFormat(image, { registry })).toMatchObject({ format: 'vdi' });
    await expect(Disk.open(image, { registry, format: 'bad' })).rejects.toMatchObject({ kind: 'unsupported' });
  });
});

describe('a directory of plugins', () => {
  it('is loaded by its names, and a broken one keeps no other away', async () => {
    const own = mkdtempSync(join(folder, 'all-'));
    writeFileSync(
      join(own, 'VDPluginA.mjs'),
      `export function VDPluginLoad(r) { r.registerFilter({ ...${FILTER}, name: 'a' }); }`,
    );
    writeFileSync(join(own, 'VDPluginB.js'), 'this is broken');
    writeFileSync(
      join(own, 'VDPluginC.mjs'),
      `export function VDPluginLoad(r) { r.registerFilter({ ...${FILTER}, name: 'c' }); }`,
    );
    writeFileSync(join(own, 'OtherD.mjs'), 'throw new Error("never loaded");');
    writeFileSync(join(own, 'VDPluginE.txt'), 'throw new Error("never loaded");');
    const { loaded, failed } = await plugins.loadAll(own);
    expect(loaded.map(({ filters }) => filters)).toEqual([['a'], ['c']]);
    expect(failed).toMatchObject([{ name: join(own, 'VDPluginB.js'), error: { kind: 'invalid-format' } }]);
    const image = { provider: new MemoryProvider(), name: '/a.vdi' };
    await using disk = await Disk.create(image, { registry, size: MIB });
    await disk.filters.add('a', { info: true });
    expect(await plugins.unloadAll(own)).toEqual([join(own, 'VDPluginA.mjs')]);
    expect(plugins.list.map(({ filters }) => filters)).toEqual([['a']]);
  });
});
