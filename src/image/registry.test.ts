import { describe, expect, it } from 'vitest';
import { LIMITS } from '../limits.ts';
import { MemoryStorage } from '../storage/memory.ts';
import type { CacheFormat } from './cache.ts';
import type { Format, Image, ProbeAnswer } from './contract.ts';
import { defineFormat } from './define-format.ts';
import type { Filter } from './filter.ts';
import { probeFormat, readProbeInput } from './probe.ts';
import { describeFormats, extensionOf, Registry } from './registry.ts';

function format(name: string, match: ProbeAnswer['match'] = 'no', more: Partial<Format> = {}): Format {
  return defineFormat({
    name,
    title: name,
    extensions: [{ extension: name, type: 'hdd' }],
    probe: () => ({ match, reason: `because of ${name}` }),
    open: () => Promise.reject<Image>(new Error('not opened here')),
    ...more,
  });
}

const raw = format('raw', 'maybe', {
  fallback: true,
  extensions: [{ extension: 'img', type: 'hdd' }],
});
const input = (name: string) => ({ name, size: 4, head: new Uint8Array(4), tail: new Uint8Array(4) });
const probe = (name: string, ...formats: Format[]) => probeFormat(input(name), new Registry([...formats, raw]));

describe('Registry', () => {
  const registry = new Registry([format('vdi'), format('vhd', 'no', { aliases: ['vpc'] }), raw]);

  it('finds formats by name and alias, whatever the case', () => {
    expect(registry.find('VDI').name).toBe('vdi');
    expect(registry.find('Vpc').name).toBe('vhd');
  });

  it('says which format was meant', () => {
    const error = (hint: string) => expect.objectContaining({ kind: 'not-found', status: 'VERR_NOT_FOUND', hint });
    expect(() => registry.find('vdii')).toThrow(error('Did you mean vdi? Formats: vdi, vhd, raw.'));
    expect(() => registry.find('vpx')).toThrow(error('Did you mean vhd? Formats: vdi, vhd, raw.'));
    expect(() => registry.find('zip-archive')).toThrow(error('Formats: vdi, vhd, raw.'));
    expect(() => registry.find('')).toThrow(error('Formats: vdi, vhd, raw.'));
  });

  it('finds formats by extension, those that can make images first', () => {
    const maker = format('maker', 'no', {
      extensions: [{ extension: 'vdi', type: 'hdd' }],
      create: () => Promise.reject<Image>(new Error('not made here')),
    });
    expect(registry.byExtension('/a.b/Disk.VDI')?.name).toBe('vdi');
    expect(new Registry([format('vdi'), maker]).byExtension('x.vdi')?.name).toBe('maker');
    for (const name of ['disk', '/a.vdi/disk', 'C:\\a.vdi\\disk', 'disk.', 'disk.xyz']) {
      expect(registry.byExtension(name)).toBeUndefined();
    }
    expect(extensionOf('a.tar.GZ')).toBe('gz');
  });

  it('adds a format before the last one and keeps names unique', () => {
    const mine = new Registry([format('vdi'), format('vhd', 'no', { aliases: ['vpc'] }), raw]);
    mine.register(format('mine'));
    expect(mine.formats.map((one) => one.name)).toEqual(['vdi', 'vhd', 'mine', 'raw']);
    const exists = expect.objectContaining({ kind: 'exists' });
    expect(() => mine.register(format('VPC'))).toThrow(exists);
    expect(() => mine.register(format('other', 'no', { aliases: ['Mine'] }))).toThrow(exists);
    expect(() => new Registry([raw, raw])).toThrow(exists);
    expect(registry.formats).toHaveLength(3);
  });

  it('keeps the fallback last, whatever the order, and has one at most', () => {
    const mine = new Registry([raw, format('vdi')]);
    mine.register(format('mine'));
    expect(mine.formats.map((one) => one.name)).toEqual(['vdi', 'mine', 'raw']);
    expect(mine.fallback).toBe(raw);
    const exists = expect.objectContaining({ kind: 'exists' });
    expect(() => mine.register(format('other', 'maybe', { fallback: true }))).toThrow(exists);
    mine.unregister(raw);
    expect(mine.fallback).toBeNull();
    expect(() => probeFormat(input('x'), mine)).toThrow('The format of the file is not recognised');
    mine.register(raw);
    mine.register(format('late'));
    expect(mine.formats.at(-1)).toBe(raw);
  });

  it('has separate filters and cache formats', () => {
    const filter: Filter = {
      name: 'Turn',
      title: 'turns',
      configKeys: [],
      open: () => ({ encode: (_, bytes) => bytes, decode: (_, bytes) => bytes, close() {} }),
    };
    const cache = { name: 'keep', title: 'keeps', extensions: [] } as unknown as CacheFormat;
    const registry = new Registry([format('a')], [filter]);
    expect(registry.filters).toEqual([filter]);
    expect(registry.findFilter('TURN')).toBe(filter);
    expect(() => registry.findFilter('torn')).toThrow(/There is no filter named "torn"/);
    expect(() => registry.registerFilter({ ...filter, name: 'turn' })).toThrow(/already registered/);
    expect(() => registry.findCache()).toThrow(/There is no cache format/);
    registry.registerCache(cache);
    expect(registry.caches).toEqual([cache]);
    expect(registry.findCache('Keep')).toBe(cache);
    expect(registry.findCache()).toBe(cache);
    expect(() => registry.registerCache(cache)).toThrow(/already registered/);
  });

  it('describes its formats', () => {
    const maker = format('maker', 'no', { create: () => Promise.reject<Image>(new Error('not made here')) });
    const described = describeFormats(new Registry([maker, raw]));
    expect(described.map(({ name, create }) => [name, create])).toEqual([
      ['maker', true],
      ['raw', false],
    ]);
    expect(described[0]).not.toHaveProperty('probe');
  });
});

