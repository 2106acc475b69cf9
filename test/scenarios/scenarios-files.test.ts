/** Scenarios of the reference about files: creating and deleting, renaming, opening what cannot be opened as asked. */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  Disk,
  FORMATS,
  ImageError,
  inspect,
  moveImage,
  Registry,
  removeImage,
  renameImage,
} from '../../src/index.ts';
import type { OpenMode, Source, Storage } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { KITS } from '../conformance/kits.ts';
import { DIFFING, makeOptions, pairsInTurn, VARIANTS, WITH_UUID, WRITABLE } from './formats.ts';
import { GIB, MIB, ShadowedDisk } from './shadowed-disk.ts';

describe.each(VARIANTS)('creating and deleting: $title', ({ format, variant, fixed }) => {
  it.each(['at once', 'after it was opened'])('leaves no file, %s', async (when) => {
    const provider = new MemoryProvider();
    const source = { provider, name: '/image' };
    // All of a fixed one would be in memory.
    const size = fixed ? 8 * MIB : 8 * GIB;
    await createImage(source, { format: format.name, variant, size });
    if (when === 'after it was opened') {
      const disk = await Disk.open(source, { format: format.name, mode: 'write' });
      expect(disk.size).toBe(size);
      await disk.close();
    }
    await removeImage(source, { format: format.name });
    expect(await provider.lookUp('/image')).toBe(null);
    await expectKind(() => Disk.open(source, { format: format.name }), 'not-found');
  });
});

describe.each(WRITABLE)('moving by name: $name', (format) => {
  const options = { format: format.name };

  async function make(): Promise<ShadowedDisk> {
    const disk = await ShadowedDisk.make({ format }, { seed: 31, size: 8 * MIB });
    await disk.scatter(4);
    await disk.disk.close();
    return disk;
  }

  /** Reads all of the disk under another name. */
  async function expectContent(disk: ShadowedDisk, source: string | Source): Promise<void> {
    await using moved = await Disk.open(source, options);
    expect(moved.images.map(({ name }) => name)).toEqual([typeof source === 'string' ? source : source.name]);
    await disk.verify(moved);
  }

  it.each(['/other', '/directory/other'])('to %s keeps the content', async (name) => {
    const disk = await make();
    // A directory is there by what it has in it.
    await (await disk.provider.create('/directory/something')).close();
    await moveImage(disk.at('/0'), disk.at(name), options);
    expect(await disk.provider.lookUp('/0')).toBe(null);
    await expectContent(disk, disk.at(name));
  });

  it('never takes the place of a file', async () => {
    const disk = await make();
    await createImage(disk.at('/other'), { ...options, size: MIB });
    await expectKind(() => moveImage(disk.at('/0'), disk.at('/other'), options), 'exists');
    await expectKind(() => renameImage(disk.at('/0'), '/other', options), 'exists');
    await expectContent(disk, disk.at('/0'));
    expect(await disk.files()).toEqual(['/0', '/other']);
  });

  it('goes by copying where the name is not enough, and keeps the identity', async () => {
    const disk = await make();
    const before = await inspect(disk.at('/0'), options);
    const target = { provider: new MemoryProvider(), name: '/other' };
    await moveImage(disk.at('/0'), target, options);
    expect(await disk.files()).toEqual([]);
    await expectContent(disk, target);
    const { uuid, modificationUuid } = await inspect(target, options);
    expect({ uuid, modificationUuid }).toEqual({ uuid: before.uuid, modificationUuid: before.modificationUuid });
  });
});

describe('the formats', () => {
  it('say what they can, each under a unique name', () => {
    expect(new Registry(FORMATS).formats).toEqual(FORMATS);
    for (const { name, title, extensions, variants, configKeys } of FORMATS) {
      expect(title, name).not.toBe('');
      expect(extensions.filter(({ extension }) => !/^[a-z0-9]+$/.test(extension))).toEqual([]);
      for (const names of [variants.map(({ word }) => word), configKeys.map((key) => key.name)]) {
        expect(names, name).toEqual([...new Set(names)]);
      }
    }
  });

  it('can do what they say', () => {
    for (const { name, capabilities, create, check, repair } of FORMATS) {
      const { createFixed, createDynamic } = capabilities;
      expect(create !== undefined, `${name} is made`).toBe(createFixed || createDynamic);
      expect(check !== undefined, `${name} is checked`).toBe(capabilities.check);
      expect(repair !== undefined, `${name} is repaired`).toBe(capabilities.repair);
    }
  });

  it.each(VARIANTS)('give the image the abilities of its format: $title', async ({ format, variant }) => {
    const source = { provider: new MemoryProvider(), name: '/image' };
    await using disk = await Disk.create(source, { format: format.name, variant, size: 4 * MIB });
    const { capabilities } = format;
    expect(disk.can).toMatchObject({ write: true, zero: true });
    const hasUnits = disk.images.some(({ info }) => info.blockSize !== null);
    if (capabilities.discard && hasUnits) expect(disk.can.discard).toBe(true);
    // Of a format with blocks, an image that gives out no room cannot be packed; its size changes in some formats only.
    const grows = disk.blockSize > 0;
    const hasBlocks = format.configKeys.some(({ role }) => role === 'unit');
    if (!capabilities.compact || !grows) await expectKind(() => disk.compact(), 'unsupported');
    else await disk.compact();
    const resizes = grows || !hasBlocks || KITS.find((kit) => kit.format === format.name)?.fixedResizes === true;
    if (!capabilities.resize || !resizes) await expectKind(() => disk.resize(8 * MIB), 'unsupported');
    else await disk.resize(8 * MIB);
  });
});

