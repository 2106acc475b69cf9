import { describe, expect, it } from 'vitest';
import { fileBytes } from '../../../test/model/extents.ts';
import { checkImage } from '../../operations/check.ts';
import { copyImage } from '../../operations/copy.ts';
import { createImage } from '../../operations/create.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import { rebaseImage } from '../../operations/rebase-image.ts';
import type { Source, StorageProvider } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { FaultProvider } from '../../testing/index.ts';
import { encodeFooter } from './footer.ts';
import { encodeHeader } from './header.ts';
import { CREATOR, FOOTER, type Footer, HEADER, LOCATOR, PLATFORM } from './layout.ts';

const MIB = 1024 ** 2;
const SECTOR = 512;
const VHD = { format: 'vhd' } as const;

const at = (name = '/disk.vhd', provider: StorageProvider = new MemoryProvider()): Source => ({ provider, name });

/** An image with a block of ones. */
async function filled(size: number, variant: readonly string[] = []): Promise<Source> {
  const source = at();
  await createImage(source, { ...VHD, size, variant });
  await using disk = await openDisk(source, { ...VHD, mode: 'write' });
  await disk.write(0, new Uint8Array(SECTOR).fill(1));
  return source;
}

async function put(source: Source, fileOffset: number, bytes: Uint8Array, size?: number): Promise<void> {
  const storage = await source.provider.open(source.name, 'write');
  await storage.write(fileOffset, bytes);
  if (size !== undefined) await storage.resize(size);
  await storage.close();
}

async function firstByte(source: Source, options = {}): Promise<number | undefined> {
  await using disk = await openDisk(source, { ...VHD, ...options });
  const bytes = new Uint8Array(SECTOR);
  await disk.read(0, bytes);
  return bytes[0];
}

const footerOf = async (source: Source): Promise<Footer> => {
  const bytes = await fileBytes(source);
  return FOOTER.decode(bytes.subarray(bytes.length - SECTOR));
};

