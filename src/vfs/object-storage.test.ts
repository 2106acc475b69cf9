/** File objects, handles and streams as storages, and disks in them. */
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../test/conformance/random.ts';
import { convert } from '../operations/convert.ts';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import { MemoryProvider, MemoryStorage } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { diskFile, storageFile } from './file.ts';
import { fileHandle } from './handle.ts';
import { fileObjectStorage, type HandleSource, handleStorage } from './object-storage.ts';
import { insideSource } from './source.ts';
import { readableStorage, writableStorage } from './stream-storage.ts';
import { readableStream } from './streams.ts';

const MIB = 2 ** 20;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-objects-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const noise = (length: number): Uint8Array => randomBytes(new Random(length), length);

async function storageWith(content: Uint8Array): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  await storage.write(0, content);
  return storage;
}

describe('a handle as a storage', () => {
  it('is a disk, also behind a FileHandle of Node', async () => {
    const name = join(folder, 'disk.vdi');
    await createImage(name, { size: 8 * MIB });
    const handle = await open(name, 'r+');
    const content = noise(3 * MIB);
    {
      await using source = insideSource(
        await handleStorage(handle, { mode: 'write', closeObject: true }),
        {},
        { closeOuter: true },
      );
      await using disk = await openDisk(source, { mode: 'write' });
      await disk.write(MIB, content);
    }
    await expect(handle.stat()).rejects.toThrow();
    await using disk = await openDisk(name);
    const got = new Uint8Array(content.length);
    await disk.read(MIB, got);
    expectSameBytes(got, content);
  });

  it('goes on where the handle moved less than it was asked to', async () => {
    const bytes = new Uint8Array(100);
    const handle: HandleSource = {
      read: async (buffer, offset, length, position) => {
        const bytesRead = Math.min(length, 7);
        buffer.set(bytes.subarray(position, position + bytesRead), offset);
        return { bytesRead };
      },
      write: async (buffer, offset, length, position) => {
        const bytesWritten = Math.min(length, 5);
        bytes.set(buffer.subarray(offset, offset + bytesWritten), position);
        return { bytesWritten };
      },
      stat: async () => ({ size: 100 }),
    };
    const storage = await handleStorage(handle, { mode: 'write' });
    const data = noise(60);
    await storage.write(20, [data.subarray(0, 33), data.subarray(33)]);
    const got = new Uint8Array(60);
    await storage.read(20, [got.subarray(0, 1), got.subarray(1)]);
    expectSameBytes(got, data);
    await storage.zero(30, 10, { punch: true });
    expect(bytes.subarray(30, 40).some((byte) => byte !== 0)).toBe(false);
    await expectKind(() => storage.write(99, new Uint8Array(2)), 'out-of-bounds');
    await expectKind(() => storage.resize(50), 'unsupported');
    await storage.flush();
  });

  it('fails with kind io, whatever the handle throws, and where it ends too early', async () => {
    const broken: HandleSource = { read: () => Promise.reject(new TypeError('no')), stat: async () => ({ size: 100 }) };
    await expectKind(async () => (await handleStorage(broken)).read(0, new Uint8Array(1)), 'io');
    const short: HandleSource = { ...broken, read: async () => ({ bytesRead: 0 }) };
    await expectKind(async () => (await handleStorage(short)).read(0, new Uint8Array(1)), 'io');
    const mad: HandleSource = { ...broken, read: async () => ({ bytesRead: 1000 }) };
    await expectKind(async () => (await handleStorage(mad)).read(0, new Uint8Array(1)), 'io');
    await expectKind(() => handleStorage(broken, { mode: 'write' }), 'denied');
  });

  it('grows and is cut where the handle is', async () => {
    const name = join(folder, 'grows');
    await writeFile(name, noise(100));
    const handle = await open(name, 'r+');
    const storage = await handleStorage(handle, { mode: 'write' });
    await storage.write(200, Uint8Array.of(5));
    expect(storage.size).toBe(201);
    await storage.resize(150);
    await storage.close();
    await handle.close();
    expect((await readFile(name)).length).toBe(150);
  });

  it('is locked against others of the same handle', async () => {
    const handle = fileHandle(await storageWith(noise(512)));
    const [one, two] = [await handleStorage(handle, { mode: 'write' }), await handleStorage(handle)];
    await one.lock('exclusive');
    await expectKind(() => two.lock('shared'), 'locked');
    expect((await two.lockState()).held).toBe('exclusive');
    await one.close();
    await two.lock('shared');
    expect((await one.identity().catch(() => null))?.key).toBeUndefined();
  });
});

describe('a file object as a storage', () => {
  it('makes a disk inside a disk inside a file', async () => {
    const outer = { provider: new MemoryProvider(), name: '/outer.vdi' };
    await createImage(outer, { size: 64 * MIB });
    const inner = { provider: new MemoryProvider(), name: '/inner.vdi' };
    await createImage(inner, { size: 4 * MIB });
    await using disk = await openDisk(outer, { mode: 'write' });
    const file = diskFile(disk);
    const bytes = await inner.provider.open(inner.name, 'read');
    await readableStream(bytes).pipeTo(
      new WritableStream({ write: async (piece: Uint8Array) => void (await file.write(piece)) }),
    );
    const storage = fileObjectStorage(file, { mode: 'write' });
    expect(storage).toMatchObject({ size: 64 * MIB, can: { write: true, resize: false } });
    const content = noise(100_000);
    {
      await using deep = await openDisk(insideSource(storage), { mode: 'write' });
      await deep.write(5000, content);
    }
    // The lock of what is written stays until it is closed.
    await storage.close();
    await using deep = await openDisk(insideSource(fileObjectStorage(file)));
    const got = new Uint8Array(content.length);
    await deep.read(5000, got);
    expectSameBytes(got, content);
  });

  it('is not longer than the file, nor written where that is not', async () => {
    const storage = fileObjectStorage(storageFile(await storageWith(noise(100))), { mode: 'write', closeObject: true });
    await expectKind(() => storage.write(99, new Uint8Array(2)), 'out-of-bounds');
    await expectKind(() => storage.resize(7), 'unsupported');
    await storage.close();
    await expectKind(() => storage.read(0, new Uint8Array(1)), 'io');
    const place = { provider: new MemoryProvider(), name: '/disk.vdi' };
    await createImage(place, { size: MIB });
    await using disk = await openDisk(place);
    await expectKind(() => fileObjectStorage(diskFile(disk), { mode: 'write' }), 'denied');
  });
});

