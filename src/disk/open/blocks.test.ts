/** Compressed files that can be read at any place: blocked gzip, xz with several blocks, seekable Zstandard. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeWithPeers } from '../../../test/peers/peers.ts';
import { zstdCompress } from '../../codec/compress.ts';
import { convert } from '../../operations/convert.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';

const SIZE = 6 * 1024 * 1024 + 512;
const PART = 60_000;
const DATA = Buffer.alloc(SIZE);
for (let at = 0; at + 4 <= SIZE; at += 64) DATA.writeUInt32LE((at * 2_654_435_761) >>> 0, at);

let folder = '';
const temporary = process.env['TMPDIR'];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-blocks-'));
  // A temporary file is a failure.
  process.env['TMPDIR'] = join(folder, 'missing');
});
afterEach(async () => {
  if (temporary === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = temporary;
  await rm(folder, { recursive: true, force: true });
});

/** A member of a blocked gzip file. */
function member(content: Uint8Array): Buffer {
  const stored = deflateRawSync(content);
  const header = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, 0x42, 0x43, 2, 0, 0, 0]);
  const trailer = Buffer.alloc(8);
  header.writeUInt16LE(header.length + stored.length + trailer.length - 1, 16);
  trailer.writeUInt32LE(crc32(content), 0);
  trailer.writeUInt32LE(content.length, 4);
  return Buffer.concat([header, stored, trailer]);
}

function partsOf(data: Uint8Array, length = PART): Uint8Array[] {
  return Array.from({ length: Math.ceil(data.length / length) }, (_, n) => data.subarray(n * length, (n + 1) * length));
}

function blocked(data: Uint8Array = DATA): Buffer {
  return Buffer.concat([...partsOf(data).map(member), member(new Uint8Array(0))]);
}

/** Frames with a list of them at the end; `change` alters the list. */
async function seekable(change = (_list: Buffer): void => {}): Promise<Buffer> {
  const parts = partsOf(DATA, 1_000_000);
  const frames = await Promise.all(parts.map((part) => zstdCompress(part)));
  const list = Buffer.alloc(8 + frames.length * 8 + 9);
  list.writeUInt32LE(0x184d_2a5e, 0);
  list.writeUInt32LE(list.length - 8, 4);
  for (const [n, frame] of frames.entries()) {
    list.writeUInt32LE(frame.length, 8 + n * 8);
    list.writeUInt32LE(parts[n]?.length ?? 0, 12 + n * 8);
  }
  list.writeUInt32LE(frames.length, list.length - 9);
  list.writeUInt32LE(0x8f92_eab1, list.length - 4);
  change(list);
  return Buffer.concat([...frames, list]);
}

async function file(name: string, bytes: Uint8Array): Promise<string> {
  await writeFile(join(folder, name), bytes);
  return join(folder, name);
}

/** Reads it backwards, from all over, and converts it. */
async function expectAtRandom(path: string, wanted: Buffer = DATA): Promise<void> {
  const report = await inspect(path);
  expect(report).toMatchObject({ virtualSize: wanted.length, guessed: true });
  expect(report.warnings.join(' ')).not.toContain('temporary file');
  await using disk = await openDisk(path);
  const bytes = Buffer.alloc(70_001);
  for (let at = wanted.length - bytes.length; at > 0; at -= 999_983) {
    await disk.read(at, bytes);
    expect(bytes.equals(wanted.subarray(at, at + bytes.length)), `at ${at}`).toBe(true);
  }
  await convert(path, join(folder, 'out.vdi'), { force: true });
  await using copy = await openDisk(join(folder, 'out.vdi'));
  const all = Buffer.alloc(copy.size);
  await copy.read(0, all);
  expect(all.equals(wanted)).toBe(true);
}