describe('footers', () => {
  it.each([[['fixed']], [[]]])('of 511 bytes are read, and written again with 512 (%s)', async (variant) => {
    const source = await filled(4 * MIB, variant);
    const { length } = await fileBytes(source);
    const storage = await source.provider.open(source.name, 'write');
    await storage.resize(length - 1);
    await storage.close();
    expect(await firstByte(source)).toBe(1);
    const { warnings } = await inspect(source, VHD);
    expect(warnings.join()).toContain('a footer of 511 bytes');
    await checkImage(source, { ...VHD, repair: true });
    expect((await fileBytes(source)).length % SECTOR).toBe(0);
    expect((await checkImage(source, VHD)).findings).toEqual([]);
    expect(await firstByte(source)).toBe(1);
  });

  it.each(['first', 'last'])('are repaired from each other: the %s one is damaged', async (which) => {
    const source = await filled(4 * MIB);
    const sound = await fileBytes(source);
    await put(source, which === 'first' ? 20 : sound.length - SECTOR + 20, Uint8Array.of(1, 2, 3));
    expect(await firstByte(source)).toBe(1);
    expect((await checkImage(source, VHD)).findings).toHaveLength(1);
    await checkImage(source, { ...VHD, repair: true });
    expect(Buffer.from(await fileBytes(source)).equals(sound)).toBe(true);
  });

  it.each([
    ['a byte that says nothing', 300],
    ['the checksum', 64],
    ['the time', 24],
  ])('with damage to %s are written again from the copy when the image is written', async (_, damaged) => {
    const source = await filled(4 * MIB);
    const sound = await fileBytes(source);
    await put(source, sound.length - SECTOR + damaged, Uint8Array.of(0xee));
    {
      await using disk = await openDisk(source, { ...VHD, mode: 'write' });
      expect(disk.images[0]?.info.warnings.join()).toContain('The checksum of the footer');
      await disk.write(SECTOR, new Uint8Array(SECTOR).fill(2));
    }
    expect(Buffer.from((await fileBytes(source)).subarray(-SECTOR)).equals(sound.subarray(-SECTOR))).toBe(true);
    expect((await checkImage(source, VHD)).findings).toEqual([]);
    expect(await firstByte(source)).toBe(1);
  });

  it.each([
    ['another size', 'currentSize'],
    ['another place of the header', 'dataOffset'],
    ['another UUID', 'uuid'],
    ['a saved state', 'savedState'],
  ] as const)('with a wrong checksum and %s are left alone until a repair', async (_, field) => {
    const source = await filled(4 * MIB);
    const { length } = await fileBytes(source);
    await put(source, length - SECTOR + FOOTER.fields[field].offset, Uint8Array.of(1));
    const changed = await fileBytes(source);
    await expect(openDisk(source, { ...VHD, mode: 'write' })).rejects.toMatchObject({ kind: 'read-only' });
    expect(Buffer.from(await fileBytes(source)).equals(changed)).toBe(true);
    await checkImage(source, { ...VHD, repair: true });
    await (await openDisk(source, { ...VHD, mode: 'write' })).close();
  });

  it.each([
    ['a wrong checksum', 8 * MIB, SECTOR],
    ['a wrong checksum and a size beyond all files', Number.MAX_SAFE_INTEGER, SECTOR],
    ['511 bytes', 8 * MIB, SECTOR - 1],
  ])('of a fixed image that lacks its end, with %s, are repaired in place', async (_, currentSize, length) => {
    const source = await filled(MIB, ['fixed']);
    const footer = encodeFooter({ ...(await footerOf(source)), currentSize });
    if (length === SECTOR) footer[300] = 1;
    await put(source, MIB, footer, MIB + length);
    const { repairs } = await checkImage(source, { ...VHD, repair: true });
    expect(repairs).toHaveLength(1);
    expect((await fileBytes(source)).length).toBe(MIB + SECTOR);
    expect(await footerOf(source)).toMatchObject({ currentSize: currentSize - (currentSize % SECTOR) });
    const { findings } = await checkImage(source, VHD);
    expect(findings.map(({ code }) => code)).toEqual(['file-too-short']);
    expect(await firstByte(source)).toBe(1);
  });

  it('of a fixed image that was growing when it was cut off stand before zeroes', async () => {
    const source = await filled(MIB, ['fixed']);
    const sound = await fileBytes(source);
    await put(source, 0, sound.subarray(0, SECTOR), 3 * MIB);
    expect(await firstByte(source)).toBe(1);
    await checkImage(source, { ...VHD, repair: true });
    expect(Buffer.from(await fileBytes(source)).equals(sound)).toBe(true);
  });
});

