/** A disk as a file: position and ends, compared with a model. */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { randomBytes, rounds } from '../../test/conformance/random.ts';
import type { ChainDisk } from '../disk/disk.ts';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import { MemoryProvider, MemoryStorage } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { diskFile, type SeekOrigin, storageFile } from './file.ts';

const SIZE = 10_240;

async function newDisk(format = 'vdi', size = SIZE): Promise<ChainDisk> {
  const place = { provider: new MemoryProvider(), name: `/disk.${format}` };
  await createImage(place, { size, format });
  return openDisk(place, { mode: 'write', format });
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe('a disk as a file', () => {
  it('reads and writes at its position, at any offset and length', async () => {
    await using disk = await newDisk();
    await using file = diskFile(disk);
    expect(file).toMatchObject({ size: SIZE, writable: true, label: disk.label });
    expect(await file.write(bytes(1, 2, 3), { at: 511 })).toBe(3);
    expect(file.tell()).toBe(514);
    expect(await file.write([bytes(4), bytes(5, 6)])).toBe(3);
    expect(file.seek(510)).toBe(510);
    const [one, two] = [new Uint8Array(3), new Uint8Array(5)];
    expect(await file.read([one, two])).toBe(8);
    expect([...one, ...two]).toEqual([0, 1, 2, 3, 4, 5, 6, 0]);
    expect(file.tell()).toBe(518);
  });

  it('ends where the disk ends', async () => {
    await using disk = await newDisk();
    const file = diskFile(disk);
    const target = new Uint8Array(8).fill(9);
    expect(await file.write(bytes(1, 2, 3, 4), { at: SIZE - 2 })).toBe(2);
    expect(file.tell()).toBe(SIZE);
    expect(await file.read(target, { at: SIZE - 2 })).toBe(2);
    expect([...target.subarray(0, 3)]).toEqual([1, 2, 9]);
    for (const at of [SIZE, SIZE + 100]) {
      expect(await file.read(target, { at })).toBe(0);
      expect(file.tell()).toBe(SIZE);
      file.seek(3);
      await expect(file.write(bytes(1), { at })).rejects.toMatchObject({ kind: 'out-of-bounds', status: 'VERR_EOF' });
      expect(file.tell()).toBe(SIZE);
    }
    expect(disk.size).toBe(SIZE);
  });

  it('moves everything or nothing where it is told so', async () => {
    await using disk = await newDisk();
    const file = diskFile(disk);
    await file.write(new Uint8Array(SIZE).fill(7));
    file.seek(5);
    const target = new Uint8Array(4);
    for (const transfer of [
      () => file.read(target, { at: SIZE - 3, exact: true }),
      () => file.write(bytes(1, 1, 1, 1), { at: SIZE - 3, exact: true }),
    ]) {
      await expect(transfer()).rejects.toMatchObject({ status: 'VERR_EOF' });
      expect(file.tell()).toBe(5);
    }
    expect([...target]).toEqual([0, 0, 0, 0]);
    expect(await file.read(target, { at: SIZE - 4, exact: true })).toBe(4);
    expect([...target]).toEqual([7, 7, 7, 7]);
  });

  it('seeks from the begin, the position and the end, and behind it', async () => {
    await using disk = await newDisk();
    const file = diskFile(disk);
    expect(file.seek(-4, 'end')).toBe(SIZE - 4);
    expect(file.seek(-6, 'current')).toBe(SIZE - 10);
    expect(file.seek(100, 'end')).toBe(SIZE + 100);
    expect(file.seek(-1)).toBe(0);
    expect(file.seek(Number.MAX_SAFE_INTEGER, 'end')).toBe(Number.MAX_SAFE_INTEGER);
    await expectKind(() => file.seek(0, 'middle' as SeekOrigin), 'invalid-argument');
    await expectKind(() => file.seek(0.5), 'invalid-argument');
    await expectKind(() => file.read(new Uint8Array(1), { at: -1 }), 'invalid-argument');
  });

  it('knows its size when it is asked, and what the host keeps', async () => {
    await using disk = await newDisk('vdi', 2 ** 21);
    const file = diskFile(disk);
    const before = await file.stat();
    expect(before).toMatchObject({ size: 2 ** 21, kind: 'file', mode: 0o644, links: 1, owner: null, group: null });
    await disk.resize(2 ** 22);
    await file.write(bytes(1), { at: 2 ** 22 - 1 });
    expect(file.size).toBe(2 ** 22);
    const { allocatedSize } = await file.stat();
    expect(allocatedSize).toBe((await disk.fileSizes(0)).fileSize);
    expect(allocatedSize).toBeGreaterThan(before.allocatedSize ?? Number.POSITIVE_INFINITY);
  });

  it('lets calls that are not waited for follow each other', async () => {
    await using disk = await newDisk();
    const file = diskFile(disk);
    await Promise.all([file.write(bytes(1, 2)), file.write(bytes(3)), file.write(bytes(4, 5))]);
    const target = new Uint8Array(6);
    await disk.read(0, target);
    expect([...target]).toEqual([1, 2, 3, 4, 5, 0]);
  });

  it('stays where it was when a transfer fails', async () => {
    const disk = await newDisk();
    const file = diskFile(disk);
    file.seek(100);
    await disk.close();
    await expectKind(() => file.read(new Uint8Array(4)), 'invalid-argument');
    expect(file.tell()).toBe(100);
  });

  it('closes the disk only when it was asked to', async () => {
    for (const closeDisk of [false, true]) {
      const disk = await newDisk();
      const file = diskFile(disk, { closeDisk });
      await file.write(bytes(1));
      await file.flush();
      await file.close();
      await file.close();
      await expectKind(() => file.read(new Uint8Array(1)), 'io');
      await expectKind(() => file.write(bytes(1)), 'io');
      await expectKind(() => file.tell(), 'io');
      await expectKind(() => file.flush(), 'io');
      await expectKind(() => file.stat(), 'io');
      const use = disk.read(0, new Uint8Array(1));
      if (closeDisk) await expect(use).rejects.toMatchObject({ status: 'VERR_VD_NOT_OPENED' });
      else await use;
      await disk.close();
    }
  });

  it('is not written where the disk is not', async () => {
    const place = { provider: new MemoryProvider(), name: '/disk.vdi' };
    await createImage(place, { size: SIZE });
    await using disk = await openDisk(place);
    const file = diskFile(disk);
    expect(file.writable).toBe(false);
    await expectKind(() => file.write(bytes(1)), 'read-only');
  });

  /** Model: an array and a number. */
  it.each(['vdi', 'qcow2', 'raw'])('does what an array with a position does: %s', async (format) => {
    for (let seed = 1; seed <= rounds(6, 200); seed++) {
      const random = new Random(seed);
      await using disk = await newDisk(format);
      const file = diskFile(disk);
      const model = new Uint8Array(SIZE);
      let position = 0;
      for (let step = 0; step < 60; step++) {
        const note = `seed ${seed}, step ${step}`;
        const at = random.below(4) === 0 ? undefined : random.below(SIZE + 600);
        const start = at ?? position;
        const length = random.below(3) === 0 ? random.below(3000) : random.below(40);
        const inside = Math.min(length, Math.max(SIZE - start, 0));
        const where = at === undefined ? {} : { at };
        switch (random.below(4)) {
          case 0: {
            const origin = (['begin', 'current', 'end'] as const)[random.below(3)] ?? 'begin';
            const by = random.below(2 * SIZE) - SIZE;
            position = Math.max({ begin: 0, current: position, end: SIZE }[origin] + by, 0);
            expect(file.seek(by, origin), note).toBe(position);
            break;
          }
          case 1: {
            const data = randomBytes(random, length);
            const writing = file.write(data, where);
            if (inside === 0 && length > 0) await expect(writing, note).rejects.toMatchObject({ status: 'VERR_EOF' });
            else expect(await writing, note).toBe(inside);
            model.set(data.subarray(0, inside), Math.min(start, SIZE));
            position = Math.min(start, SIZE) + inside;
            break;
          }
          default: {
            const target = new Uint8Array(length).fill(0xee);
            expect(await file.read(target, where), note).toBe(inside);
            const wanted = new Uint8Array(length).fill(0xee);
            wanted.set(model.subarray(Math.min(start, SIZE), Math.min(start, SIZE) + inside));
            expectSameBytes(target, wanted, note);
            position = Math.min(start, SIZE) + inside;
          }
        }
        expect(file.tell(), note).toBe(position);
      }
      const whole = new Uint8Array(SIZE);
      await disk.read(0, whole);
      expectSameBytes(whole, model, `seed ${seed}`);
    }
  });
});

describe('a storage as a file', () => {
  it('seeks inside, and grows by writing', async () => {
    const storage = new MemoryStorage();
    const file = storageFile(storage);
    expect(await file.write(bytes(1, 2, 3))).toBe(3);
    expect(file.seek(100)).toBe(3);
    expect(file.seek(-1, 'end')).toBe(2);
    expect(await file.write(bytes(9, 9))).toBe(2);
    expect(file.size).toBe(4);
    const target = new Uint8Array(8);
    expect(await file.read(target, { at: 0 })).toBe(4);
    expect([...target.subarray(0, 4)]).toEqual([1, 2, 9, 9]);
    expect(await file.read(target)).toBe(0);
    expect((await file.stat()).size).toBe(4);
  });

  it('closes the storage only when it was asked to', async () => {
    for (const closeStorage of [false, true]) {
      const storage = new MemoryStorage();
      await storage.write(0, bytes(1));
      await storageFile(storage, { closeStorage }).close();
      const reading = storage.read(0, new Uint8Array(1));
      if (closeStorage) await expect(reading).rejects.toMatchObject({ kind: 'io' });
      else await reading;
    }
  });
});
