/** Disks of 0 bytes, as qemu-img makes them. */
import { describe, expect, it } from 'vitest';
import { MemoryProvider } from '../storage/memory.ts';
import { checkImage } from './check.ts';
import { convert } from './convert.ts';
import { createImage } from './create.ts';
import { openDisk } from './open.ts';

const FORMATS = ['raw', 'qcow2'];

describe('a disk of 0 bytes', () => {
  it.each(FORMATS.flatMap((from) => FORMATS.map((to) => [from, to] as const)))(
    'is created, and converted: %s to %s',
    async (from, to) => {
      const provider = new MemoryProvider();
      await createImage({ provider, name: '/a' }, { format: from, size: 0 });
      await convert({ provider, name: '/a' }, { provider, name: '/b' }, { sourceFormat: from, format: to });
      await using disk = await openDisk({ provider, name: '/b' }, { format: to });
      expect(disk.size).toBe(0);
      if (to === 'qcow2') expect(await checkImage({ provider, name: '/b' })).toMatchObject({ clean: true });
    },
  );

  it('is refused by a format that needs a sector, which names others', async () => {
    const target = { provider: new MemoryProvider(), name: '/a.vdi' };
    const refused = { kind: 'invalid-argument', hint: expect.stringContaining('qcow2') };
    await expect(createImage(target, { size: 0 })).rejects.toMatchObject(refused);
  });

  it('grows', async () => {
    const source = { provider: new MemoryProvider(), name: '/a.qcow2' };
    await createImage(source, { size: 0 });
    await using disk = await openDisk(source, { mode: 'write' });
    await disk.resize(65_536);
    await disk.write(512, new Uint8Array(512).fill(7));
    const read = new Uint8Array(65_536);
    await disk.read(0, read);
    expect(read.indexOf(7)).toBe(512);
  });

  /** As qemu-img makes them; vdkit gives them a table with one entry. */
  it('has internal snapshots though its L1 table has no entries, and no leaks after them', async () => {
    const source = { provider: new MemoryProvider(), name: '/a.qcow2' };
    await createImage(source, { size: 0 });
    const storage = await source.provider.open(source.name, 'write');
    // l1_size at 36 and l1_table_offset at 40; the table's cluster is the last.
    await storage.write(36, new Uint8Array(12));
    await storage.resize(storage.size - 65_536);
    await storage.write(2 * 65_536 + 6, new Uint8Array(2));
    await storage.close();
    const clean = { clean: true };
    expect(await checkImage(source)).toMatchObject(clean);
    await using disk = await openDisk(source, { mode: 'write' });
    await disk.snapshots.create('first');
    await disk.snapshots.apply('first');
    await disk.close();
    expect(await checkImage(source)).toMatchObject(clean);
  });
});