describe('the size', () => {
  it.each([
    [CREATOR.virtualPc, 1],
    [CREATOR.qemu, 1],
    [CREATOR.windows, 0],
    [CREATOR.disk2vhd, 0],
  ])('is the current one; by creator %i the geometry is told beside it', async (creator, warned) => {
    const source = await filled(5 * MIB, ['fixed']);
    const footer = await footerOf(source);
    await put(source, 5 * MIB, encodeFooter({ ...footer, creator }));
    const { virtualSize, details, warnings } = await inspect(source, VHD);
    expect(virtualSize).toBe(5 * MIB);
    const product = footer.cylinders * footer.heads * footer.sectors * SECTOR;
    expect(product).toBeLessThan(5 * MIB);
    expect(details?.['size by geometry']).toBe(warned === 1 ? product : undefined);
    expect(warnings).toHaveLength(warned);
  });

  it('of an image for Azure is whole MiB, and the next one is named', async () => {
    const source = at();
    const refused = createImage(source, { ...VHD, size: 3 * MIB + SECTOR, variant: ['azure'] });
    await expect(refused).rejects.toMatchObject({ kind: 'invalid-argument', hint: expect.stringContaining('4M') });
    await createImage(source, { ...VHD, size: 4 * MIB, variant: ['azure'] });
    expect((await fileBytes(source)).length).toBe(4 * MIB + SECTOR);
    expect((await inspect(source, VHD)).allocation).toBe('fixed');
  });

  it.each([512, 65_536])(
    'leaves room for names in a new child, which a check does not miss (blocks of %i)',
    async (unit) => {
      const provider = new MemoryProvider();
      const [parent, source] = [at('/base.vhd', provider), at('/child.vhd', provider)];
      await createImage(parent, { ...VHD, size: MIB });
      await createImage(source, { ...VHD, parent, config: { block_size: unit } });
      expect((await checkImage(source, VHD)).findings).toEqual([]);
    },
  );

  it('ends with its table while it has no block, where QEMU puts the first one', async () => {
    const source = at();
    const tableEnd = 512 + 1024 + 512;
    const end = async (): Promise<number> => (await fileBytes(source)).length - SECTOR;
    await createImage(source, { ...VHD, size: 5 * MIB });
    expect(await end()).toBe(tableEnd);
    {
      await using disk = await openDisk(source, { ...VHD, mode: 'write' });
      await disk.write(3 * MIB, new Uint8Array(MIB).fill(1));
      await disk.flush();
      await disk.discard([{ offset: 0, length: 5 * MIB }]);
    }
    expect(await end()).toBe(tableEnd);
  });

  it('reaches 2040 GiB and no further', async () => {
    const most = 2040 * 1024 ** 3;
    const source = at();
    await createImage(source, { ...VHD, size: most });
    expect((await inspect(source, VHD)).virtualSize).toBe(most);
    const longer = createImage(at('/other.vhd'), { ...VHD, size: most + SECTOR });
    await expect(longer).rejects.toMatchObject({ kind: 'limit' });
  });

  it('changes with the geometry that belongs to it', async () => {
    const source = await filled(16 * MIB);
    await using disk = await openDisk(source, { ...VHD, mode: 'write' });
    await disk.resize(1024 * MIB);
    expect(disk.images[0]?.info.geometry.physical).toEqual({ cylinders: 2080, heads: 16, sectors: 63 });
  });
});

