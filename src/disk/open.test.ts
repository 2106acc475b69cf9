import { describe, expect, it } from 'vitest';
import { Disk } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { setImage } from './set.ts';

const MIB = 1024 ** 2;
const OPEN = { allow: ['same-directory'] } as const;

async function makeChain(): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const disk = await Disk.create({ provider, name: '/base.vdi' }, { provider, size: MIB });
  await disk.createDiff({ provider, name: '/diff.vdi' });
  await disk.close();
  return provider;
}

describe('the link to a parent', () => {
  it('is looked at as strictly as the caller wants: a parent that was written since', async () => {
    const provider = await makeChain();
    const base = await Disk.open({ provider, name: '/base.vdi' }, { mode: 'write' });
    await base.write(0, new Uint8Array(512).fill(1));
    await base.close();
    const open = (linkage: 'off' | 'warn' | 'strict') =>
      Disk.open({ provider, name: '/diff.vdi' }, { ...OPEN, linkage });
    await using off = await open('off');
    expect(off.warnings).toEqual([]);
    await using warned = await open('warn');
    expect(warned.warnings).toHaveLength(1);
    await expect(open('strict')).rejects.toMatchObject({ kind: 'corrupt', status: 'VERR_VD_UUID_MISMATCH' });
  });

  it('is looked at as strictly as the caller wants: another image', async () => {
    const provider = await makeChain();
    await setImage({ provider, name: '/base.vdi' }, { uuid: 'random' });
    const sources = ['/base.vdi', '/diff.vdi'].map((name) => ({ provider, name }));
    await expect(Disk.open(sources)).rejects.toMatchObject({ status: 'VERR_VD_UUID_MISMATCH' });
    await using off = await Disk.open(sources, { linkage: 'off' });
    expect(off.images).toHaveLength(2);
  });
});

describe('an image that may not be written', () => {
  it('is opened for reading when the caller says so', async () => {
    const provider = await makeChain();
    const source = { provider, name: '/base.vdi' };
    await using writer = await Disk.open(source, { mode: 'write', shareable: true });
    expect(writer.can.write).toBe(true);
    await expect(Disk.open(source, { mode: 'write' })).rejects.toMatchObject({ kind: 'locked' });
    await expect(Disk.open(source, { mode: 'write', readOnlyFallback: true })).rejects.toMatchObject({
      kind: 'locked',
    });
    const fixed = { open: provider.open.bind(provider) };
    const readOnly = new Proxy(provider, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (name === 'open') {
          return async (file: string, mode: 'read' | 'write') => {
            if (mode === 'read') return fixed.open(file, mode);
            const { ImageError } = await import('../errors.ts');
            throw new ImageError('read-only', 'The file system is read-only', { path: file });
          };
        }
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const diff = { provider: readOnly, name: '/diff.vdi' };
    await expect(Disk.open(diff, { mode: 'write', ...OPEN, lock: false })).rejects.toMatchObject({ kind: 'read-only' });
    const disk = await Disk.open(diff, { mode: 'write', readOnlyFallback: true, ...OPEN, lock: false });
    expect(disk.can.write).toBe(false);
    await expect(disk.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'read-only' });
    await disk.close();
  });
});
