import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { whileExchanged } from '../../test/conformance/exchanging.ts';
import { rounds } from '../../test/conformance/random.ts';
import { isImageError } from '../errors.ts';
import { Disk } from '../index.ts';
import { nativeCalls } from '../storage/local/native.ts';
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

describe.runIf(nativeCalls() !== null)('an image in a directory that another process exchanges with a link', () => {
  it('reads a parent from its own directory only', async () => {
    const top = mkdtempSync(join(tmpdir(), 'vdkit-open-'));
    try {
      for (const [number, folder] of ['inside', 'outside'].entries()) {
        mkdirSync(join(top, folder));
        const base = await Disk.create(join(top, folder, 'base.qcow2'), { size: MIB });
        await base.write(MIB - 512, new Uint8Array(512).fill(number + 1));
        await base.createDiff(join(top, folder, 'child.qcow2'), { allow: OPEN.allow });
        await base.write(0, new Uint8Array(512).fill(number + 1));
        await base.close();
      }
      symlinkSync(join(top, 'outside'), join(top, 'link'));
      const seen = new Set<string>();
      await whileExchanged(join(top, 'inside'), join(top, 'link'), async () => {
        for (let round = 0; round < rounds(300, 5000); round++) {
          try {
            await using disk = await Disk.open(join(top, 'inside', 'child.qcow2'), { ...OPEN, forceShare: true });
            const [own, below] = [new Uint8Array(1), new Uint8Array(1)];
            await disk.read(0, own);
            await disk.read(MIB - 1, below);
            seen.add(`${own[0]} over ${below[0]}`);
          } catch (error) {
            if (!isImageError(error) || !['denied', 'not-found', 'busy'].includes(error.kind)) throw error;
          }
        }
      });
      expect([...seen].sort()).toEqual(['1 over 1', '2 over 2']);
    } finally {
      rmSync(top, { recursive: true, force: true });
    }
  });
});
