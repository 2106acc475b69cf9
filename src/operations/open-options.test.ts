/** Options of single images of a chain, and the messages about them. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { HEADER } from '../formats/vdi/layout.ts';
import { createImage, Disk, FORMATS, type Message, type Timers } from '../index.ts';
import type { Storage, StorageProvider } from '../storage/contract.ts';
import { forwardedProvider } from '../storage/forwarding.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { overriding, registryWith } from '../testing/overriding.ts';

const MIB = 1024 ** 2;
const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;

let provider: MemoryProvider;
const at = (name: string, from: StorageProvider = provider) => ({ provider: from, name });
const modes = (disk: Disk) => disk.images.map(({ mode }) => mode);

beforeEach(async () => {
  provider = new MemoryProvider();
  await createImage(at('/base.vdi'), { size: 4 * MIB });
  await createImage(at('/child.vdi'), { parent: at('/base.vdi') });
});

/** The provider, with a callback for every opened storage. */
function watching(seen: (name: string, storage: Storage) => void): StorageProvider {
  return forwardedProvider(provider, {
    open: async (name, mode) => {
      const storage = await provider.open(name, mode);
      seen(name, storage);
      return storage;
    },
  });
}

describe('the images of a chain', () => {
  it('are written again when they lose their child, if that was wanted of them', async () => {
    await using disk = await Disk.open(at('/child.vdi'), { mode: 'write', ...OPEN });
    expect(modes(disk)).toEqual(['read', 'write']);
    await disk.createDiff(at('/third.vdi'), { mode: 'read' });
    expect(modes(disk)).toEqual(['read', 'read', 'read']);
    expect(disk.can.write).toBe(false);
    await disk.closeLast();
    expect(modes(disk)).toEqual(['read', 'write']);
    await disk.closeLast();
    expect(modes(disk)).toEqual(['write']);
  });

  it.each([
    [['write', 'write'], 'write'],
    [['read', 'write'], 'read'],
    [['write', 'read'], 'write'],
    [['read', 'read'], 'read'],
  ] as const)('keep the mode that each was named with: %j', async ([base, child], after) => {
    await using disk = await Disk.open([
      { image: at('/base.vdi'), mode: base },
      { image: at('/child.vdi'), mode: child },
    ]);
    expect(modes(disk)).toEqual(['read', child]);
    await disk.closeLast();
    expect(modes(disk)).toEqual([after]);
    expect(disk.can.write).toBe(after === 'write');
  });

  it('stay readable when one that loses its child cannot be written', async () => {
    for (const readOnlyFallback of [false, true]) {
      const disk = await Disk.open(at('/child.vdi'), { mode: 'write', readOnlyFallback, ...OPEN });
      await using _reader = await Disk.open(at('/base.vdi'));
      const closing = disk.closeLast();
      if (readOnlyFallback) await closing;
      else await expect(closing).rejects.toMatchObject({ kind: 'locked' });
      expect(disk.can.write).toBe(false);
      await disk.read(0, new Uint8Array(512));
      await disk.close();
    }
  });

  it('have separate formats', async () => {
    await createImage(at('/base.img'), { format: 'raw', size: 4 * MIB });
    await using disk = await Disk.open([{ image: at('/base.img'), format: 'raw' }, at('/child.vdi')], {
      linkage: 'off',
    });
    expect(disk.images.map(({ format }) => format)).toEqual(['raw', 'vdi']);
    await expect(Disk.open([{ image: at('/base.img'), format: 'vdi' }, at('/child.vdi')])).rejects.toThrow();
  });

  it('keep the kind of medium when they are reopened', async () => {
    await createImage(at('/disc.bin'), { format: 'raw', size: 2 * MIB, type: 'optical' });
    await using disk = await Disk.open({ image: at('/disc.bin'), format: 'raw', type: 'optical' }, { mode: 'write' });
    await disk.createDiff(at('/over.vdi'));
    await disk.closeLast({ remove: true });
    expect(disk.images[0]?.info.type).toBe('optical');
  });

  it('refuse values for config keys that are for new images only, or that are unknown', async () => {
    const open = (config: Record<string, number>) => Disk.open({ image: at('/base.vdi'), config });
    await expect(open({ AllocationBlockSize: 4096 })).rejects.toThrow('is for new images only');
    await expect(open({ Colour: 1 })).rejects.toMatchObject({ status: 'VERR_VD_UNKNOWN_CFG_VALUES' });
  });

  it('do not stand below a fixed one, and give it back', async () => {
    await createImage(at('/fixed.vdi'), { size: 4 * MIB, variant: ['fixed'] });
    const wrong = Disk.open([at('/base.vdi'), at('/fixed.vdi')], { mode: 'write' });
    await expect(wrong).rejects.toMatchObject({ status: 'VERR_VD_INVALID_TYPE', context: { path: '/fixed.vdi' } });
    await (await Disk.open(at('/fixed.vdi'), { mode: 'write' })).close();
    await (await Disk.open(at('/base.vdi'), { mode: 'write' })).close();
    await using information = await Disk.open([at('/base.vdi'), at('/fixed.vdi')], { infoOnly: true });
    expect(information.images).toHaveLength(2);
  });
});

