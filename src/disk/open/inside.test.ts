/** Images inside compressed files: read as what they are, for reading alone. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { describeWithPeers, requirePeer } from '../../../test/peers/peers.ts';
import { LIMITS } from '../../limits.ts';
import { checkImage } from '../../operations/check.ts';
import { convert } from '../../operations/convert.ts';
import { detectFormat, inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import { localFiles } from '../../storage/local/index.ts';

const SIZE = 300 * 1024;
const DATA = Uint8Array.from({ length: SIZE }, (_, at) => (at < 100_000 ? (at * at) >> 5 : 0));
const most = LIMITS.unpackedBytes;

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-inside-'));
});
afterEach(async () => {
  (LIMITS as { unpackedBytes: number }).unpackedBytes = most;
  await rm(folder, { recursive: true, force: true });
});

async function file(name: string, bytes: Uint8Array): Promise<string> {
  await writeFile(join(folder, name), bytes);
  return join(folder, name);
}

async function contentOf(name: string): Promise<Buffer> {
  await using disk = await openDisk(name);
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** Output of a program that compresses. Throws where it is not installed. */
function run(program: string, bytes: Uint8Array): Uint8Array {
  const peer = requirePeer(program);
  if (typeof peer === 'string') throw new Error(peer);
  return peer.filter(bytes, '-c');
}

for (const [name, suffix, peers] of [
  ['gzip', '.gz', []],
  ['xz', '.xz', ['xz']],
  ['bzip2', '.bz2', ['bzip2']],
  ['zstd', '.zst', ['zstd']],
] as const)
  describeWithPeers(peers, name, () => {
    const pack = (bytes: Uint8Array) => (name === 'gzip' ? gzipSync(bytes) : run(name, bytes));
    it('reads a raw disk, all members of it', async () => {
      const two = Buffer.concat([pack(DATA.subarray(0, 1000 * 512)), pack(DATA)]);
      const path = await file(`disk.img${suffix}`, two);
      expect((await contentOf(path)).equals(Buffer.concat([DATA.subarray(0, 1000 * 512), DATA]))).toBe(true);
      const report = await inspect(path);
      expect(report).toMatchObject({ format: 'raw', guessed: true, file: path, fileSize: two.length });
      expect(report.wrappings).toEqual([{ format: name, member: 'disk.img' }]);
      // The indexes of xz tell where a stream begins: it is read at any place.
      const inFile = /unpacked into a temporary file in/.test(report.warnings.join(' '));
      expect(inFile).toBe(name !== 'xz');
      expect(await detectFormat(path)).toMatchObject({ format: name, readable: false });
    });

    it('reads, checks and converts an image of a format', async () => {
      const raw = await file('disk.raw', DATA);
      await convert(raw, join(folder, 'disk.vdi'), { sourceFormat: 'raw' });
      const path = await file(`disk.vdi${suffix}`, pack(await readFile(join(folder, 'disk.vdi'))));
      expect(await inspect(path)).toMatchObject({ format: 'vdi', guessed: false, virtualSize: SIZE });
      expect((await checkImage(path)).findings).toEqual([]);
      await convert(path, join(folder, 'again.raw'));
      expect((await readFile(join(folder, 'again.raw'))).equals(DATA)).toBe(true);
    });

    it('refuses what is cut off or changed, and leaves nothing behind', async () => {
      const stored = Uint8Array.from(pack(DATA));
      const changed = Uint8Array.from(stored);
      changed[stored.length >> 1] = (changed[stored.length >> 1] ?? 0) ^ 4;
      for (const bytes of [stored.subarray(0, -3), stored.subarray(0, 600), changed]) {
        const path = await file(`bad.img${suffix}`, bytes);
        await expect(convert(path, join(folder, 'bad.vdi'))).rejects.toMatchObject({
          name: 'ImageError',
          kind: 'corrupt',
        });
        await expect(inspect(path)).rejects.toMatchObject({ kind: 'corrupt' });
      }
      expect(await readdir(folder)).toEqual([`bad.img${suffix}`]);
    });

    it('is not unpacked for writing, nor when its own bytes are wanted', async () => {
      const stored = pack(DATA);
      const path = await file(`disk.img${suffix}`, stored);
      await expect(openDisk(path, { mode: 'write' })).rejects.toMatchObject({
        kind: 'unsupported',
        message: expect.stringContaining('can only be read'),
      });
      await using disk = await openDisk(path, { format: 'raw' });
      const bytes = Buffer.alloc(stored.length);
      await disk.read(0, bytes);
      expect(bytes.equals(stored)).toBe(true);
    });
  });

it('reads two layers and refuses three', async () => {
  const twice = gzipSync(gzipSync(DATA));
  expect((await contentOf(await file('a.img.gz.gz', twice))).equals(DATA)).toBe(true);
  await expect(inspect(await file('a.img.gz.gz.gz', gzipSync(twice)))).rejects.toMatchObject({ kind: 'limit' });
});

it('bounds what a file unpacks to', async () => {
  const path = await file('a.img.gz', gzipSync(DATA));
  (LIMITS as { unpackedBytes: number }).unpackedBytes = SIZE;
  expect((await inspect(path)).virtualSize).toBe(SIZE);
  (LIMITS as { unpackedBytes: number }).unpackedBytes = SIZE - 1;
  await expect(inspect(path)).rejects.toMatchObject({ kind: 'limit' });
});

it('reports other bytes behind gzip, and takes zeroes for padding', async () => {
  const stored = gzipSync(DATA);
  const signed = await inspect(await file('a.img.gz', Buffer.concat([stored, Buffer.from('signature')])));
  expect(signed).toMatchObject({ virtualSize: SIZE });
  expect(signed.warnings.join(' ')).toMatch(/not gzip/);
  const padded = await inspect(await file('b.img.gz', Buffer.concat([stored, Buffer.alloc(512)])));
  expect(padded.warnings.join(' ')).not.toMatch(/not gzip/);
  const half = await file('c.img.gz', Buffer.concat([stored, stored.subarray(0, 6)]));
  await expect(inspect(half)).rejects.toMatchObject({ kind: 'corrupt' });
});

it('refuses an empty file inside, and a member that is not there', async () => {
  await expect(inspect(await file('a.img.gz', gzipSync(new Uint8Array(0))))).rejects.toMatchObject({
    kind: 'invalid-format',
  });
  const path = await file('b.img.gz', gzipSync(DATA));
  const source = { provider: localFiles(), name: path, member: 'other.img' };
  await expect(inspect(source)).rejects.toMatchObject({ kind: 'not-found' });
});