describe('names of the parent', () => {
  /** A child whose only name is this one. */
  async function named(platform: number, name: Uint8Array): Promise<Source> {
    const provider = new MemoryProvider();
    const base = at('/base.vhd', provider);
    await createImage(base, { ...VHD, size: 4 * MIB });
    {
      await using disk = await openDisk(base, { ...VHD, mode: 'write' });
      await disk.write(0, new Uint8Array(SECTOR).fill(7));
    }
    const child = at('/child.vhd', provider);
    await createImage(child, { ...VHD, parent: base });
    const bytes = await fileBytes(child);
    const header = HEADER.decode(bytes.subarray(SECTOR, SECTOR + HEADER.size));
    const { fileOffset } = LOCATOR.decode(header.locators);
    const locators = new Uint8Array(header.locators.length);
    locators.set(LOCATOR.encode({ platform, space: 1, length: name.length, reserved: 0, fileOffset }), 48);
    await put(child, fileOffset, name);
    const parentName = new Uint8Array(header.parentName.length);
    await put(child, SECTOR, encodeHeader({ ...header, locators, parentName }));
    return child;
  }
  const utf16 = (text: string) => new Uint8Array(Buffer.from(text, 'utf16le'));
  const utf8 = (text: string) => new TextEncoder().encode(text);

  it.each([
    ['relative', 'base.vhd', PLATFORM.relative, utf16('.\\base.vhd')],
    ['absolute', '/base.vhd', PLATFORM.absolute, utf16('/base.vhd')],
    ['absolute, of another machine', 'D:/VMs/base.vhd', PLATFORM.absolute, utf16('D:\\VMs\\base.vhd')],
    ['old relative', 'base.vhd', PLATFORM.oldRelative, utf8('base.vhd')],
    ['old absolute', 'C:/base.vhd', PLATFORM.oldAbsolute, utf8('C:\\base.vhd')],
    ['file URL', '/a base.vhd', PLATFORM.url, utf8('file:///a%20base.vhd')],
    ['file URL of another machine', '/Users/me/base.vhd', PLATFORM.url, utf8('file://localhost/Users/me/base.vhd')],
  ])('are found: %s', async (_, parentName, platform, name) => {
    const child = await named(platform, name);
    expect(await inspect(child, VHD)).toMatchObject({ parentName });
    expect(await firstByte(child, { allow: ['same-directory'] })).toBe(7);
  });

  it('are not taken from an alias of a Mac, and not from a platform that is not known', async () => {
    for (const platform of [PLATFORM.mac, 0x5858_5858]) {
      const child = await named(platform, utf8('base.vhd'));
      expect((await inspect(child, VHD)).parentName).toBe(null);
    }
  });

  it('are stored again for another parent, in more room and in less, as Windows reads them', async () => {
    const child = await named(PLATFORM.relative, utf16('.\\base.vhd'));
    const { provider } = child;
    const long = `/${'long'.repeat(200)}.vhd`;
    await createImage(at(long, provider), { ...VHD, size: 4 * MIB });
    const allow = ['/'];
    {
      await using disk = await openDisk(child, { ...VHD, mode: 'write', allow });
      await disk.write(SECTOR, new Uint8Array(SECTOR).fill(8));
    }
    for (const name of [long, '/base.vhd']) {
      await rebaseImage(child, at(name, provider), { ...VHD, parentFormat: 'vhd', allow });
      const bytes = await fileBytes(child);
      const { locators, parentName } = HEADER.decode(bytes.subarray(SECTOR, SECTOR + HEADER.size));
      const stored = Array.from({ length: 8 }, (_, index) => LOCATOR.decode(locators, index * LOCATOR.size))
        .filter(({ platform }) => platform !== 0)
        .map(({ platform, space, length, fileOffset }) => {
          expect(space % SECTOR).toBe(0);
          expect(length).toBeLessThanOrEqual(space);
          expect(bytes.subarray(fileOffset + length, fileOffset + space).every((byte) => byte === 0)).toBe(true);
          return [platform, Buffer.from(bytes.subarray(fileOffset, fileOffset + length)).toString('utf16le')];
        });
      expect(stored).toEqual([
        [PLATFORM.absolute, name.replace('/', '\\')],
        [PLATFORM.relative, name.replace('/', '.\\')],
      ]);
      const inHeader = Buffer.from(parentName).swap16().toString('utf16le');
      expect(inHeader.slice(0, inHeader.indexOf('\0'))).toBe(name.slice(1, 256));
      expect((await inspect(child, VHD)).parentName).toBe(name.slice(1));
      expect((await checkImage(child, VHD)).findings).toEqual([]);
      await using disk = await openDisk(child, { ...VHD, allow });
      const content = new Uint8Array(2 * SECTOR);
      await disk.read(0, content);
      expect([content[0], content[SECTOR]]).toEqual([7, 8]);
    }
  });

  it('move with a longer table', async () => {
    const child = await named(PLATFORM.relative, utf16('.\\base.vhd'));
    {
      await using disk = await openDisk(child, { ...VHD, mode: 'write', allow: ['same-directory'] });
      await disk.write(2 * MIB, new Uint8Array(SECTOR).fill(9));
      await disk.resize(4096 * MIB);
    }
    expect(await firstByte(child, { allow: ['same-directory'] })).toBe(7);
    expect((await checkImage(child, VHD)).findings).toEqual([]);
    expect((await inspect(child, VHD)).parentName).toBe('base.vhd');
  });
});

describe('blocks of a child', () => {
  it('leave the footer where it is when the medium is full', async () => {
    const provider = new FaultProvider(new MemoryProvider());
    const [base, child] = [
      { provider, name: '/base.vhd' },
      { provider, name: '/child.vhd' },
    ];
    await createImage(base, { ...VHD, size: 4 * MIB });
    await createImage(child, { ...VHD, parent: base });
    const sound = await fileBytes(child);
    provider.plan({ capacity: sound.length + (await fileBytes(base)).length });
    {
      await using disk = await openDisk(child, { ...VHD, mode: 'write', allow: ['same-directory'] });
      const refused = disk.write(SECTOR, new Uint8Array(SECTOR).fill(1));
      await expect(refused).rejects.toMatchObject({ kind: 'no-space' });
      await disk.flush();
    }
    expect(Buffer.from(await fileBytes(child)).equals(sound)).toBe(true);
  });
});

