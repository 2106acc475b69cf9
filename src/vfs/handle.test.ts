/** Disks as handles, compared with a FileHandle of Node over a file of the same content. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../test/conformance/random.ts';
import type { ChainDisk } from '../disk/disk.ts';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { fileHandle } from './handle.ts';

const SIZE = 8192;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-handle-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function newDisk(): Promise<ChainDisk> {
  const place = { provider: new MemoryProvider(), name: '/disk.vdi' };
  await createImage(place, { size: SIZE });
  return openDisk(place, { mode: 'write' });
}

describe('a disk as a handle', () => {
  it('does what a FileHandle does with a file of its size', async () => {
    await using disk = await newDisk();
    const ours = fileHandle(disk);
    const theirs = await open(join(folder, 'model'), 'w+');
    await theirs.truncate(SIZE);
    const random = new Random(7);
    for (let step = 0; step < 300; step++) {
      const note = `step ${step}`;
      const position = random.below(3) === 0 ? null : random.below(SIZE - 64);
      const data = randomBytes(random, 64);
      const [offset, length] = [random.below(32), random.below(32)];
      if (random.below(2) === 0) {
        const [a, b] = [new Uint8Array(64), new Uint8Array(64)];
        const { bytesRead } = await ours.read(a, offset, length, position);
        expect(bytesRead, note).toBe((await theirs.read(b, offset, length, position)).bytesRead);
        expectSameBytes(a, b, note);
      } else if (position === null) {
        // The own position moves with what is read and written, but stays inside.
        const list = [data.subarray(0, 8), new DataView(data.buffer, 8, 5)];
        expect((await ours.readv(list)).bytesRead, note).toBe((await theirs.readv(list)).bytesRead);
      } else {
        const { bytesWritten, buffer } = await ours.write(data, offset, length, position);
        expect(buffer).toBe(data);
        expect(bytesWritten, note).toBe((await theirs.write(data, offset, length, position)).bytesWritten);
        const list = [data.subarray(0, 3), new Uint16Array(data.buffer, 4, 3)];
        expect((await ours.writev(list, position)).bytesWritten, note).toBe(
          (await theirs.writev(list, position)).bytesWritten,
        );
      }
    }
    const [a, b] = [new Uint8Array(SIZE), new Uint8Array(SIZE)];
    await ours.read(a, 0, SIZE, 0);
    await theirs.read(b, 0, SIZE, 0);
    expectSameBytes(a, b);
    await theirs.close();
  });

  it('writes at its own position one after another', async () => {
    await using disk = await newDisk();
    const handle = fileHandle(disk);
    await Promise.all([
      handle.write(Uint8Array.of(1, 2)),
      handle.write(Uint8Array.of(3)),
      handle.writev([Uint8Array.of(4)]),
    ]);
    const { buffer } = await handle.read(new Uint8Array(5), null, null, 0);
    expect([...buffer]).toEqual([1, 2, 3, 4, 0]);
    expect((await handle.read(new Uint8Array(1))).bytesRead).toBe(1);
  });

  it('never makes the disk longer', async () => {
    await using disk = await newDisk();
    const handle = fileHandle(disk);
    expect((await handle.write(new Uint8Array(10).fill(1), 0, 10, SIZE - 4)).bytesWritten).toBe(4);
    expect((await handle.read(new Uint8Array(10), 0, 10, SIZE)).bytesRead).toBe(0);
    await expect(handle.write(Uint8Array.of(1), 0, 1, SIZE)).rejects.toMatchObject({ status: 'VERR_EOF' });
    await handle.truncate(SIZE);
    await expectKind(() => handle.truncate(), 'unsupported');
    await expectKind(() => handle.truncate(SIZE * 2), 'unsupported');
    expect(disk.size).toBe(SIZE);
  });

  it('refuses parts that do not lie inside the buffer', async () => {
    await using disk = await newDisk();
    const handle = fileHandle(disk);
    const buffer = new Uint8Array(8);
    for (const [offset, length] of [
      [9, 0],
      [0, 9],
      [-1, 1],
      [0, -1],
      [0.5, 1],
    ] as const) {
      await expectKind(() => handle.read(buffer, offset, length), 'invalid-argument');
    }
    await expectKind(() => handle.read(buffer, 0, 1, -2), 'invalid-argument');
    await expectKind(() => handle.write('text' as unknown as Uint8Array), 'invalid-argument');
  });

  it('flushes, says what it is, and closes the disk when asked to', async () => {
    const disk = await newDisk();
    const handle = fileHandle(disk, { closeDisk: true });
    await handle.sync();
    await handle.datasync();
    const stats = await handle.stat();
    expect(stats).toMatchObject({ size: SIZE, nlink: 1 });
    expect(stats.blocks).toBe(Math.ceil((await disk.fileSizes(0)).fileSize / 512));
    expect([stats.isFile(), stats.isDirectory(), stats.isBlockDevice()]).toEqual([true, false, false]);
    await handle.close();
    await handle.close();
    await expectKind(() => handle.stat(), 'io');
    await expectKind(() => handle.read(new Uint8Array(1)), 'io');
    await expect(disk.flush()).rejects.toMatchObject({ status: 'VERR_VD_NOT_OPENED' });
  });
});
