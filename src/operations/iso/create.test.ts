import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { forwardedProvider, forwardedStorage } from '../../storage/forwarding.ts';
import { defaultProvider } from '../../storage/local/index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { inspect } from '../inspect.ts';
import { type CreateIsoOptions, createIso } from './create.ts';

let folder = '';
const at = (name: string): string => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-create-iso-'));
  mkdirSync(at('in/below'), { recursive: true });
  writeFileSync(at('in/a.txt'), 'hello');
  writeFileSync(at('in/below/b.bin'), new Uint8Array(10_000).fill(7));
  for (const name of ['in/a.txt', 'in/below/b.bin', 'in/below', 'in'])
    utimesSync(at(name), 1_700_000_000, 1_700_000_000);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('an ISO image of a directory', () => {
  it('is equal for equal files, and reports what is in it', async () => {
    const result = await createIso(at('one.iso'), at('in'));
    await createIso(at('two.iso'), at('in'));
    expect(readFileSync(at('one.iso'))).toEqual(readFileSync(at('two.iso')));
    expect(result).toEqual({ size: statSync(at('one.iso')).size, entries: 3, warnings: [] });
    expect(await inspect(at('one.iso'))).toMatchObject({ type: 'optical', sectorSize: 2048 });
    expect(readFileSync(at('one.iso')).subarray(0x8028, 0x802a).toString()).toBe('IN');
  });

  it('does not contain itself', async () => {
    await createIso(at('in/self.iso'), at('in'));
    const first = readFileSync(at('in/self.iso'));
    utimesSync(at('in'), 1_700_000_000, 1_700_000_000);
    await expect(createIso(at('in/self.iso'), at('in'))).rejects.toMatchObject({ kind: 'exists' });
    await createIso(at('in/self.iso'), at('in'), { force: true });
    expect(readFileSync(at('in/self.iso'))).toEqual(first);
  });

  it.each([
    ['grows', (path: string) => writeFileSync(path, 'hello, world')],
    ['shrinks', (path: string) => writeFileSync(path, 'h')],
    ['gets other bytes of the same length', (path: string) => writeFileSync(path, 'HELLO')],
    [
      'is replaced',
      (path: string) => {
        rmSync(path);
        writeFileSync(path, 'hello');
        utimesSync(path, 1_700_000_000, 1_700_000_000);
      },
    ],
    ['vanishes', (path: string) => rmSync(path)],
  ])('is refused when a file of it %s meanwhile, and nothing is left', async (_what, change) => {
    let changed = false;
    const local = defaultProvider();
    const provider = forwardedProvider(local, {
      open: async (name, mode) => {
        if (!changed && name.endsWith('a.txt')) change(name);
        changed = true;
        return local.open(name, mode);
      },
    });
    const made = createIso(at('out.iso'), at('in'), { provider });
    await expect(made).rejects.toMatchObject({ kind: expect.stringMatching(/^(io|not-found)$/) });
    expect(readdirSync(folder)).toEqual(['in']);
  });

  it('leaves nothing behind on a full disk, or when it is cancelled', async () => {
    const local = defaultProvider();
    const full = forwardedProvider(local, {
      create: async (name, how) => {
        const storage = await local.create(name, how);
        return forwardedStorage(storage, { write: () => Promise.reject(new Error('full')) });
      },
    });
    await expect(createIso(at('out.iso'), at('in'), { provider: full })).rejects.toThrow('full');
    const control = new AbortController();
    const onProgress = (): void => control.abort();
    const cancelled = createIso(at('out.iso'), at('in'), { signal: control.signal, onProgress });
    await expect(cancelled).rejects.toMatchObject({ kind: 'aborted' });
    expect(readdirSync(folder)).toEqual(['in']);
  });

  it.each<[CreateIsoOptions, string]>([
    [{ boot: 'none.bin' }, 'not-found'],
    [{ bootEfi: 'below' }, 'not-found'],
    [{ boot: '../in/a.txt' }, 'not-found'],
    [{ bootInfoTable: true }, 'invalid-argument'],
    [{ boot: 'a.txt', bootInfoTable: true }, 'limit'],
    [{ label: '' }, 'invalid-argument'],
    [{ label: 'x'.repeat(33) }, 'invalid-argument'],
  ])('is refused with %j', async (options, kind) => {
    await expect(createIso(at('out.iso'), at('in'), options)).rejects.toMatchObject({ kind });
    expect(readdirSync(folder)).toEqual(['in']);
  });

  it('is refused for what is no directory, and where directories cannot be read', async () => {
    await expect(createIso(at('out.iso'), at('in/a.txt'))).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(createIso(at('out.iso'), at('nothing'))).rejects.toMatchObject({ kind: 'not-found' });
    const provider = Object.assign(new MemoryProvider(), { entries: undefined as never });
    await (await provider.create('/in/x')).close();
    const made = createIso({ provider, name: '/out.iso' }, '/in', { provider });
    await expect(made).rejects.toMatchObject({ kind: 'unsupported' });
  });
});
