/** Locks of local files: with system calls, and with lock files where there are none. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Storage } from '../contract.ts';
import { calls } from './calls.ts';
import { localFiles } from './index.ts';
import { LockFile } from './lock-file.ts';
import { nativeCalls } from './native.ts';
import { lockedRanges, parseLock } from './proc.ts';

const files = localFiles();
let folder: string;
let image: string;
let opened: Storage[];
beforeEach(async () => {
  folder = await fs.mkdtemp(join(tmpdir(), 'vdkit-lock-'));
  image = join(folder, 'disk.vdi');
  writeFileSync(image, 'content');
  opened = [];
});
afterEach(async () => {
  for (const storage of opened) await storage.close();
  vi.unstubAllEnvs();
  await fs.rm(folder, { recursive: true, force: true });
});

const open = async (mode: 'read' | 'write' = 'write', name = image): Promise<Storage> => {
  const storage = await files.open(name, mode);
  opened.push(storage);
  return storage;
};
const names = (): string[] => readdirSync(folder).sort();
const lockFile = (): string => `${image}.vdkit-lock`;
const withoutNative = (): void => void vi.stubEnv('VDKIT_NO_NATIVE', '1');

/** The lock file of a process that has ended. */
async function leaveStale(changes: Record<string, unknown> = {}): Promise<void> {
  const storage = await open();
  await storage.lock('exclusive');
  const content = JSON.parse(readFileSync(lockFile(), 'utf8'));
  await storage.close();
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  writeFileSync(lockFile(), JSON.stringify({ ...content, pid, token: 'left behind', ...changes }));
}

describe.each(['with', 'without'])('%s native calls', (calls) => {
  it('a lock shows the size that the file has then, whatever it had when it was opened', async () => {
    if (calls === 'without') withoutNative();
    const first = await open();
    await first.lock('exclusive');
    const second = await open();
    await first.write(0, new Uint8Array(100_000));
    await first.close();
    await second.lock('exclusive');
    expect(second.size).toBe(100_000);
    await second.read(99_000, new Uint8Array(1000));
  });

  it('a lock that changes leaves the size of writes that run alone', async () => {
    if (calls === 'without') withoutNative();
    const storage = await open();
    await storage.lock('shared');
    const writing = storage.write(50_000, new Uint8Array(200_000));
    await storage.lock('exclusive');
    expect(storage.size).toBe(250_000);
    await writing;
  });
});

describe.runIf(nativeCalls() !== null)('with the calls of the system', () => {
  const bytes = async (storage: Storage): Promise<number[]> => {
    const handle = await fs.open(image, 'r');
    try {
      const ranges = (await lockedRanges(handle.fd)) ?? [];
      expect(storage.label).toBe(image);
      return [...Array(300).keys()].filter((byte) => ranges.some(({ start, last }) => byte >= start && byte <= last));
    } finally {
      await handle.close();
    }
  };

  it('locks the bytes that QEMU looks at', async () => {
    const storage = await open();
    await storage.lock('exclusive');
    expect(await bytes(storage)).toEqual([100, 101, 103, 201, 203]);
    await storage.lock('exclusive', { shareable: true });
    expect(await bytes(storage)).toEqual([100, 101, 103]);
    await storage.lock('shared');
    expect(await bytes(storage)).toEqual([100, 201, 203]);
    await storage.close();
    expect(names()).toEqual(['disk.vdi']);
  });

  it('gives back what it took when somebody is in the way', async () => {
    const [writer, reader] = [await open(), await open('read')];
    await writer.lock('exclusive', { shareable: true });
    await expect(reader.lock('shared')).rejects.toMatchObject({
      kind: 'locked',
      message: 'This process has this image open for writing',
      context: { path: image, found: 'byte 101, permission "write" is in use' },
    });
    expect(await bytes(reader)).toEqual([100, 101, 103]);
  });

  it('locks a file that may only be read', async () => {
    await fs.chmod(image, 0o444);
    const reader = await open('read');
    await reader.lock('exclusive');
    const other = await open('read');
    await expect(other.lock('shared')).rejects.toMatchObject({ kind: 'locked' });
  });

  it('heeds the lock file of a process that has no such calls', async () => {
    withoutNative();
    await (await open()).lock('exclusive');
    vi.unstubAllEnvs();
    for (const mode of ['shared', 'exclusive'] as const) {
      const storage = await open();
      await expect(storage.lock(mode)).rejects.toMatchObject({ kind: 'locked', context: { field: 'lock' } });
      await storage.close();
    }
  });

  it('is seen by a process that has no such calls', async () => {
    await (await open()).lock('exclusive');
    withoutNative();
    const other = await open();
    await expect(other.lock('exclusive')).rejects.toMatchObject({ kind: 'locked' });
    await expect(other.lock('shared')).rejects.toMatchObject({ kind: 'locked' });
    expect(names()).toEqual(['disk.vdi']);
  });

  it('names the process that has the lock', async () => {
    await (await open()).lock('shared');
    const { held, holders } = await (await open('read')).lockState();
    expect(held).toBe('shared');
    expect(holders.map(({ pid }) => pid)).toContain(process.pid);
  });
});