/** Files that may be made, and read, but not written. */
class ProtectedFiles extends MemoryProvider {
  override async open(name: string, mode: OpenMode): Promise<Storage> {
    if (mode === 'read') return super.open(name, mode);
    throw new ImageError('read-only', 'The file is write-protected', { path: name });
  }
}

describe.each(WRITABLE)('opening: $name', (format) => {
  const options = { format: format.name };

  it('falls back to reading only where the caller says so', async () => {
    const source = { provider: new ProtectedFiles(), name: '/image' };
    await createImage(source, { ...options, size: MIB });
    await expectKind(() => Disk.open(source, { ...options, mode: 'write' }), 'read-only');
    const disk = await Disk.open(source, { ...options, mode: 'write', readOnlyFallback: true });
    expect(disk.can.write).toBe(false);
    await disk.read(0, new Uint8Array(512));
    await expectKind(() => disk.write(0, new Uint8Array(512)), 'read-only');
    await disk.close();
  });

  it('gives the file and its lock back when it fails', async () => {
    const provider = new MemoryProvider();
    const source = { provider, name: '/image' };
    await createImage(source, { ...options, size: MIB });
    for (const other of FORMATS.filter(({ name }) => name !== format.name && name !== 'raw')) {
      await expectKind(
        () => Disk.open(source, { format: other.name, mode: 'write' }),
        'invalid-format',
        'unsupported',
        'corrupt',
      );
    }
    if (format.name === 'raw') await expectKind(() => Disk.open(source, { mode: 'write' }), 'denied');
    expect((await inspect(source, options)).lock.held).toBe('none');
    await using disk = await Disk.open(source, { ...options, mode: 'write' });
    expect(disk.can.write).toBe(true);
  });

  it('takes names of any length and says them unshortened', async () => {
    const name = `/${'long-'.repeat(200)}image`;
    await using disk = await Disk.create({ provider: new MemoryProvider(), name }, { ...options, size: MIB });
    expect(disk.images.map((image) => image.name)).toEqual([name]);
  });

  it('stores zeroes from then on when told to', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 32, size: 4 * MIB });
    await disk.write(0, new Uint8Array(MIB));
    const { blockSize } = disk.disk;
    const before = blockSize === 0 ? null : await disk.blocks();
    await disk.reopen({ honourZeroes: true });
    await disk.write(0, new Uint8Array(MIB));
    if (before !== null) expect([before, await disk.blocks()]).toEqual([0, Math.max(MIB / blockSize, 1)]);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(pairsInTurn(10))('a chain that does not open: $title', ({ lower, upper }) => {
  it('gives every file and lock back', async () => {
    const disk = await ShadowedDisk.chain([{ format: lower }, { format: upper }], { seed: 33, size: MIB });
    const { names } = disk;
    await disk.disk.close();
    const list = names.map((name) => disk.at(name));
    await expectKind(() => Disk.open([disk.at('/missing'), ...list], { mode: 'write' }), 'not-found');
    await expectKind(() => Disk.open([...list, disk.at('/1')], { format: upper.name }), 'corrupt');
    for (const source of list) expect((await inspect(source)).lock.held).toBe('none');
    await using again = await Disk.open(list, { format: upper.name, mode: 'write' });
    await disk.verify(again);
  });
});

describe.each(WITH_UUID.filter((format) => DIFFING.includes(format)))('identities: $name', (format) => {
  it('are those that the caller gave, or random ones', async () => {
    const provider = new MemoryProvider();
    const given = '11111111-2222-4333-8444-555555555555';
    await createImage({ provider, name: '/0' }, { ...makeOptions({ format }), size: MIB, uuid: given });
    const parent = { provider, name: '/0' };
    const first = await createImage({ provider, name: '/1' }, { ...makeOptions({ format }), parent });
    const second = await createImage({ provider, name: '/2' }, { ...makeOptions({ format }), parent });
    expect([first.parentUuid, second.parentUuid]).toEqual([given, given]);
    expect(new Set([given, first.uuid, second.uuid]).size).toBe(3);
  });
});
