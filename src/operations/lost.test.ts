import { describe, expect, it } from 'vitest';
import { runCli } from '../../test/cli/run-cli.ts';
import { compare, convert, copyChain, createImage, Disk, inspect, setImage } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';

const MIB = 1024 ** 2;
const SIZE = 4 * MIB;
const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;
const at = (provider: MemoryProvider, name: string) => ({ provider, name });
const CONFIGS: readonly (readonly [string, Record<string, string | number>])[] = [
  ['qcow2', { cluster_size: 4096, compression_type: 'zstd', lazy_refcounts: 'on' }],
  ['qcow2', { cluster_size: 131_072, extended_l2: 'on', refcount_bits: 32 }],
  ['qcow2', { cluster_size: 512, compat: '0.10' }],
  ['vdi', { AllocationBlockSize: 65_536, DataAlignment: 4096 }],
];

/** Two images, the upper one with a compressed and a plain unit if supported. */
async function makeChain(format: string, config: Record<string, string | number>): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const plain = new MemoryProvider();
  await createImage(at(plain, '/x.raw'), { size: SIZE });
  const disk = await Disk.open(at(plain, '/x.raw'), { mode: 'write', format: 'raw' });
  await disk.write(0, new Uint8Array(2 * MIB).fill(3));
  await disk.close();
  const base = at(provider, `/0.${format}`);
  const compress = format === 'qcow2';
  await convert(at(plain, '/x.raw'), base, { format, config, compress, sourceFormat: 'raw' });
  const top = at(provider, `/1.${format}`);
  await createImage(top, { format, config, parent: base, parentFormat: format });
  await using upper = await Disk.open(top, { ...OPEN, mode: 'write', format });
  await upper.write(MIB + 1000, new Uint8Array(100_000).fill(9));
  return provider;
}

describe('a copy in the same format', () => {
  it.each(CONFIGS)('%s is made with what the original was made with: %j', async (format, config) => {
    const provider = await makeChain(format, config);
    await using disk = await Disk.open(at(provider, `/1.${format}`), { ...OPEN, format });
    const elsewhere = new MemoryProvider();
    const copied = await copyChain(disk, (name) => at(elsewhere, name), { verify: true });
    expect(copied.flatMap(({ warnings }) => warnings)).toEqual([]);
    for (const name of [`/0.${format}`, `/1.${format}`]) {
      const [was, is] = [await inspect(at(provider, name)), await inspect(at(elsewhere, name))];
      expect(is.config).toEqual(was.config);
      expect(is.config).toMatchObject(config);
      expect(is.variant).toEqual(was.variant);
    }
    if (format !== 'qcow2') return;
    await using copy = await Disk.open(at(elsewhere, `/1.${format}`), { ...OPEN, format });
    expect(await compare(copy, disk)).toMatchObject({ same: true });
    expect((await copy.extentAt(0, SIZE)).compressed).toBe(true);
  });

  it('says what it does not have', async () => {
    const provider = new MemoryProvider();
    const config = { data_file: '/data.raw' };
    await createImage(at(provider, '/a.qcow2'), { size: SIZE, config });
    const names = ['/data.raw', '/b.qcow2'];
    await createImage(at(provider, '/b.qcow2'), { size: SIZE });
    {
      await using disk = await Disk.open(at(provider, '/b.qcow2'), { mode: 'write' });
      await disk.snapshots.create('monday');
      await disk.bitmaps.add('since');
    }
    const [data, kept] = await Promise.all(
      ['/a.qcow2', '/b.qcow2'].map(async (name) => {
        await using disk = await Disk.open(at(provider, name), { allow: names });
        const [image] = await copyChain(disk, (own) => at(provider, `/copy-${own.slice(1)}`));
        return image?.warnings;
      }),
    );
    expect(data).toEqual(['/a.qcow2 is data-file, the copy is not.']);
    expect(kept).toEqual([
      expect.stringMatching(/lacks the internal snapshots of \/b\.qcow2: "monday"/),
      expect.stringMatching(/lacks the bitmaps of \/b\.qcow2: "since"/),
    ]);
  });
});

describe('a conversion', () => {
  it('says what it leaves behind, and not what was asked for or left out', async () => {
    const provider = new MemoryProvider();
    const source = at(provider, '/a.vdi');
    await createImage(source, { size: SIZE });
    const quiet = await convert(source, at(provider, '/quiet.qcow2'));
    expect(quiet.warnings).toEqual([]);
    await setImage(source, {
      comment: 'of mine',
      geometry: { physical: { cylinders: 2, heads: 4, sectors: 32 } },
    });
    const lost = await convert(source, at(provider, '/lost.qcow2'));
    expect(lost.warnings).toEqual([expect.stringContaining('"of mine"'), expect.stringContaining('2/4/32')]);
    const asked = { comment: 'of mine', geometry: { physical: { cylinders: 2, heads: 4, sectors: 32 } } };
    expect((await convert(source, at(provider, '/same.vdi'), asked)).warnings).toEqual([]);
  });

  it('says so on the command line, also in JSON', async () => {
    const { mkdtempSync, rmSync } = await import('node:fs');
    const { tmpdir } = await import('node:os');
    const { join } = await import('node:path');
    const folder = mkdtempSync(join(tmpdir(), 'vdkit-lost-'));
    try {
      const [image, target] = [join(folder, 'a.qcow2'), join(folder, 'a.vdi')];
      await runCli(['create', image, '1M']);
      await runCli(['snapshot', 'create', image, 'monday']);
      const plain = await runCli(['convert', image, target]);
      expect(plain.stderr).toContain('warning: The copy lacks the internal snapshots');
      const json = await runCli(['convert', image, target, '--force', '--json']);
      expect((JSON.parse(json.stdout) as { warnings: unknown }).warnings).toEqual([expect.stringContaining('monday')]);
      const one = await runCli(['convert', image, target, '--force', '--snapshot', 'monday', '--json']);
      expect((JSON.parse(one.stdout) as { warnings: unknown }).warnings).toEqual([]);
      const copied = await runCli(['copy', image, join(folder, 'b.qcow2'), '--json']);
      expect(copied.stdout).toContain('lacks the internal snapshots');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
