import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CachedReads } from './cached-reads.ts';
import { localFiles } from './index.ts';
import { nativeCalls } from './native.ts';

const native = nativeCalls();
const folders = [tmpdir(), '/dev/shm'].filter((folder) => fs.existsSync(folder));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe.runIf(native !== null).each(folders)('reads at once in %s', (base) => {
  let folder = '';
  let name = '';
  let fd = -1;
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, n) => n * 7));
  beforeEach(() => {
    folder = fs.mkdtempSync(join(base, 'vdkit-cached-'));
    name = join(folder, 'file');
    fs.writeFileSync(name, bytes);
    fd = fs.openSync(name, 'r');
  });
  afterEach(() => {
    fs.closeSync(fd);
    fs.rmSync(folder, { recursive: true });
  });

  it('give what was just written', () => {
    const reads = new CachedReads(fd);
    for (const [offset, length] of [
      [0, 300_000],
      [12_345, 1],
      [299_990, 10],
      [4096, 100_000],
    ] as const) {
      const target = new Uint8Array(length);
      expect(reads.read(native, offset, target)).toBe(true);
      expect(Buffer.compare(target, bytes.subarray(offset, offset + length))).toBe(0);
    }
  });

  it('say no at the end of the file, and without the calls', () => {
    const reads = new CachedReads(fd);
    expect(reads.read(native, 299_999, new Uint8Array(2))).toBe(false);
    expect(reads.read(null, 0, new Uint8Array(2))).toBe(false);
    const closed = fs.openSync(name, 'r');
    fs.closeSync(closed);
    expect(new CachedReads(closed).read(native, 0, new Uint8Array(2))).toBe(false);
  });

  it('of a few bytes leave others their turn, and leave large ones to threads', async () => {
    await turn();
    await turn();
    const reads = new CachedReads(fd);
    const small = (): boolean => reads.readSmall(native, 0, new Uint8Array(100));
    expect(Array.from({ length: 100 }, small).filter((done) => done)).toHaveLength(64);
    await turn();
    await turn();
    expect(small()).toBe(true);
    expect(reads.readSmall(native, 0, new Uint8Array(100_000))).toBe(false);
  });

  it('are what a storage answers with', async () => {
    const storage = await localFiles().open(name, 'read');
    try {
      const target = new Uint8Array(1000);
      expect(storage.readNow?.(5000, target)).toBe(true);
      expect(Buffer.compare(target, bytes.subarray(5000, 6000))).toBe(0);
      expect(() => storage.readNow?.(299_999, new Uint8Array(2))).toThrow(
        expect.objectContaining({ kind: 'out-of-bounds' }),
      );
    } finally {
      await storage.close();
    }
    expect(() => storage.readNow?.(0, new Uint8Array(2))).toThrow(
      expect.objectContaining({ message: 'The file is closed' }),
    );
  });
});

describe.runIf(native !== null)('reads at once of what is on the medium only', () => {
  it('say no, and the storage reads it all the same', async (context) => {
    const folder = fs.mkdtempSync(join(tmpdir(), 'vdkit-cold-'));
    try {
      const name = join(folder, 'file');
      const bytes = Buffer.alloc(8 * 1024 * 1024, 5);
      fs.writeFileSync(name, bytes);
      // Written out and let go, as far as the system goes along.
      execFileSync('dd', [`of=${name}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], { stdio: 'ignore' });
      const fd = fs.openSync(name, 'r');
      const cold = !new CachedReads(fd).read(native, 0, new Uint8Array(bytes.length));
      fs.closeSync(fd);
      const storage = await localFiles().open(name, 'read');
      try {
        const target = new Uint8Array(bytes.length);
        if (storage.readNow?.(0, target) !== true) await storage.read(0, target);
        expect(Buffer.compare(target, bytes)).toBe(0);
      } finally {
        await storage.close();
      }
      if (!cold) context.skip('the system kept the file in memory');
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});
