import { describe, expect, it } from 'vitest';
import { convertRegions, createImage, Disk, detectFormat, floppyType } from '../index.ts';
import { MemoryProvider } from '../storage/memory.ts';

const MIB = 1024 ** 2;
const at = (name: string, provider = new MemoryProvider()) => ({ provider, name });

describe('what an open disk tells of its images', () => {
  it('is the metadata with its bytes, and enough of it to make a copy without data', async () => {
    const source = at('/disk.vdi');
    await using disk = await Disk.create(source, { size: 8 * MIB, flushAfterMs: 0 });
    await disk.write(3 * MIB, new Uint8Array(MIB).fill(7));
    await disk.flush();
    const copy = at('/copy.vdi', source.provider);
    const target = await source.provider.create(copy.name);
    const found: string[] = [];
    for await (const { file, what, offset, bytes, guestOffset } of disk.metadata('last', { perUnit: true })) {
      found.push(what);
      expect([file, guestOffset]).toEqual(['/disk.vdi', null]);
      await target.write(offset, bytes);
    }
    expect(found).toEqual(['header', 'block map']);
    await target.resize((await disk.fileSizes(0)).fileSize);
    await target.close();
    await using again = await Disk.open(copy);
    expect((await again.extentAt(3 * MIB, 4 * MIB)).state).toBe('zero');
    expect(again.images[0]?.info.uuid).toBe(disk.images[0]?.info.uuid);
    await again.read(3 * MIB, new Uint8Array(MIB));
  });

  it('is nothing of a raw image', async () => {
    await using disk = await Disk.create(at('/disk.raw'), { format: 'raw', size: MIB });
    for await (const _ of disk.metadata(0)) expect.unreachable();
  });

  it('is a text with the facts of every image', async () => {
    const source = at('/base.vdi');
    await using disk = await Disk.create(source, { size: MIB, comment: 'first\u001b[31m line' });
    await disk.createDiff(at('/child.vdi', source.provider));
    const text = await disk.dump();
    expect(text).toMatch(/^2 images, base first\n\nimage 0: \/base\.vdi \(vdi\)\n/);
    expect(text).toContain('image 1: /child.vdi (vdi)');
    expect(text).toContain('comment: first\\x1b[31m line');
    expect(text).toContain('metadata: header 512 bytes at 0; block map 4 bytes at');
    expect(text).toContain(`parentUuid: ${disk.images[0]?.info.uuid}`);
  });

  it('is a geometry that drives and BIOS calls can have', async () => {
    const logical = { cylinders: 2000, heads: 255, sectors: 63 };
    const source = at('/disk.vdi');
    await createImage(source, {
      size: MIB,
      geometry: { physical: { cylinders: 70_000, heads: 16, sectors: 63 }, logical },
    });
    await using disk = await Disk.open(source);
    expect(disk.geometry).toEqual({ physical: { cylinders: 16_383, heads: 16, sectors: 63 }, logical });
    await using plain = await Disk.create(at('/plain.vdi'), { size: MIB });
    expect(plain.geometry.logical).toBeNull();
  });

  it('is its regions in both units', async () => {
    await using disk = await Disk.create(at('/disk.vdi'), { size: MIB });
    const list = disk.images[0]?.info.regions;
    if (list === undefined) throw new Error('internal: there is an image');
    expect(convertRegions(list, 'blocks')).toMatchObject({ unit: 'blocks', regions: [{ offset: 0, length: 2048 }] });
    expect(convertRegions(convertRegions(list, 'blocks'), 'bytes')).toEqual(list);
    expect(floppyType(1_474_560)).toBe('floppy-1.44');
  });

  it('refuses numbers that no image has', async () => {
    await using disk = await Disk.create(at('/disk.vdi'), { size: MIB });
    const notFound = expect.objectContaining({ status: 'VERR_VD_IMAGE_NOT_FOUND' });
    expect(() => disk.metadata(1)).toThrow(notFound);
    expect(() => disk.fileSizes(-1)).toThrow(notFound);
  });
});

describe('detectFormat', () => {
  const provider = new MemoryProvider();
  const write = async (name: string, bytes: Uint8Array): Promise<void> => {
    const storage = await provider.create(name);
    await storage.write(0, bytes);
    await storage.close();
  };

  it('knows an image of a version that cannot be read', async () => {
    await createImage(at('/new.vdi', provider), { size: MIB });
    const storage = await provider.open('/new.vdi', 'write');
    await storage.write(0x44, Uint8Array.of(1, 0, 9, 0));
    await storage.close();
    expect(await detectFormat(at('/new.vdi', provider))).toMatchObject({ format: 'vdi', type: 'hdd', guessed: false });
    await expect(Disk.open(at('/new.vdi', provider))).rejects.toThrow();
  });

  it('takes raw disks by size, name and content', async () => {
    await write('/x.img', new Uint8Array(1_474_560));
    expect(await detectFormat(at('/x.img', provider))).toMatchObject({ format: 'raw', type: 'floppy', guessed: true });
    const disc = new Uint8Array(2 * MIB);
    disc.set([1, ...Buffer.from('CD001')], 32_768);
    disc.set([255, ...Buffer.from('CD001')], 34_816);
    await write('/x.bin', disc);
    expect(await detectFormat(at('/x.bin', provider))).toMatchObject({ format: 'raw', type: 'optical' });
  });

  it('does not take everything for a disk', async () => {
    await write('/hello.txt', Buffer.from('hello'));
    const text = detectFormat(at('/hello.txt', provider));
    await expect(text).rejects.toMatchObject({ kind: 'invalid-format', status: 'VERR_NOT_SUPPORTED' });
    await expect(detectFormat(at('/none', provider))).rejects.toMatchObject({ kind: 'not-found' });
  });
});