describe('setOpenOptions', () => {
  it('opens the last image in another mode, with all that was written', async () => {
    await using disk = await Disk.open(at('/child.vdi'), { mode: 'write', ...OPEN });
    await disk.write(0, Uint8Array.of(1, 2, 3));
    await disk.setOpenOptions('last', { mode: 'read' });
    expect(disk.can.write).toBe(false);
    await expect(disk.write(0, Uint8Array.of(9))).rejects.toMatchObject({ kind: 'read-only' });
    await using reader = await Disk.open(at('/child.vdi'), OPEN);
    const bytes = new Uint8Array(3);
    await reader.read(0, bytes);
    expect([...bytes]).toEqual([1, 2, 3]);
    await expect(disk.setOpenOptions('last', { mode: 'write' })).rejects.toMatchObject({ kind: 'locked' });
    expect(disk.can.write).toBe(false);
    await disk.read(0, bytes);
    await reader.close();
    await disk.setOpenOptions('last', { mode: 'write' });
    await disk.write(0, Uint8Array.of(4));
  });

  it('gives a new modification UUID to what is written after it', async () => {
    await using disk = await Disk.open(at('/base.vdi'), { mode: 'write', ...OPEN });
    const uuid = () => disk.images[0]?.info.modificationUuid;
    await disk.write(0, Uint8Array.of(1));
    await disk.flush();
    await disk.setOpenOptions(0, { mode: 'read' });
    const before = uuid();
    await disk.setOpenOptions(0, { mode: 'write' });
    expect(uuid()).toBe(before);
    await disk.write(0, Uint8Array.of(2));
    expect(uuid()).not.toBe(before);
  });

  it('remembers for an image below its mode as the last one', async () => {
    await using disk = await Disk.open(at('/child.vdi'), { mode: 'write', ...OPEN });
    await disk.setOpenOptions(0, { mode: 'read' });
    expect(modes(disk)).toEqual(['read', 'write']);
    await disk.closeLast();
    expect(modes(disk)).toEqual(['read']);
  });

  it('changes how writes are stored', async () => {
    await using disk = await Disk.open(at('/base.vdi'), { mode: 'write', ...OPEN });
    const stored = async (): Promise<boolean> => (await disk.extentAt(0, 512)).state === 'data';
    await disk.write(0, new Uint8Array(512));
    expect(await stored()).toBe(false);
    await disk.setOpenOptions('last', { honourZeroes: true, honourSame: true });
    await disk.write(0, new Uint8Array(512));
    expect((await disk.extentAt(0, 512)).state).not.toBe('absent');
    await disk.setOpenOptions('last', { discard: false });
    expect(disk.can.discard).toBe(false);
    await disk.write(MIB, new Uint8Array(MIB).fill(1));
    await disk.discard([{ offset: MIB, length: MIB }]);
    expect((await disk.extentAt(MIB, 2 * MIB)).state).toBe('data');
    await disk.setOpenOptions('last', { discard: true });
    await disk.discard([{ offset: MIB, length: MIB }]);
    expect((await disk.extentAt(MIB, 2 * MIB)).state).toBe('zero');
  });

  it('shares an image with others from then on', async () => {
    await using disk = await Disk.open(at('/base.vdi'), { mode: 'write', ...OPEN });
    const other = () => Disk.open(at('/base.vdi'), { mode: 'write', shareable: true });
    await expect(other()).rejects.toMatchObject({ kind: 'locked' });
    await disk.setOpenOptions('last', { shareable: true });
    await (await other()).close();
  });

  it('refuses numbers that no image has, and closed disks', async () => {
    const disk = await Disk.open(at('/base.vdi'), { mode: 'write', ...OPEN });
    const wrong = disk.setOpenOptions(1, { mode: 'read' });
    await expect(wrong).rejects.toMatchObject({ status: 'VERR_VD_IMAGE_NOT_FOUND' });
    await disk.close();
    await expect(disk.setOpenOptions(0, {})).rejects.toMatchObject({ status: 'VERR_VD_NOT_OPENED' });
  });
});

