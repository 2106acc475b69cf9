import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { whileExchanged } from '../../test/conformance/exchanging.ts';
import { rounds } from '../../test/conformance/random.ts';
import { isImageError } from '../errors.ts';
import { convert, createImage, Disk } from '../index.ts';
import type { Storage } from '../storage/contract.ts';
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

/** Formats of parents without a UUID. */
const NAMELESS = ['raw', 'qcow2'] as const;

describe.each(NAMELESS)('an image that cannot say what its parent is: vdi over %s', (format) => {
  const OVER = { name: '/over.vdi' };

  async function overNameless(): Promise<MemoryProvider> {
    const provider = new MemoryProvider();
    const base = await Disk.create({ provider, name: '/base' }, { provider, format, size: 2 * MIB });
    await base.write(0, new Uint8Array(2 * MIB).fill(5));
    await base.createDiff({ provider, ...OVER }, { format: 'vdi' });
    await base.write(MIB, new Uint8Array(MIB).fill(6));
    await base.close();
    return provider;
  }

  it('is opened over the parent that is named', async () => {
    const provider = await overNameless();
    const parent = { image: { provider, name: '/base' }, format };
    await using disk = await Disk.open({ provider, ...OVER }, { ...OPEN, parent, mode: 'write' });
    await disk.write(4096, new Uint8Array(4096).fill(7));
    const bytes = new Uint8Array(2 * MIB);
    await disk.read(0, bytes);
    expect([bytes[0], bytes[4096], bytes[8192], bytes[MIB]]).toEqual([5, 7, 5, 6]);
  });

  it('is refused without one, for reading and for writing, and stays as it is', async () => {
    const provider = await overNameless();
    const refusal = { kind: 'not-found', hint: expect.stringMatching(/--parent/) };
    const source = { provider, ...OVER };
    await expect(Disk.open(source, OPEN)).rejects.toMatchObject(refusal);
    for (const more of [{}, { withoutParents: true }, { parent: [] }]) {
      await expect(Disk.open(source, { ...OPEN, mode: 'write', ...more })).rejects.toMatchObject(refusal);
    }
    await expect(convert(source, { provider, name: '/out.raw' }, { provider, format: 'raw' })).rejects.toMatchObject(
      refusal,
    );
    expect(await provider.lookUp('/out.raw')).toBeNull();
    // Nor is it a parent: what is above it would read zeroes as well.
    const top = { provider, name: '/top.vdi' };
    await createImage(top, { provider, format: 'vdi', parent: source });
    await expect(Disk.open(top, OPEN)).rejects.toMatchObject({ ...refusal, context: { path: OVER.name } });
  });

  it('is read without one when the caller says so', async () => {
    const provider = await overNameless();
    const bytes = new Uint8Array(512);
    await using alone = await Disk.open({ provider, ...OVER }, { ...OPEN, withoutParents: true });
    await alone.read(MIB, bytes);
    expect(bytes[0]).toBe(6);
    await expect(alone.read(0, bytes)).rejects.toMatchObject({ kind: 'not-found' });
    await using whole = await Disk.open({ provider, ...OVER }, { ...OPEN, parent: [] });
    await whole.read(0, bytes);
    expect(bytes[0]).toBe(0);
    expect(whole.warnings.join()).toContain('is read without its parent');
  });

  it('is refused as well when a merge left it so', async () => {
    const provider = await overNameless();
    const base = { image: { provider, name: '/base' }, format };
    await createImage({ provider, name: '/top.vdi' }, { provider, format: 'vdi', parent: { provider, ...OVER } });
    const chain = [base, { provider, ...OVER }, { provider, name: '/top.vdi' }];
    {
      await using disk = await Disk.open(chain, { ...OPEN, mode: 'write' });
      await disk.merge(1, 2);
    }
    const top = { provider, name: '/top.vdi' };
    await expect(Disk.open(top, OPEN)).rejects.toMatchObject({ kind: 'not-found' });
    await using disk = await Disk.open([base, top], OPEN);
    const bytes = new Uint8Array(2 * MIB);
    await disk.read(0, bytes);
    expect([bytes[0], bytes[MIB]]).toEqual([5, 6]);
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

describe('an image whose place cannot be told, since it is moved again and again', () => {
  /** Files whose open handles have no name, while another file has the name by which they were opened. */
  class Restless extends MemoryProvider {
    override async realName(name: string): Promise<string> {
      return name.replace('/inside/child', '/outside/child');
    }

    override async open(name: string, mode: 'read' | 'write'): Promise<Storage> {
      const storage = await super.open(name, mode);
      storage.place = async () => ({ name: name.endsWith('child.qcow2') ? null : name, ordinary: true });
      return storage;
    }
  }

  async function directories(): Promise<Restless> {
    const provider = new Restless();
    for (const name of ['/inside/other', '/outside/other']) await (await provider.create(name)).close();
    return provider;
  }

  it('has no parent in the directory that has its name now', async () => {
    const provider = await directories();
    await createImage({ provider, name: '/outside/base.qcow2' }, { size: MIB });
    await createImage({ provider, name: '/inside/base.qcow2' }, { size: MIB });
    const child = { provider, name: '/inside/child.qcow2' };
    await createImage(child, { parent: { provider, name: '/inside/base.qcow2' } });
    for (const allow of [['same-directory'], ['same-directory', '/elsewhere'], []]) {
      await expect(Disk.open(child, { allow }), allow.join()).rejects.toMatchObject({ kind: 'denied' });
    }
    await expect(Disk.open(child, { allow: ['same-directory'] })).rejects.toThrow('moved while it was opened');
    await using disk = await Disk.open(child, { allow: ['/inside'] });
    expect(disk.images).toHaveLength(2);
  });

  it('has no part there', async () => {
    const provider = await directories();
    const name = '/inside/child.qcow2';
    await createImage({ provider, name }, { size: MIB, config: { data_file: 'child.qcow2.data' } });
    await (await provider.create('/outside/child.qcow2.data')).close();
    await expect(Disk.open({ provider, name })).rejects.toMatchObject({ kind: 'denied' });
  });
});