describe('blocked gzip', () => {
  it('is read at any place, without a temporary file', async () => {
    await expectAtRandom(await file('a.img.gz', blocked()));
  });

  it('warns of one that may be cut off', async () => {
    const warningsOf = async (bytes: Uint8Array) => (await inspect(await file('a.img.gz', bytes))).warnings.join();
    expect(await warningsOf(Buffer.concat(partsOf(DATA).map(member)))).toContain('no end marker');
    expect(await warningsOf(blocked())).not.toContain('no end marker');
  });

  it('tells damage where it is read, and a conversion leaves nothing', async () => {
    const bytes = blocked();
    const at = bytes.length >> 1;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    const path = await file('a.img.gz', bytes);
    await using disk = await openDisk(path);
    const start = Buffer.alloc(PART);
    await disk.read(0, start);
    expect(start.equals(DATA.subarray(0, PART))).toBe(true);
    await expect(disk.read(0, Buffer.alloc(SIZE))).rejects.toMatchObject({ kind: 'corrupt' });
    await expect(convert(path, join(folder, 'out.vdi'))).rejects.toMatchObject({ kind: 'corrupt' });
    expect(await readdir(folder)).toEqual(['a.img.gz']);
  });

  it.each([
    ['a member without its length', Buffer.concat([blocked(), Buffer.from([0x1f, 0x8b])])],
    ['a length behind the end', blocked().subarray(0, -40)],
  ])('is taken for any other gzip file with %s', async (_, bytes) => {
    delete process.env['TMPDIR'];
    await expect(inspect(await file('a.img.gz', bytes))).rejects.toMatchObject({ kind: 'corrupt' });
  });

  it('is corrupt where a member has another length than it says', async () => {
    const members = partsOf(DATA).map(member);
    const [first = Buffer.alloc(0)] = members;
    first.writeUInt32LE(PART - 512, first.length - 4);
    const path = await file('a.img.gz', Buffer.concat(members));
    await expect(openDisk(path)).rejects.toMatchObject({ kind: 'corrupt' });
  });
});

describe('seekable Zstandard', () => {
  it('is read at any place, without a temporary file', async () => {
    await expectAtRandom(await file('a.img.zst', await seekable()));
  });

  it.each([
    ['a frame is longer than the list says', 12, 999_000],
    ['a frame is shorter than the list says', 12, 1_000_512],
  ])('is corrupt where %s', async (_, at, value) => {
    const bytes = await seekable((list) => void list.writeUInt32LE(value, at));
    await expect(openDisk(await file('a.img.zst', bytes))).rejects.toMatchObject({ kind: 'corrupt' });
  });

  it('is unpacked from its start where the list does not fit the file', async () => {
    delete process.env['TMPDIR'];
    const bytes = await seekable((list) => void list.writeUInt32LE(list.readUInt32LE(8) + 1, 8));
    const report = await inspect(await file('a.img.zst', bytes));
    expect(report.virtualSize).toBe(SIZE);
    expect(report.warnings.join(' ')).toContain('temporary file');
  });
});

describeWithPeers(['bgzip', 'xz'], 'files of other programs', (bgzip, xz) => {
  it('are read at any place: bgzip', async () => {
    await expectAtRandom(await file('a.img.gz', bgzip?.filter(DATA, '-c') ?? Buffer.alloc(0)));
  });

  it.each([
    ['blocks', ['--block-size=1000000', '-C', 'crc32']],
    ['checksums of another kind', ['--block-size=3000000', '-C', 'sha256']],
  ])('are read at any place: xz with %s', async (_, options) => {
    await expectAtRandom(await file('a.img.xz', xz?.filter(DATA, '-0c', ...options) ?? Buffer.alloc(0)));
  });

  it('are read at any place: xz with several streams and padding', async () => {
    const one = xz?.filter(DATA.subarray(0, 512 * 1000), '-0c') ?? Buffer.alloc(0);
    const two = xz?.filter(DATA, '-0c', '--block-size=2000000', '-C', 'none') ?? Buffer.alloc(0);
    const bytes = Buffer.concat([one, Buffer.alloc(8), two, Buffer.alloc(4)]);
    await expectAtRandom(await file('a.img.xz', bytes), Buffer.concat([DATA.subarray(0, 512 * 1000), DATA]));
  });

  it('tell damage of a block of xz where it is read', async () => {
    const bytes = Buffer.from(xz?.filter(DATA, '-0c', '--block-size=1000000') ?? []);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    const path = await file('a.img.xz', bytes);
    await using disk = await openDisk(path);
    await disk.read(0, Buffer.alloc(512));
    await expect(convert(path, join(folder, 'out.vdi'))).rejects.toMatchObject({ kind: 'corrupt' });
    expect(await readdir(folder)).toEqual(['a.img.xz']);
  });

  it('are converted as they are unpacked: xz with one block', async () => {
    const path = await file('a.img.xz', xz?.filter(DATA, '-0c') ?? Buffer.alloc(0));
    await convert(path, join(folder, 'out.vdi'));
    await using copy = await openDisk(join(folder, 'out.vdi'));
    const all = Buffer.alloc(copy.size);
    await copy.read(0, all);
    expect(all.equals(DATA)).toBe(true);
  });
});
