import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Storage } from '../contract.ts';
import { FileStorage } from './file.ts';
import { nativeCalls } from './native.ts';
import { localFiles } from './provider.ts';

const MIB = 1024 * 1024;

let directory: string;
const opened: Storage[] = [];

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), 'vdkit-file-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const storage of opened.splice(0)) await storage.close();
  fs.rmSync(directory, { recursive: true, force: true });
});

async function create(name = 'file'): Promise<Storage> {
  const storage = await localFiles().create(join(directory, name));
  opened.push(storage);
  return storage;
}

async function allocatedSize(storage: Storage): Promise<number> {
  await storage.flush();
  return (await storage.identity()).allocatedSize ?? -1;
}

async function contentOf(storage: Storage, offset = 0, length = storage.size - offset): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  return bytes;
}

/** Runs of the whole storage, as `d` and `h` with their lengths in MiB. */
async function runsOf(storage: Storage): Promise<string> {
  let text = '';
  for (let at = 0; at < storage.size; ) {
    const run = await storage.extentAt(at);
    text += `${run.data ? 'd' : 'h'}${(run.end - at) / MIB} `;
    at = run.end;
  }
  return text.trim();
}

it('has native calls where they are expected', (context) => {
  if (process.platform !== 'linux') context.skip();
  expect(nativeCalls()).not.toBeNull();
  vi.stubEnv('VDKIT_NO_NATIVE', '1');
  expect(nativeCalls()).toBeNull();
});

describe.each([
  { name: 'native', off: '' },
  { name: 'fallback', off: '1' },
])('FileStorage ($name)', ({ off }) => {
  beforeEach(() => {
    vi.stubEnv('VDKIT_NO_NATIVE', off);
  });

  it.each([true, false])('zeroes a range and nothing beside it (punch %s)', async (punch) => {
    const storage = await create();
    await storage.write(0, new Uint8Array(4 * MIB).fill(7));
    await storage.zero(MIB - 3, 2 * MIB + 8, { punch });
    const bytes = await contentOf(storage);
    expect(storage.size).toBe(4 * MIB);
    expect(bytes.indexOf(0)).toBe(MIB - 3);
    expect(bytes.subarray(MIB - 3, 3 * MIB + 5).every((byte) => byte === 0)).toBe(true);
    expect(bytes.indexOf(7, MIB)).toBe(3 * MIB + 5);
    await expect(storage.zero(4 * MIB - 1, 2, { punch })).rejects.toMatchObject({ kind: 'out-of-bounds' });
  });

  it('keeps the room of a zeroed range without punch', async () => {
    const storage = await create();
    await storage.write(0, new Uint8Array(2 * MIB).fill(7));
    await storage.zero(0, 2 * MIB, { punch: false });
    expect(await allocatedSize(storage)).toBeGreaterThanOrEqual(2 * MIB);
  });

  it('allocates room: in holes, behind the end, and without harm to data', async () => {
    const storage = await create();
    await storage.resize(3 * MIB);
    await storage.write(MIB, Uint8Array.of(1, 2, 3));
    await storage.allocate?.(MIB / 2, 4 * MIB);
    expect(storage.size).toBe(4.5 * MIB);
    expect(await allocatedSize(storage)).toBeGreaterThanOrEqual(4 * MIB);
    const bytes = await contentOf(storage);
    expect([...bytes.subarray(MIB, MIB + 3)]).toEqual([1, 2, 3]);
    expect(bytes.filter((byte) => byte !== 0)).toHaveLength(3);
  });

  it('sees an empty file as one hole, until something is written', async () => {
    const storage = await create();
    await storage.resize(8 * MIB);
    expect(await runsOf(storage)).toBe('h8');
    await storage.write(4 * MIB, new Uint8Array(MIB).fill(1));
    expect((await storage.extentAt(4 * MIB)).data).toBe(true);
    await storage.resize(0);
    await storage.resize(MIB);
    expect((await contentOf(storage)).every((byte) => byte === 0)).toBe(true);
  });

  it('tells no hole that a write fills which is still running', async () => {
    const storage = await create();
    await storage.resize(8 * MIB);
    const writing = storage.write(4 * MIB, new Uint8Array(MIB).fill(1));
    await storage.extentAt(4 * MIB);
    await writing;
    expect((await storage.extentAt(4 * MIB)).data).toBe(true);
  });

  it('moves lists longer than one call takes', async () => {
    const storage = await create();
    const list = Array.from({ length: 2500 }, (_, index) => new Uint8Array(index % 7).fill(index % 251));
    await storage.write(5, list);
    const copy = list.map((buffer) => new Uint8Array(buffer.length));
    await storage.read(5, copy);
    expect(copy).toEqual(list);
  });

  it('waits with closing for what still runs, and refuses what comes after', async () => {
    const storage = await create();
    const order: string[] = [];
    const writing = storage.write(0, new Uint8Array(8 * MIB)).then(() => order.push('written'));
    const closing = storage.close().then(() => order.push('closed'));
    for (const late of [
      () => storage.write(0, Uint8Array.of(1)),
      () => storage.read(0, new Uint8Array(1)),
      () => storage.flush(),
      () => storage.identity(),
      async () => storage.extentAt(0),
    ]) {
      await expect(late()).rejects.toMatchObject({ kind: 'io', message: 'The file is closed' });
    }
    await Promise.all([writing, closing]);
    expect(order).toEqual(['written', 'closed']);
    expect(fs.statSync(join(directory, 'file')).size).toBe(8 * MIB);
  });

  it('explains a file that was cut off while it was open', async () => {
    const storage = await create();
    await storage.write(0, new Uint8Array(1000));
    fs.truncateSync(join(directory, 'file'), 500);
    await expect(storage.read(400, new Uint8Array(200))).rejects.toMatchObject({
      kind: 'io',
      context: { offset: 500 },
    });
    await expect(storage.read(400, [new Uint8Array(150), new Uint8Array(50)])).rejects.toMatchObject({ kind: 'io' });
  });

  it('refuses sizes that are none', async () => {
    const storage = await create();
    await expect(storage.resize(-1)).rejects.toMatchObject({ kind: 'out-of-bounds' });
    await expect(storage.write(Number.MAX_SAFE_INTEGER, Uint8Array.of(1))).rejects.toMatchObject({
      kind: 'out-of-bounds',
    });
    expect(storage.size).toBe(0);
  });
});