describe('opening', () => {
  it('says why it fell back to reading', async () => {
    await using _writer = await Disk.open(at('/base.vdi'), { mode: 'read' });
    const told: Message[] = [];
    const options = {
      mode: 'write',
      readOnlyFallback: true,
      onMessage: (message: Message) => told.push(message),
    } as const;
    await using disk = await Disk.open(at('/base.vdi'), options);
    expect(disk.can.write).toBe(false);
    expect(disk.warnings.join()).toContain('open for reading only');
    expect(told).toEqual([{ level: 'warning', path: '/base.vdi', text: expect.stringContaining('for reading only') }]);
  });

  it('needs only the headers for information', async () => {
    await using writer = await Disk.open(at('/child.vdi'), { mode: 'write', ...OPEN });
    await using disk = await Disk.open(at('/child.vdi'), { infoOnly: true, mode: 'write' });
    expect(disk.images.map(({ name, mode }) => [name, mode])).toEqual([['/child.vdi', 'read']]);
    expect(disk.size).toBe(writer.size);
    const refused = { kind: 'unsupported', message: expect.stringContaining('infoOnly') };
    await expect(disk.read(0, new Uint8Array(1))).rejects.toMatchObject(refused);
    expect(() => disk.readNow(0, new Uint8Array(1))).toThrow(expect.objectContaining(refused));
    expect(() => disk.extentAt(0, 1)).toThrow(expect.objectContaining(refused));
    await expect(disk.createDiff(at('/new.vdi'))).rejects.toMatchObject(refused);
    await expect(disk.write(0, new Uint8Array(1))).rejects.toMatchObject(refused);
    await expect(disk.setOpenOptions(0, {})).rejects.toMatchObject(refused);
    await expect(disk.merge(0, 'last')).rejects.toMatchObject({ kind: 'read-only' });
  });

  it('repairs what is damaged when told to, and says so', async () => {
    await using disk = await Disk.open(at('/base.vdi'), { mode: 'write', ...OPEN });
    await disk.write(0, new Uint8Array(2 * MIB).fill(1));
    await disk.close();
    const storage = await provider.open('/base.vdi', 'write');
    const header = new Uint8Array(512);
    await storage.read(0, header);
    // Both blocks in one slot.
    const map = HEADER.get(header, 'mapOffset');
    await storage.write(map, new Uint8Array(8));
    await storage.close();
    const open = (repair: boolean) => Disk.open(at('/base.vdi'), { mode: 'write', repair, ...OPEN });
    await expect(open(false)).rejects.toMatchObject({ kind: 'read-only' });
    await using repaired = await open(true);
    expect(repaired.warnings.join()).toContain('/base.vdi was damaged and has been repaired');
    await repaired.write(0, new Uint8Array(MIB).fill(2));
    const other = new Uint8Array(1);
    await repaired.read(MIB, other);
    expect(other[0]).not.toBe(2);
  });

  it('refuses an image that cannot give room back, when discards are a must', async () => {
    const registry = registryWith(FORMATS, (image) => overriding(image, { can: { ...image.can, discard: false } }));
    const open = (discard: boolean) => Disk.open(at('/base.vdi'), { mode: 'write', discard, registry });
    await expect(open(true)).rejects.toMatchObject({
      kind: 'unsupported',
      status: 'VERR_VD_DISCARD_NOT_SUPPORTED',
    });
    await (await open(false)).close();
    await (await Disk.open(at('/base.vdi'), { mode: 'write', discard: true })).close();
  });

  it('tells the system that reads will come in order', async () => {
    const advised = vi.fn();
    const watched = watching((name, storage) => {
      Object.assign(storage, { adviseSequential: () => advised(name) });
    });
    await using _plain = await Disk.open(at('/child.vdi', watched), OPEN);
    expect(advised).not.toHaveBeenCalled();
    await using _disk = await Disk.open(at('/child.vdi', watched), { sequential: true, ...OPEN });
    expect(advised.mock.calls.flat().sort()).toEqual(['/base.vdi', '/child.vdi']);
  });

  it('tells of a flush that fails by itself', async () => {
    const told: Message[] = [];
    const timers: { run: (() => void) | null } & Timers = {
      run: null,
      set(_, run) {
        this.run = run;
      },
      clear() {},
    };
    const failing = watching((_, storage) => {
      Object.assign(storage, { flush: () => Promise.reject(new Error('the medium is gone')) });
    });
    const good = await Disk.open(at('/base.vdi'), { mode: 'write', ...OPEN });
    await good.close();
    const disk = await Disk.open(at('/base.vdi', failing), {
      mode: 'write',
      ignoreFlush: false,
      timers,
      flushAfterMs: 5,
      onMessage: (message) => told.push(message),
    });
    await expect(disk.write(0, Uint8Array.of(1))).rejects.toThrow('the medium is gone');
    timers.run?.();
    await vi.waitFor(() => expect(told).toHaveLength(1));
    expect(told[0]).toMatchObject({ level: 'error', path: '/base.vdi', text: expect.stringContaining('flushed') });
    await disk.close().catch(() => {});
  });
});
