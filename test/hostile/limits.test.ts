/** Every bound of `src/limits.ts` and of each format from both sides, reached by a file. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { HEADER } from '../../src/formats/vdi/layout.ts';
import { readProbeInput } from '../../src/image/probe.ts';
import { LIMITS } from '../../src/limits.ts';
import { createImage } from '../../src/operations/create.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import { MemoryProvider, MemoryStorage } from '../../src/storage/memory.ts';
import { listPartitions } from '../../src/vfs/partitions/index.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { KITS } from '../conformance/kits.ts';
import { headerOnly } from '../formats/vdi/limits.ts';
import { gptDisk, LINUX, putSlots, SOME_ID } from '../vfs/tables.ts';

const SECTOR = 512;
const TESTED: Readonly<Record<keyof typeof LIMITS, string>> = {
  chainDepth: 'test',
  parentCandidates: 'test',
  filesBeside: 'test',
  probeNames: 'test',
  probeHead: 'test',
  probeTail: 'test',
  wrappings: 'test',
  unpackedBytes: 'test',
  virtualSize: 'test',
  blockSizeMin: 'test',
  blockSizeMax: 'test',
  tableCacheBytes: 'test',
  dirtyMetadataBytes: 'test',
  logicalPartitions: 'test',
  gptEntryBytes: 'test',
  openParts: 'test',
  commentBytes: 'no format uses it yet',
};

afterEach(() => {
  vi.restoreAllMocks();
});

/** Sources of a folder of `src/`, with its subfolders, as one text. */
function sourcesOf(folder: string): string {
  const root = new URL(`../../src/${folder}`, import.meta.url);
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .map((name) => readFileSync(new URL(name, root), 'utf8'))
    .join('\n');
}

it('knows every bound', () => {
  expect(Object.keys(TESTED).sort()).toEqual(Object.keys(LIMITS).sort());
  const text = sourcesOf('');
  for (const [name, how] of Object.entries(TESTED)) {
    const used = new RegExp(`\\bLIMITS\\.${name}\\b`).test(text);
    expect(used, `LIMITS.${name} is used, and so it has a test`).toBe(how === 'test');
  }
});

it('finds a kit for the bounds of every format that has some', () => {
  const folders = readdirSync(new URL('../../src/formats/', import.meta.url));
  const bounded = folders.filter((name) => existsSync(new URL(`../../src/formats/${name}/limits.ts`, import.meta.url)));
  expect(KITS.filter(({ limits }) => limits !== undefined).map(({ format }) => format)).toEqual(
    expect.arrayContaining(bounded),
  );
});

const BOUNDED = await Promise.all(
  KITS.flatMap(({ format, limits }) => (limits === undefined ? [] : [limits().then((kit) => ({ format, ...kit }))])),
);

describe.each(BOUNDED)('$format', ({ format, bounds, tests }) => {
  it('has a way to every bound, and uses it', async () => {
    const exported: Readonly<Record<string, unknown>> = await import(`../../src/formats/${format}/limits.ts`);
    const [[name = '', all] = []] = Object.entries(exported);
    expect(all, 'the kit has the bounds of the format').toBe(bounds);
    expect(Object.keys(exported)).toEqual([name]);
    expect(Object.keys(tests).sort()).toEqual(Object.keys(bounds).sort());
    const text = sourcesOf(`formats/${format}/`);
    for (const bound of Object.keys(bounds)) expect(text).toMatch(new RegExp(`\\b${name}\\.${bound}\\b`));
  });

  it.each(Object.entries(bounds))('%s', async (name, most) => {
    const { reach, step = 1 } = tests[name] ?? {};
    expect(await reach?.(most)).toBe(most);
    await expectKind(() => reach?.(most + step), 'limit');
  });
});

describe('partition tables', () => {
  const list = async (disk: Uint8Array) => {
    const storage = new MemoryStorage();
    await storage.write(0, disk);
    return listPartitions(storage);
  };

  it('logicalPartitions', async () => {
    for (const more of [0, 1]) {
      const count = LIMITS.logicalPartitions + more;
      const disk = new Uint8Array((count * 4 + 64) * SECTOR);
      putSlots(disk, 0, [{ type: 5, start: 4, count: count * 4 }]);
      for (let index = 0; index < count; index++) {
        const next = index + 1 < count ? { type: 5, start: (index + 1) * 4, count: 4 } : null;
        putSlots(disk, (4 + index * 4) * SECTOR, [{ type: 0x83, start: 1, count: 1 }, next]);
      }
      const { partitions, warnings } = await list(disk);
      expect(partitions).toHaveLength(1 + LIMITS.logicalPartitions);
      expect(warnings).toHaveLength(more);
    }
  });

  it('gptEntryBytes', async () => {
    const slots = [{ type: LINUX, id: SOME_ID, first: 9000, last: 9001 }];
    const most = LIMITS.gptEntryBytes / 128;
    const size = 8 * 2 ** 20;
    expect(await list(gptDisk(size, slots, { entryCount: most }))).toMatchObject({ kind: 'gpt', warnings: [] });
    expect(await list(gptDisk(size, slots, { entryCount: most + 1 }))).toMatchObject({ kind: 'none' });
  });
});

