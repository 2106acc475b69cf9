/** Images of hundreds of extents keep few files open. */
import { readdirSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { Disk } from '../../index.ts';
import { convert } from '../../operations/convert.ts';
import { removeImage, renameImage } from '../../operations/files.ts';
import { inspect } from '../../operations/inspect.ts';

const onLinux = process.platform === 'linux';
const UNIT = 64 * 1024;
/** Files that the process has open besides: those of the pool, the main files, and parts that stay open. */
const OPEN_MAX = 40;

let folder = '';
afterEach(async () => {
  if (folder !== '') await rm(folder, { recursive: true });
  folder = '';
});

async function openFiles(): Promise<number> {
  const names = await readdir('/proc/self/fd');
  return names.length;
}

/** The most files that were open while something ran: looked at in each turn of the event loop. */
async function mostOpen(run: () => Promise<unknown>): Promise<number> {
  let [most, running] = [0, true];
  const look = (): void => {
    most = Math.max(most, readdirSync('/proc/self/fd').length);
    if (running) setImmediate(look);
  };
  look();
  try {
    await run();
  } finally {
    running = false;
  }
  return most;
}

function numbered(index: number): string {
  return String(index + 1).padStart(3, '0');
}

/** An image of flat extents, 64 KiB each, filled with their number. */
async function flatImage(count: number): Promise<string> {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-extents-'));
  const lines: string[] = [];
  for (let index = 0; index < count; index++) {
    const file = `disk-f${numbered(index)}.vmdk`;
    await writeFile(join(folder, file), new Uint8Array(UNIT).fill(index + 1));
    lines.push(`RW ${UNIT / 512} FLAT "${file}" 0`);
  }
  const name = join(folder, 'disk.vmdk');
  const head = '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\n';
  await writeFile(name, `${head}\n# Extent description\n${lines.join('\n')}\n`);
  return name;
}

async function firstByte(disk: Disk, index: number): Promise<number> {
  const buffer = new Uint8Array(512);
  await disk.read(index * UNIT, buffer);
  return buffer[0] ?? -1;
}

describe.skipIf(!onLinux)('an image of many extents', () => {
  test('holds few files open while all of it is read and written', async () => {
    const count = 200;
    const name = await flatImage(count);
    const before = await openFiles();
    const disk = await Disk.open(name, { mode: 'write' });
    expect((await openFiles()) - before).toBeLessThanOrEqual(OPEN_MAX);
    await Promise.all(Array.from({ length: count }, (_, index) => disk.read(index * UNIT, new Uint8Array(UNIT))));
    for (let index = count - 1; index >= 0; index--) {
      expect(await firstByte(disk, index)).toBe((index + 1) % 256);
      await disk.write(index * UNIT, new Uint8Array(512).fill(255 - (index % 256)));
    }
    expect((await openFiles()) - before).toBeLessThanOrEqual(OPEN_MAX);
    await disk.flush();
    for (let index = 0; index < count; index++) {
      const stored = await readFile(join(folder, `disk-f${numbered(index)}.vmdk`));
      expect(stored[0]).toBe(255 - (index % 256));
      expect(stored[512]).toBe((index + 1) % 256);
    }
    await disk.close();
    expect(await openFiles()).toBe(before);
  });

  test('is refused by a second writer, also where its files are closed for now', async () => {
    const name = await flatImage(40);
    const disk = await Disk.open(name, { mode: 'write' });
    await expect(Disk.open(name, { mode: 'write' })).rejects.toMatchObject({ kind: 'locked' });
    await disk.close();
  });

  test('fails a request when an extent became another file, or was changed', async () => {
    const name = await flatImage(60);
    const disk = await Disk.open(name, { mode: 'write' });
    for (let index = 0; index < 60; index++) await firstByte(disk, index);
    // The third one has been closed since: only the last ones are open.
    const third = join(folder, 'disk-f003.vmdk');
    await appendFile(third, 'x');
    await expect(disk.read(2 * UNIT, new Uint8Array(512))).rejects.toMatchObject({ kind: 'io' });
    const fourth = join(folder, 'disk-f004.vmdk');
    await mkdir(join(folder, 'away'));
    await rename(fourth, join(folder, 'away', 'x'));
    await expect(disk.read(3 * UNIT, new Uint8Array(512))).rejects.toMatchObject({ kind: 'not-found' });
    expect(await firstByte(disk, 10)).toBe(11);
    await disk.close();
  });

  test('is inspected with few open files', async () => {
    const name = await flatImage(200);
    // What the process opens for good at the first look, such as the pipe of a thread, is none of the image's.
    await inspect(name);
    const before = await openFiles();
    const most = await mostOpen(() => inspect(name));
    // Each look at a lock opens three tables of the system for a moment.
    expect(most - before).toBeLessThanOrEqual(OPEN_MAX + 24);
    expect(await openFiles()).toBe(before);
  });

  test('is renamed and deleted with few open files', async () => {
    const name = await flatImage(100);
    const before = await openFiles();
    expect((await mostOpen(() => renameImage(name, join(folder, 'disk-b.vmdk')))) - before).toBeLessThan(OPEN_MAX);
    await renameImage(join(folder, 'disk-b.vmdk'), name);
    await rm(join(folder, 'disk-f007.vmdk'));
    expect((await mostOpen(() => removeImage(name))) - before).toBeLessThan(OPEN_MAX);
    expect(await readdir(folder)).toEqual([]);
  });

  test('names a missing extent when it is opened', async () => {
    const name = await flatImage(50);
    await rm(join(folder, 'disk-f044.vmdk'));
    const before = await openFiles();
    await expect(Disk.open(name)).rejects.toMatchObject({
      kind: 'not-found',
      context: { path: join(folder, 'disk-f044.vmdk') },
    });
    expect(await openFiles()).toBe(before);
  });

  test('is created and converted with few open files', async () => {
    folder = await mkdtemp(join(tmpdir(), 'vdkit-extents-'));
    const before = await openFiles();
    const size = 60 * 2047 * 1024 * 1024;
    const [name, copy] = [join(folder, 'a.vmdk'), join(folder, 'b.vmdk')];
    const disk = await Disk.create(name, { format: 'vmdk', size, variant: ['split'] });
    for (let at = 0; at < size; at += size / 60) await disk.write(at, new Uint8Array(4096).fill(1 + at / (size / 60)));
    expect((await openFiles()) - before).toBeLessThanOrEqual(OPEN_MAX);
    await disk.close();
    let most = 0;
    await convert(name, copy, {
      format: 'vmdk',
      variant: ['split'],
      onProgress: async () => {
        most = Math.max(most, await openFiles());
      },
    });
    expect(most - before).toBeLessThanOrEqual(OPEN_MAX + 8);
    const read = await Disk.open(copy);
    for (let n = 0; n < 60; n++) {
      const buffer = new Uint8Array(4096);
      await read.read(n * (size / 60), buffer);
      expect(buffer.every((byte) => byte === n + 1)).toBe(true);
    }
    await read.close();
    expect(await openFiles()).toBe(before);
  });
});
