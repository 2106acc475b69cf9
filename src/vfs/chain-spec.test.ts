/** The text `vd(…)`: parsing, and the disk that it names. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { createImage } from '../operations/create.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { openChainSpec, parseChainSpec } from './chain-spec.ts';

describe('the text of a chain', () => {
  it.each([
    ['vd(a.vdi)', ['a.vdi'], null],
    ['vd(ro)', ['ro'], null],
    [' vd ( a.vdi,ro) ', [' a.vdi'], 'read'],
    ['vd(a.vdi,r)', ['a.vdi'], 'read'],
    ['vd(a.vdi,b.vdi,rw)', ['a.vdi', 'b.vdi'], 'write'],
    ['vd(a.vdi,)', ['a.vdi'], null],
    ['vd(a.vdi,b.raw)', ['a.vdi', 'b.raw'], null],
    ['vd(a.vdi,constructor)', ['a.vdi', 'constructor'], null],
    ['vd(C:\\images\\a\\,b \\(1\\).vdi,ro)', ['C:\\images\\a,b (1).vdi'], 'read'],
  ])('%s', (text, images, mode) => {
    expect(parseChainSpec(text)).toEqual({ images, mode });
  });

  it.each([
    '',
    'vd',
    'vd(',
    'vd()',
    'vd(,ro)',
    'vd(a,,b.vdi)',
    'vd(a.vdi,wr)',
    'vd(a.vdi,b)',
    'vd(a.vdi,RO)',
    'gz(a)',
    'vd(a)|gz()',
    'vd(a(b))',
    'x vd(a)',
  ])('refuses %s', (text) => {
    expect(() => parseChainSpec(text)).toThrow(
      expect.objectContaining({ kind: 'invalid-argument', status: 'VERR_VFS_CHAIN_INVALID_ARGUMENT' }),
    );
  });
});

describe('the disk of a text', () => {
  const size = 2 ** 20;

  it('is a file over the whole chain, closed with it', async () => {
    const provider = new MemoryProvider();
    const [base, diff] = ['/base.vdi', '/diff.vdi'].map((name) => ({ provider, name }));
    if (base === undefined || diff === undefined) throw new Error('two');
    await createImage(base, { size });
    await createImage(diff, { parent: base });
    {
      const file = await openChainSpec('vd(/base.vdi,rw)', { provider });
      await file.write(Uint8Array.of(1, 1));
      await file.close();
    }
    {
      const file = await openChainSpec('vd(/base.vdi,/diff.vdi)', { provider, mode: 'write' });
      await file.write(Uint8Array.of(2), { at: 1 });
      // Only the last one is written, and the first one is locked for reading.
      await expectKind(() => openChainSpec('vd(/base.vdi,rw)', { provider }), 'locked');
      await file.close();
    }
    const target = new Uint8Array(3);
    for (const [text, wanted] of [
      ['vd(/base.vdi)', [1, 1, 0]],
      ['vd(/base.vdi,/diff.vdi,ro)', [1, 2, 0]],
    ] as const) {
      const file = await openChainSpec(text, { provider, mode: 'write' });
      expect(file.writable).toBe(!text.includes('ro'));
      expect(await file.read(target)).toBe(3);
      expect([...target]).toEqual(wanted);
      await file.close();
    }
  });

  it('has the format of its first image', async () => {
    const provider = new MemoryProvider();
    await createImage({ provider, name: '/base.vdi' }, { size });
    await createImage({ provider, name: '/other.raw' }, { size, format: 'raw' });
    await expectKind(() => openChainSpec('vd(/base.vdi,/other.raw)', { provider }), 'invalid-format');
    await expectKind(() => openChainSpec('vd(/other.raw,rw)', { provider }), 'denied');
    await using file = await openChainSpec('vd(/other.raw,rw)', { provider, format: 'raw' });
    expect(await file.write(Uint8Array.of(1))).toBe(1);
  });
});