describe('vdi', () => {
  describe('blockSizeMin and blockSizeMax', () => {
    it.each([LIMITS.blockSizeMin, LIMITS.blockSizeMax])('takes blocks of %i bytes', async (blockSize) => {
      const source = await headerOnly({ blockSize, diskSize: SECTOR });
      expect((await inspect(source)).blockSize).toBe(blockSize);
    });
    it.each([LIMITS.blockSizeMin / 2, LIMITS.blockSizeMax * 2])('refuses blocks of %i bytes', async (blockSize) => {
      await expectKind(async () => inspect(await headerOnly({ blockSize, diskSize: SECTOR })), 'invalid-format');
    });
    it('holds for the extra bytes of a block too', async () => {
      const most = { blockSize: 4096, diskSize: SECTOR, blockExtra: LIMITS.blockSizeMax };
      expect((await inspect(await headerOnly(most))).format).toBe('vdi');
      const more = { ...most, blockExtra: 2 * LIMITS.blockSizeMax };
      await expectKind(async () => inspect(await headerOnly(more)), 'invalid-format');
    });
  });

  describe('virtualSize', () => {
    const blockSize = LIMITS.blockSizeMax;
    it('takes the largest disk and reads its last sector', async () => {
      await using disk = await openDisk(await headerOnly({ blockSize, diskSize: LIMITS.virtualSize }));
      expect(disk.size).toBe(LIMITS.virtualSize + 1 - SECTOR);
      const bytes = new Uint8Array(SECTOR).fill(1);
      await disk.read(disk.size - SECTOR, bytes);
      expect(bytes).toEqual(new Uint8Array(SECTOR));
    });
    it.each([2n ** 53n, 2n ** 63n, 2n ** 64n - 1n])('refuses %i bytes', async (size) => {
      const source = await headerOnly({ blockSize, diskSize: LIMITS.virtualSize });
      const storage = await source.provider.open(source.name, 'write');
      const field = new Uint8Array(8);
      new DataView(field.buffer).setBigUint64(0, size, true);
      await storage.write(HEADER.fields.diskSize.offset, field);
      await expectKind(() => inspect(source), 'limit');
    });
  });

  describe('chainDepth', () => {
    it('opens the longest chain and refuses a longer one', { timeout: 60_000 }, async () => {
      const provider = new MemoryProvider();
      const names = Array.from({ length: LIMITS.chainDepth + 1 }, (_, index) => `/${index}.vdi`);
      for (const [index, name] of names.entries()) {
        const parent = names[index - 1];
        const size = parent === undefined ? { size: SECTOR } : { parent: { provider, name: parent } };
        await createImage({ provider, name }, { ...SMALL, ...size });
      }
      const sources = names.map((name) => ({ provider, name }));
      await using disk = await openDisk(sources.slice(0, -1));
      expect(disk.images.length).toBe(LIMITS.chainDepth);
      await disk.read(0, new Uint8Array(SECTOR));
      await expectKind(() => openDisk(sources), 'limit');
      await expectKind(() => openDisk(sources.at(-1) ?? '', { allow: ['same-directory'] }), 'limit');
    });
  });

  describe('looking beside an image', () => {
    /** A child whose parent is made last, so that the directory names it last, among others. */
    async function lastOf(count: number, other: (provider: MemoryProvider, name: string) => Promise<unknown>) {
      const provider = new MemoryProvider();
      const child = { provider, name: '/box/child.vdi' };
      await (await provider.create('/box/empty')).close();
      for (let index = 0; index < count; index++) await other(provider, `/box/${index}`);
      await createImage({ provider, name: '/parent.vdi' }, { ...SMALL, size: SECTOR });
      await createImage(child, { ...SMALL, parent: { provider, name: '/parent.vdi' } });
      await provider.rename('/parent.vdi', '/box/parent.vdi', { replace: false });
      return child;
    }
    const image = (provider: MemoryProvider, name: string) =>
      createImage({ provider, name }, { ...SMALL, size: SECTOR });
    const text = async (provider: MemoryProvider, name: string) => {
      const storage = await provider.create(name);
      await storage.write(0, new TextEncoder().encode('a line of text\n'));
      await storage.close();
    };
    const open = (child: Awaited<ReturnType<typeof lastOf>>) => openDisk(child, { allow: ['same-directory'] });

    it('finds a parent among this many images, and looks at no more', { timeout: 60_000 }, async () => {
      const found = await lastOf(LIMITS.parentCandidates - 2, image);
      await using disk = await open(found);
      expect(disk.images.map(({ name }) => name)).toEqual(['/box/parent.vdi', '/box/child.vdi']);
      const lost = await lastOf(LIMITS.parentCandidates - 1, image);
      await expectKind(() => open(lost), 'not-found');
    });

    it('finds a parent among this many other files, and looks at no more', { timeout: 60_000 }, async () => {
      const found = await lastOf(LIMITS.filesBeside - 3, text);
      await using disk = await open(found);
      expect(disk.images.map(({ name }) => name)).toEqual(['/box/parent.vdi', '/box/child.vdi']);
      const lost = await lastOf(LIMITS.filesBeside - 2, text);
      await expect(open(lost)).rejects.toMatchObject({
        kind: 'not-found',
        hint: expect.stringContaining(`${LIMITS.filesBeside} files beside the image were looked at`),
      });
    });
  });

  describe('tableCacheBytes', () => {
    const page = 64 * 1024;
    /** Reads of the file while every page of the map is asked for, and then the first one again. */
    async function readsFor(pages: number): Promise<number> {
      const blocks = (pages * page) / 4;
      await using disk = await openDisk(await headerOnly({ blockSize: 4096, diskSize: blocks * 4096 }));
      const read = vi.spyOn(MemoryStorage.prototype, 'read');
      for (let index = 0; index < pages; index++) await askFor(disk, index * (page / 4) * 4096);
      await askFor(disk, 0);
      return read.mock.calls.length;
    }
    it('keeps a map that fits', async () => {
      const pages = LIMITS.tableCacheBytes / page;
      expect(await readsFor(pages)).toBe(pages);
    });
    it('drops the oldest part of one that does not', async () => {
      const pages = LIMITS.tableCacheBytes / page + 1;
      expect(await readsFor(pages)).toBe(pages + 1);
    });
  });

  describe('dirtyMetadataBytes', () => {
    it('flushes by itself when so much metadata waits, and not before', { timeout: 60_000 }, async () => {
      const provider = new MemoryProvider();
      const image = { provider, name: '/image.vdi' };
      // Blocks whose map entries lie in different sectors.
      const apart = (SECTOR / 4) * SECTOR;
      const most = LIMITS.dirtyMetadataBytes / SECTOR;
      await createImage(image, { ...SMALL, size: apart * (most + 2) });
      await using disk = await openDisk(image, { mode: 'write', format: 'vdi', flushAfterMs: 0 });
      const bytes = new Uint8Array(SECTOR).fill(7);
      const flush = vi.spyOn(MemoryStorage.prototype, 'flush');
      await disk.write(0, bytes);
      const atStart = flush.mock.calls.length;
      for (let index = 1; index < most; index++) await disk.write(index * apart, bytes);
      expect(flush.mock.calls.length).toBe(atStart);
      await disk.write(most * apart, bytes);
      expect(flush.mock.calls.length).toBeGreaterThan(atStart);
    });
  });
});

describe('probeHead and probeTail', () => {
  const { probeHead, probeTail } = LIMITS;
  it.each([
    [probeTail - 1, probeTail - 1, probeTail - 1],
    [probeTail, probeTail, probeTail],
    [probeTail + 1, probeTail + 1, probeTail],
    [probeHead, probeHead, probeTail],
    [probeHead + 1, probeHead, probeTail],
    [2 ** 45, probeHead, probeTail],
  ])('of a file of %i bytes are %i and %i bytes', async (size, head, tail) => {
    const storage = new MemoryStorage();
    await storage.resize(size);
    const input = await readProbeInput(storage, 'x');
    expect([input.head.length, input.tail.length]).toEqual([head, tail]);
  });
});

const SMALL = { format: 'vdi', config: { AllocationBlockSize: 512, DataAlignment: 512 } } as const;

async function askFor(disk: ChainDisk, offset: number): Promise<void> {
  await disk.extentAt(offset, offset + SECTOR);
}