describe('FileStorage, native calls', () => {
  beforeEach((context) => {
    if (nativeCalls() === null) context.skip();
  });

  it('finds runs of data and holes', async () => {
    const storage = await create();
    await storage.resize(8 * MIB);
    await storage.write(2 * MIB, new Uint8Array(MIB).fill(1));
    await storage.write(6 * MIB, new Uint8Array(2 * MIB).fill(1));
    expect(await runsOf(storage)).toBe('h2 d1 h3 d2');
    await storage.zero(6 * MIB, MIB, { punch: true });
    expect(await runsOf(storage)).toBe('h2 d1 h4 d1');
    await storage.resize(7 * MIB);
    expect(await runsOf(storage)).toBe('h2 d1 h4');
  });

  it('gives room back when it punches', async () => {
    const storage = await create();
    expect(storage.can.punch).toBe(true);
    await storage.write(0, new Uint8Array(4 * MIB).fill(7));
    await storage.zero(0, 3 * MIB, { punch: true });
    expect(await allocatedSize(storage)).toBeLessThanOrEqual(MIB + 64 * 1024);
  });

  it('finds them in long files', async () => {
    const storage = await create();
    await storage.resize(1024 * MIB);
    expect(await runsOf(storage)).toBe('h1024');
    await storage.write(2 * MIB, new Uint8Array(MIB).fill(1));
    await storage.write(600 * MIB, new Uint8Array(MIB).fill(1));
    expect(await runsOf(storage)).toBe('h2 d1 h597 d1 h423');
  });

  it('takes everything for data where a long file changes while it is looked at', async () => {
    const storage = await create();
    await storage.resize(1024 * MIB);
    await storage.write(0, new Uint8Array(MIB).fill(1));
    const looking = storage.extentAt(0);
    expect(looking).toBeInstanceOf(Promise);
    const writing = storage.write(8 * MIB, new Uint8Array(MIB).fill(1));
    expect(await looking).toEqual({ start: 0, end: 1, data: true });
    await writing;
    expect(await storage.extentAt(0)).toMatchObject({ end: MIB, data: true });
  });

  it('does not ask the system again about a run it knows', async () => {
    const storage = await create();
    await storage.resize(8 * MIB);
    const first = await storage.extentAt(0);
    expect(await storage.extentAt(5 * MIB)).toBe(first);
    await storage.write(0, Uint8Array.of(1));
    expect(await storage.extentAt(5 * MIB)).not.toBe(first);
  });
});

describe('FileStorage, a file system without the calls', () => {
  // tmpfs has no ZERO_RANGE: what is not there is made up for by writing.
  const place = '/dev/shm';

  it('writes zeroes instead', async (context) => {
    if (!fs.existsSync(place)) context.skip();
    const name = join(fs.mkdtempSync(join(place, 'vdkit-')), 'file');
    const storage = await localFiles().create(name);
    try {
      await storage.write(0, new Uint8Array(3 * MIB).fill(7));
      await storage.resize(8 * MIB);
      await storage.zero(MIB, 6 * MIB, { punch: false });
      const bytes = await contentOf(storage);
      expect(bytes.indexOf(0)).toBe(MIB);
      expect(bytes.subarray(MIB).every((byte) => byte === 0)).toBe(true);
      expect((await storage.identity()).allocatedSize).toBe(3 * MIB);
    } finally {
      await storage.close();
      fs.rmSync(join(name, '..'), { recursive: true });
    }
  });
});

it('explains what the system refuses', async () => {
  const name = join(directory, 'file');
  fs.writeFileSync(name, 'abc');
  const fd = fs.openSync(name, 'r');
  const storage = new FileStorage({ fd, label: 'disk.img', mode: 'write', size: 3, kind: 'file' });
  opened.push(storage);
  await expect(storage.write(1, Uint8Array.of(1))).rejects.toMatchObject({
    name: 'ImageError',
    kind: 'io',
    context: { path: 'disk.img', offset: 1 },
  });
});