describe('entries that the disk does not need', () => {
  /** A header that counts more entries than the table has, over the file as it is. */
  async function counting(source: Source, entries: number): Promise<void> {
    const bytes = await fileBytes(source);
    const header = HEADER.decode(bytes.subarray(SECTOR, SECTOR + HEADER.size));
    await put(source, SECTOR, encodeHeader({ ...header, entries }));
  }

  it.each([
    ['reach beyond the file', 2 ** 31],
    ['reach into a block', 4096],
  ])('are not counted where they %s', async (_, entries) => {
    const source = await filled(4 * MIB);
    await counting(source, entries);
    expect(await firstByte(source)).toBe(1);
    {
      await using disk = await openDisk(source, { ...VHD, mode: 'write' });
      await disk.write(2 * MIB, new Uint8Array(SECTOR).fill(2));
    }
    expect(await firstByte(source)).toBe(1);
    expect((await checkImage(source, VHD)).findings).toEqual([]);
    await counting(source, entries);
    const { repairs } = await checkImage(source, { ...VHD, repair: true });
    expect(repairs.map(({ code }) => code)).toEqual(['entries-count']);
    expect((await checkImage(source, VHD)).findings).toEqual([]);
  });

  it('keep their room where they have it', async () => {
    const source = at();
    await createImage(source, { ...VHD, size: 4 * MIB });
    // Two sectors are left behind the table, for names of a parent.
    await counting(source, 128 + 5);
    {
      await using disk = await openDisk(source, { ...VHD, mode: 'write' });
      await disk.write(2 * MIB, new Uint8Array(SECTOR).fill(2));
    }
    const bytes = await fileBytes(source);
    expect(HEADER.get(bytes.subarray(SECTOR), 'entries')).toBe(133);
    expect((await checkImage(source, VHD)).findings).toEqual([]);
  });
});

describe('sectors that a dynamic image never wrote', () => {
  it('read zero, are mapped so, and let the image be copied and written', async () => {
    const source = at();
    await createImage(source, { ...VHD, size: 4 * MIB });
    {
      await using disk = await openDisk(source, { ...VHD, mode: 'write' });
      await disk.write(0, new Uint8Array(2 * MIB).fill(1));
    }
    const bytes = await fileBytes(source);
    const bitmap = new DataView(bytes.buffer, bytes.byteOffset).getUint32(3 * SECTOR) * SECTOR;
    // Of the first block only eight sectors are stored, and the last one.
    await put(source, bitmap, Uint8Array.of(0xff, ...new Uint8Array(510), 1));
    const wanted = new Uint8Array(2 * MIB).fill(1, 0, 8 * SECTOR).fill(1, 2 * MIB - SECTOR);
    const content = async (one: Source): Promise<Uint8Array> => {
      await using disk = await openDisk(one, VHD);
      const found = new Uint8Array(2 * MIB);
      await disk.read(0, found);
      return found;
    };
    expect(Buffer.from(await content(source)).equals(wanted)).toBe(true);
    {
      await using disk = await openDisk(source, VHD);
      const runs: unknown[] = [];
      for await (const { length, state, compressed } of disk.extents()) runs.push([length, state, compressed]);
      expect(runs).toEqual([
        [8 * SECTOR, 'data', false],
        [2 * MIB - 9 * SECTOR, 'zero', false],
        [SECTOR, 'data', false],
        [2 * MIB, 'absent', false],
      ]);
    }
    const copy = at('/copy.vhd');
    {
      await using disk = await openDisk(source, VHD);
      await copyImage(disk, 0, copy);
    }
    expect(Buffer.from(await content(copy)).equals(wanted)).toBe(true);
    {
      await using disk = await openDisk(source, { ...VHD, mode: 'write' });
      await disk.write(100 * SECTOR, new Uint8Array(SECTOR).fill(3));
    }
    wanted.fill(3, 100 * SECTOR, 101 * SECTOR);
    expect(Buffer.from(await content(source)).equals(wanted)).toBe(true);
    expect((await checkImage(source, VHD)).findings).toEqual([]);
  });
});