describe('with lock files', () => {
  beforeEach(withoutNative);

  it('makes one for a writer, and removes it', async () => {
    const writer = await open();
    await writer.lock('exclusive');
    expect(names()).toEqual(['disk.vdi', 'disk.vdi.vdkit-lock']);
    expect(JSON.parse(readFileSync(lockFile(), 'utf8'))).toMatchObject({ pid: process.pid, mode: 'exclusive' });
    await writer.close();
    expect(names()).toEqual(['disk.vdi']);
  });

  it('makes none for a reader', async () => {
    await (await open('read')).lock('shared');
    expect(names()).toEqual(['disk.vdi']);
  });

  it('finds it under every name of the image', async () => {
    await fs.symlink(image, join(folder, 'link.vdi'));
    await (await open()).lock('exclusive');
    const other = await open('read', join(folder, 'link.vdi'));
    await expect(other.lock('shared')).rejects.toMatchObject({ kind: 'locked' });
  });

  it('refuses both kinds while its process lives', async () => {
    await leaveStale({ pid: process.ppid, started: null });
    for (const mode of ['shared', 'exclusive'] as const) {
      await expect((await open()).lock(mode)).rejects.toMatchObject({
        kind: 'locked',
        message: mode === 'shared' ? 'Another process has this image open for writing' : expect.any(String),
        context: { found: `the lock file ${lockFile()}` },
        hint: expect.stringContaining(`process ${process.ppid}`),
      });
    }
    expect((await (await open()).lockState()).held).toBe('exclusive');
  });

  it('takes over what a dead process left', async () => {
    await leaveStale();
    const writer = await open();
    expect((await writer.lockState()).held).not.toBe('exclusive');
    await writer.lock('exclusive');
    expect(JSON.parse(readFileSync(lockFile(), 'utf8')).pid).toBe(process.pid);
    expect(names()).toEqual(['disk.vdi', 'disk.vdi.vdkit-lock']);
    await writer.close();
    expect(names()).toEqual(['disk.vdi']);
  });

  it('takes over what a process left whose number another one has now', async () => {
    await leaveStale({ pid: process.pid, started: '1' });
    await (await open()).lock('exclusive');
    expect(JSON.parse(readFileSync(lockFile(), 'utf8')).token).not.toBe('left behind');
  });

  it.each([
    ['of another host', { host: 'elsewhere' }],
    ['of processes that are not seen from here', { namespace: 'pid:[1]' }],
  ])('leaves alone what a process %s left', async (_, changes) => {
    await leaveStale(changes);
    await expect((await open()).lock('exclusive')).rejects.toMatchObject({ kind: 'locked' });
    expect(JSON.parse(readFileSync(lockFile(), 'utf8')).token).toBe('left behind');
  });

  it.each([
    ['empty', ''],
    ['of zeroes', '\0'.repeat(300)],
  ])('takes over a file that a power cut left %s', async (_, text) => {
    writeFileSync(lockFile(), text);
    const reader = await open('read');
    await reader.lock('shared');
    await reader.close();
    const writer = await open();
    expect((await writer.lockState()).held).not.toBe('exclusive');
    await writer.lock('exclusive');
    expect(JSON.parse(readFileSync(lockFile(), 'utf8')).pid).toBe(process.pid);
    await writer.close();
    expect(names()).toEqual(['disk.vdi']);
  });

  it('takes over one that a power cut left while it was being taken over', async () => {
    writeFileSync(lockFile(), '');
    writeFileSync(`${lockFile()}.takeover`, '');
    await (await open()).lock('exclusive');
    expect(names()).toEqual(['disk.vdi', 'disk.vdi.vdkit-lock']);
  });

  it('is durable before it has its name', async () => {
    const order: string[] = [];
    for (const name of ['fsync', 'link'] as const) {
      const original = calls[name] as (...values: unknown[]) => Promise<unknown>;
      vi.spyOn(calls, name).mockImplementation((...values: unknown[]) => {
        order.push(name);
        return original(...values) as Promise<never>;
      });
    }
    await (await open()).lock('exclusive');
    vi.restoreAllMocks();
    expect(order).toEqual(['fsync', 'link']);
  });

  describe('where a file system has no links', () => {
    beforeEach(() => {
      const refusal = Object.assign(new Error('EPERM: link'), { code: 'EPERM' });
      vi.spyOn(calls, 'link').mockRejectedValue(refusal);
    });
    afterEach(() => {
      vi.restoreAllMocks();
    });

    it('is made all the same, once', async () => {
      const writer = await open();
      await writer.lock('exclusive');
      expect(JSON.parse(readFileSync(lockFile(), 'utf8'))).toMatchObject({ pid: process.pid });
      const how = { mode: 'exclusive', shareable: false } as const;
      expect(await LockFile.take(image, how)).not.toBeInstanceOf(LockFile);
      expect(names()).toEqual(['disk.vdi', 'disk.vdi.vdkit-lock']);
    });

    it('leaves alone an empty one that may be being written, and takes over an old one', async () => {
      writeFileSync(lockFile(), '');
      await expect((await open()).lock('exclusive')).rejects.toMatchObject({ kind: 'locked' });
      const before = Date.now() / 1000 - 60;
      await fs.utimes(lockFile(), before, before);
      await (await open()).lock('exclusive');
      expect(JSON.parse(readFileSync(lockFile(), 'utf8')).pid).toBe(process.pid);
    });
  });

  it.each(['no JSON', '{"pid":-1}', '[]', 'x'.repeat(100_000)])(
    'heeds a file that it cannot read: %.10s',
    async (text) => {
      writeFileSync(lockFile(), text);
      await expect((await open()).lock('exclusive')).rejects.toMatchObject({ kind: 'locked' });
      await expect((await open()).lock('shared')).rejects.toMatchObject({ kind: 'locked' });
    },
  );

  it.each(['a dead process', 'a power cut'])('is given to one of many who take it over at a time: %s', async (who) => {
    if (who === 'a dead process') await leaveStale();
    else writeFileSync(lockFile(), '');
    const how = { mode: 'exclusive', shareable: false } as const;
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => LockFile.take(image, how)));
    const taken = outcomes.filter((outcome) => outcome instanceof LockFile);
    expect(taken).toHaveLength(1);
    expect(names()).toEqual(['disk.vdi', 'disk.vdi.vdkit-lock']);
    await taken[0]?.remove();
    expect(names()).toEqual(['disk.vdi']);
  });

  it('does not remove what somebody else made since', async () => {
    const writer = await open();
    await writer.lock('exclusive');
    writeFileSync(lockFile(), '{"token":"another"}');
    await writer.close();
    expect(names()).toEqual(['disk.vdi', 'disk.vdi.vdkit-lock']);
  });

  it('are not enough to move content around', async () => {
    const writer = await open();
    await expect(writer.lock('exclusive', { structure: true })).rejects.toMatchObject({
      kind: 'unsupported',
      hint: expect.stringContaining('--no-lock'),
    });
    expect(names()).toEqual(['disk.vdi']);
  });

  it.skipIf(process.getuid?.() === 0)(
    'cannot be made in a directory that is read-only, where reading goes on',
    async () => {
      await fs.chmod(folder, 0o555);
      try {
        const reader = await open('read');
        await reader.lock('shared');
        await reader.close();
        await expect((await open()).lock('exclusive')).rejects.toMatchObject({
          kind: 'denied',
          hint: expect.stringContaining('--no-lock'),
        });
      } finally {
        await fs.chmod(folder, 0o755);
      }
    },
  );

  it('have a short name beside an image whose name is long', async () => {
    const long = join(folder, 'x'.repeat(255));
    writeFileSync(long, '');
    const writer = await open('write', long);
    await writer.lock('exclusive');
    expect(names().filter((name) => /^x{230,}~[0-9a-f]{8}\.vdkit-lock$/.test(name))).toHaveLength(1);
    await expect((await open('read', long)).lock('shared')).rejects.toMatchObject({ kind: 'locked' });
    await writer.close();
    expect(names().filter((name) => name.includes('lock'))).toEqual([]);
  });

  it('are not made for a file that is not published yet', async () => {
    const storage = await files.create(join(folder, '.new'), { private: true });
    opened.push(storage);
    await storage.lock('exclusive');
    expect(names()).toEqual(['.new', 'disk.vdi']);
  });
});

describe('the table of locks', () => {
  it('is read line by line', () => {
    const file = 'fe:00:2155165';
    expect(parseLock(`1: OFDLCK ADVISORY  READ -1 ${file} 100 101`, file)).toEqual({ start: 100, last: 101 });
    expect(parseLock(`\t1: POSIX  ADVISORY  WRITE 7 ${file} 0 EOF`, file)).toEqual({ start: 0, last: Infinity });
    expect(parseLock(`1: FLOCK  ADVISORY  WRITE 7 ${file} 0 EOF`, file)).toBeNull();
    expect(parseLock('1: POSIX  ADVISORY  WRITE 7 fe:00:1 0 EOF', file)).toBeNull();
    expect(parseLock(`1: -> OFDLCK ADVISORY  READ -1 ${file} 100 101`, file)).toBeNull();
    expect(parseLock('', file)).toBeNull();
  });
});