describe('a source that is opened once', () => {
  it('has one storage in it, under any name, and then none', async () => {
    const outer = await storageWith(noise(100));
    const { provider } = insideSource(outer, {}, { once: true, closeOuter: true });
    const storage = await provider.open('any name', 'write');
    await storage.write(0, Uint8Array.of(1));
    await expectKind(() => provider.open('any name', 'write'), 'not-found');
    await storage.close();
    await expectKind(() => provider.open('any name', 'read'), 'not-found');
    await expectKind(() => outer.read(0, new Uint8Array(1)), 'io');
  });

  it('checks what it is opened for', async () => {
    const outer = await storageWith(noise(100));
    const { provider, name } = insideSource(outer, {}, { access: 'read', once: true });
    await expect(provider.open(name, 'write')).rejects.toMatchObject({ kind: 'denied', status: 'VERR_ACCESS_DENIED' });
    const storage = await provider.open(name, 'read');
    await expectKind(() => storage.write(0, Uint8Array.of(1)), 'read-only');
  });

  it('closes what is behind it when it is disposed of', async () => {
    const outer = await storageWith(noise(100));
    {
      await using source = insideSource(outer, {}, { closeOuter: true });
      await (await source.provider.open(source.name, 'read')).close();
      await outer.read(0, new Uint8Array(1));
    }
    await expectKind(() => outer.read(0, new Uint8Array(1)), 'io');
  });
});

describe('a stream as a storage', () => {
  it('is converted as a raw disk', async () => {
    const content = noise(3 * MIB);
    const from = await storageWith(content);
    const source = insideSource(readableStorage(readableStream(from, { chunkSize: 10_007 }), { size: content.length }));
    const target = { provider: new MemoryProvider(), name: '/copy.vdi' };
    await convert(source, target, { format: 'vdi', sourceFormat: 'raw' });
    await using disk = await openDisk(target);
    const got = new Uint8Array(content.length);
    await disk.read(0, got);
    expectSameBytes(got, content);
  });

  it('is read forwards, in the order of the calls, and never back', async () => {
    const content = noise(1000);
    const storage = readableStorage(readableStream(await storageWith(content), { chunkSize: 64 }), { size: 1000 });
    const [one, two] = [new Uint8Array(100), new Uint8Array(200)];
    await Promise.all([storage.read(50, one), storage.read(700, [two.subarray(0, 5), two.subarray(5)])]);
    expectSameBytes(one, content.subarray(50, 150));
    expectSameBytes(two, content.subarray(700, 900));
    await expectKind(() => storage.read(0, one), 'unsupported');
    await expectKind(() => storage.read(950, one), 'out-of-bounds');
    await expectKind(() => storage.write(0, one), 'read-only');
  });

  it('says when the stream ends too early or fails, and cancels it at the end', async () => {
    const short = readableStorage(readableStream(await storageWith(noise(10))), { size: 20 });
    await expect(short.read(5, new Uint8Array(10))).rejects.toMatchObject({ kind: 'io', status: 'VERR_EOF' });
    let reason: unknown = null;
    const failing = new ReadableStream<Uint8Array>({
      pull: () => Promise.reject(new TypeError('no')),
    });
    await expectKind(() => readableStorage(failing, { size: 5 }).read(0, new Uint8Array(1)), 'io');
    const open = new ReadableStream<Uint8Array>({
      cancel: () => {
        reason = 'cancelled';
      },
    });
    const storage = readableStorage(open, { size: 5 });
    await storage.close();
    expect(reason).toBe('cancelled');
    await expectKind(() => storage.read(0, new Uint8Array(1)), 'io');
  });

  it('is written forwards, with zeroes between', async () => {
    const pieces: Uint8Array[] = [];
    let closed = 0;
    const storage = writableStorage(
      new WritableStream<Uint8Array>({
        write: (piece) => void pieces.push(piece),
        close: () => {
          closed++;
        },
      }),
    );
    const buffer = Uint8Array.of(1, 2);
    await Promise.all([storage.write(3, buffer), storage.write(7, [Uint8Array.of(3), Uint8Array.of(4)])]);
    buffer.fill(9);
    await storage.zero(9, 1, { punch: false });
    await storage.resize(12);
    await storage.flush();
    expect(storage.size).toBe(12);
    await expectKind(() => storage.write(2, buffer), 'unsupported');
    await expectKind(() => storage.read(0, buffer), 'unsupported');
    await storage.close();
    const all = pieces.flatMap((piece) => [...piece]);
    expect(all).toEqual([0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0, 0]);
    expect(closed).toBe(1);
  });

  it('says when the stream takes nothing any more', async () => {
    const storage = writableStorage(
      new WritableStream<Uint8Array>({ write: () => Promise.reject(new TypeError('full')) }),
    );
    await expectKind(() => storage.write(0, Uint8Array.of(1)), 'io');
    await expectKind(() => storage.write(1, Uint8Array.of(1)), 'io');
  });
});