describe('probeFormat', () => {
  it('takes the strongest answer, then the earlier one', () => {
    expect(probe('x', format('a', 'maybe'), format('b', 'yes')).format.name).toBe('b');
    expect(probe('x', format('a', 'maybe'), format('b', 'maybe')).format.name).toBe('a');
    const { candidates } = probe('x', format('a', 'maybe'), format('c'), format('b', 'yes'));
    expect(candidates.map((one) => one.format.name)).toEqual(['b', 'a', 'raw']);
  });

  it('takes raw only when no other format matches, and calls it a guess', () => {
    expect(probe('x', format('a', 'maybe'))).toMatchObject({ guessed: false, answer: { reason: 'because of a' } });
    expect(probe('x', format('a'))).toMatchObject({ guessed: true, format: { name: 'raw' } });
    const sure = new Registry([format('a', 'maybe'), format('raw', 'yes', { fallback: true })]);
    expect(probeFormat(input('x'), sure).format.name).toBe('a');
  });

  it('says when nothing fits', () => {
    const none = new Registry([format('a')]);
    expect(() => probeFormat(input('x'), none)).toThrow(expect.objectContaining({ kind: 'invalid-format' }));
    const empty = { name: 'x', size: 0, head: new Uint8Array(0), tail: new Uint8Array(0) };
    expect(() => probeFormat(empty, none)).toThrow('The file is empty');
  });

  it('warns when the name says something else than the content', () => {
    expect(probe('x.vdi', format('vdi')).warnings).toEqual([
      'x.vdi is named like a vdi image but lacks its signature; it is read as raw.',
    ]);
    expect(probe('x.vdi', format('vdi'), format('b', 'yes')).warnings).toEqual([
      'x.vdi is named like a vdi image but is a b image.',
    ]);
    expect(probe('x.vdi', format('vdi', 'yes')).warnings).toEqual([]);
    expect(probe('x.img', format('vdi', 'yes')).warnings).toEqual([]);
    expect(probe('x', format('vdi')).warnings).toEqual([]);
  });

  it('warns when several formats are sure', () => {
    expect(probe('x', format('a', 'yes'), format('b', 'yes'), format('c', 'maybe')).warnings).toEqual([
      'x is read as a but could also be b (because of b); specify the format to be sure (--format).',
    ]);
  });

  it('reports a probe that throws as a bug', () => {
    const broken = format('broken', 'no', {
      probe: () => {
        throw new RangeError('beyond the end');
      },
    });
    expect(() => probe('x', broken)).toThrow('internal: the probe of format broken threw');
  });
});

describe('readProbeInput', () => {
  it('reads both ends, which overlap in a short file', async () => {
    for (const size of [0, 1, 1000, 70_000]) {
      const bytes = Uint8Array.from({ length: size }, (_, index) => index % 251);
      const storage = new MemoryStorage();
      if (size > 0) await storage.write(0, bytes);
      const found = await readProbeInput(storage, 'disk');
      expect(found).toEqual({
        name: 'disk',
        size,
        head: bytes.subarray(0, 65_536),
        tail: bytes.subarray(Math.max(size - LIMITS.probeTail, 0)),
      });
    }
  });
});
