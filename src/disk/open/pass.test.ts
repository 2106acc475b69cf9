/** Conversions of what is unpacked as it comes, and those that must be read in another way. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { zipOf } from '../../../test/archives/zip-maker.ts';
import { convert } from '../../operations/convert.ts';
import { openDisk } from '../../operations/open.ts';

const SIZE = 5 * 1024 * 1024 + 512;
const DATA = Buffer.alloc(SIZE);
for (let at = 0; at < SIZE; at += 4096) DATA.writeUInt32LE(at + 1, at);
/** `ISIZE` of a member. */
const SIZE_AT = 4;

let folder = '';
const temporary = process.env['TMPDIR'];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-pass-'));
});
afterEach(async () => {
  if (temporary === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = temporary;
  await rm(folder, { recursive: true, force: true });
});

/** From now on a temporary file is a failure. */
function withoutTemporaryFiles(): void {
  process.env['TMPDIR'] = join(folder, 'missing');
}

async function converted(name: string, bytes: Uint8Array): Promise<{ content: Buffer; warnings: readonly string[] }> {
  await writeFile(join(folder, name), bytes);
  const target = join(folder, 'out.vdi');
  const { warnings } = await convert(join(folder, name), target, { force: true });
  await using disk = await openDisk(target);
  const content = Buffer.alloc(disk.size);
  await disk.read(0, content);
  return { content, warnings };
}

describe('a compressed raw disk', () => {
  it.each([
    ['gzip', 'a.img.gz', gzipSync(DATA)],
    ['a member of a zip archive', 'a.zip', zipOf([{ name: 'a.img', content: DATA, method: 8 }])],
  ])('is converted as it is unpacked: %s', async (_, name, bytes) => {
    withoutTemporaryFiles();
    const { content, warnings } = await converted(name, bytes);
    expect(content.equals(DATA)).toBe(true);
    expect(warnings.join(' ')).not.toContain('temporary file');
  });

  it.each([
    ['has two members', Buffer.concat([gzipSync(DATA.subarray(0, SIZE - 512)), gzipSync(DATA.subarray(-512))])],
    ['is followed by other bytes', Buffer.concat([gzipSync(DATA), Buffer.from('signature')])],
  ])('is unpacked into a file where it %s', async (_, bytes) => {
    const { content, warnings } = await converted('a.img.gz', bytes);
    expect(content.equals(DATA)).toBe(true);
    expect(warnings.join(' ')).toContain('temporary file');
  });

  it.each([
    ['a partition of 2 TiB', 0xffff_ffff],
    ['a partition that is a little too long', SIZE / 512],
  ])('is unpacked into a file where its partition table has %s', async (_, sectors) => {
    const disk = Buffer.from(DATA);
    disk.writeUInt8(0x83, 446 + 4);
    disk.writeUInt32LE(1, 446 + 8);
    disk.writeUInt32LE(sectors, 446 + 12);
    disk.writeUInt16LE(0xaa55, 510);
    const { content, warnings } = await converted('a.img.gz', gzipSync(disk));
    expect(content.equals(disk)).toBe(true);
    expect(warnings.join(' ')).toContain('temporary file');
  });

  it('is unpacked into a file where its last bytes tell the format', async () => {
    await writeFile(join(folder, 'a.raw'), DATA);
    await convert(join(folder, 'a.raw'), join(folder, 'a.vhd'), { sourceFormat: 'raw', variant: ['fixed'] });
    const { content, warnings } = await converted('b.img.gz', gzipSync(await readFile(join(folder, 'a.vhd'))));
    expect(content.subarray(0, SIZE).equals(DATA)).toBe(true);
    expect(warnings.join(' ')).toContain('temporary file');
  });

  it.each([
    ['its checksum does not fit', -8],
    ['its length does not fit', -SIZE_AT],
    ['it is cut off', null],
  ])('leaves no target where %s', async (_, at) => {
    const stored = gzipSync(DATA);
    if (at !== null) stored[stored.length + at] = (stored.at(at) ?? 0) ^ 1;
    await writeFile(join(folder, 'a.img.gz'), at === null ? stored.subarray(0, stored.length >> 1) : stored);
    const made = convert(join(folder, 'a.img.gz'), join(folder, 'out.vdi'));
    await expect(made).rejects.toMatchObject({ name: 'ImageError', kind: 'corrupt' });
    expect(await readdir(folder)).toEqual(['a.img.gz']);
  });

  it('names the directory of the temporary file where there is none', async () => {
    withoutTemporaryFiles();
    const two = Buffer.concat([gzipSync(DATA), gzipSync(DATA)]);
    const made = converted('a.img.gz', two);
    await expect(made).rejects.toMatchObject({ hint: expect.stringContaining('TMPDIR') });
  });

  it('ends when it is cancelled, and leaves nothing', async () => {
    await writeFile(join(folder, 'a.img.gz'), gzipSync(DATA));
    const stop = new AbortController();
    const made = convert(join(folder, 'a.img.gz'), join(folder, 'out.vdi'), {
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    await expect(made).rejects.toMatchObject({ kind: 'aborted' });
    expect(await readdir(folder)).toEqual(['a.img.gz']);
  });
});
