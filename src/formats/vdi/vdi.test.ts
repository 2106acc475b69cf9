import { describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../disk/disk.ts';
import type { CreateImageOptions } from '../../disk/options.ts';
import { ImageError } from '../../errors.ts';
import { createImage } from '../../operations/create.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { HEADER, OLD_HEADER, SIGNATURE } from './layout.ts';

const SMALL = { AllocationBlockSize: 4096, DataAlignment: 512 };
const PARENT = '11111111-2222-4333-8444-555555555555';

async function make(options: Partial<CreateImageOptions> = {}, name = '/disk.vdi', provider = new MemoryProvider()) {
  await createImage({ provider, name }, { size: 64 * 1024, config: SMALL, ...options });
  return { provider, name };
}

async function bytesOf(source: { provider: MemoryProvider; name: string }): Promise<Uint8Array> {
  const storage = await source.provider.open(source.name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function patch(
  source: { provider: MemoryProvider; name: string },
  offset: number,
  bytes: Uint8Array,
): Promise<void> {
  const storage = await source.provider.open(source.name, 'write');
  await storage.write(offset, bytes);
  await storage.close();
}

async function read(disk: ChainDisk, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await disk.read(offset, bytes);
  return bytes;
}

async function withDisk(
  source: { provider: MemoryProvider; name: string },
  mode: 'read' | 'write',
  run: (disk: ChainDisk) => Promise<void>,
): Promise<void> {
  const disk = await openDisk(source, { mode, allow: ['/'] });
  try {
    await run(disk);
  } finally {
    await disk.close();
  }
}

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

describe('a new image', () => {
  it('keeps comment, identity, geometries and sizes', async () => {
    const geometry = {
      physical: { cylinders: 7, heads: 16, sectors: 63 },
      logical: { cylinders: 3, heads: 255, sectors: 63 },
    };
    const source = await make({ comment: 'grüße', uuid: PARENT, geometry });
    const report = await inspect(source);
    expect(report).toMatchObject({
      format: 'vdi',
      variant: ['dynamic'],
      comment: 'grüße',
      uuid: PARENT,
      blockSize: 4096,
      virtualSize: 65536,
      version: '1.1',
      geometry,
    });
    expect(report.modificationUuid).not.toBeNull();
  });

  it('holds nothing but header and map', async () => {
    const bytes = await bytesOf(await make());
    const header = HEADER.decode(bytes);
    expect(header.blocksAllocated).toBe(0);
    expect(bytes.length).toBe(header.dataOffset);
    expect([...bytes.subarray(header.mapOffset, header.mapOffset + 64)].every((byte) => byte === 0xff)).toBe(true);
  });

  it('takes all room when it is fixed, and tells how far it is up to the end', async () => {
    const done: [number, number][] = [];
    const size = 2 ** 21 + 4096;
    await make({ size, variant: ['fixed'], onProgress: (progress) => done.push([progress.done, progress.total]) });
    expect(done).toEqual([2 ** 20, 2 ** 21, size].map((bytes) => [bytes, size]));
  });

  it.each([
    ['a size that is no multiple of 512', { size: 1000 }, 'invalid-argument'],
    ['no size', { size: 0 }, 'invalid-argument'],
    ['a comment that is too long', { comment: 'x'.repeat(256) }, 'invalid-argument'],
    ['a block size that is no power of two', { config: { AllocationBlockSize: 3000 } }, 'invalid-argument'],
    ['more blocks than the map can hold', { size: 2 ** 50, config: { AllocationBlockSize: 512 } }, 'limit'],
    ['an unknown option', { config: { Colour: 'red' } }, 'invalid-argument'],
    ['an unknown variant', { variant: ['striped'] }, 'invalid-argument'],
    ['a differencing image without a parent', { variant: ['diff'] }, 'invalid-argument'],
  ] as const)('is refused with %s, and nothing is left behind', async (_what, options, kind) => {
    const provider = new MemoryProvider();
    await expect(make(options as Partial<CreateImageOptions>, '/disk.vdi', provider)).rejects.toMatchObject({ kind });
    const names: string[] = [];
    for await (const name of provider.list('/')) names.push(name);
    expect(names).toEqual([]);
  });
});

describe('writing', () => {
  it('gives blocks room in the order they are first written, and raises the count', async () => {
    const source = await make();
    await withDisk(source, 'write', async (disk) => {
      await disk.write(8192, filled(4096, 1));
      await disk.write(0, filled(4096, 2));
    });
    const bytes = await bytesOf(source);
    const header = HEADER.decode(bytes);
    const map = new Uint32Array(bytes.slice(header.mapOffset, header.mapOffset + 64).buffer);
    expect([map[0], map[1], map[2]]).toEqual([1, 0xffff_ffff, 0]);
    expect(header.blocksAllocated).toBe(2);
    expect(bytes.length).toBe(header.dataOffset + 2 * 4096);
  });

  it('stores nothing for zeroes in a base, unless they are honoured', async () => {
    const source = await make();
    await withDisk(source, 'write', (disk) => disk.write(0, filled(65536, 0)));
    expect(HEADER.decode(await bytesOf(source)).blocksAllocated).toBe(0);
    const disk = await openDisk(source, { mode: 'write', honourZeroes: true });
    await disk.write(0, filled(65536, 0));
    await disk.close();
    expect(HEADER.decode(await bytesOf(source)).blocksAllocated).toBe(16);
  });

  it('changes the modification UUID on the first write and never on reads', async () => {
    const source = await make();
    const before = (await inspect(source)).modificationUuid;
    await withDisk(source, 'write', async (disk) => {
      await read(disk, 0, 512);
    });
    expect((await inspect(source)).modificationUuid).toBe(before);
    await withDisk(source, 'write', (disk) => disk.write(0, filled(512, 1)));
    expect((await inspect(source)).modificationUuid).not.toBe(before);
  });

  it('keeps what it does not know in the header sector', async () => {
    const source = await make();
    await patch(source, 0x1d8, filled(40, 0xab));
    await withDisk(source, 'write', (disk) => disk.write(0, filled(512, 1)));
    expect((await bytesOf(source)).subarray(0x1d8, 0x200)).toEqual(filled(40, 0xab));
  });

  it('hands out slots that nothing refers to before the file grows, without their old bytes', async () => {
    const source = await make();
    await withDisk(source, 'write', async (disk) => {
      await disk.write(0, filled(4096, 1));
      await disk.write(4096, filled(4096, 2));
    });
    const before = await bytesOf(source);
    const header = HEADER.decode(before);
    // As after a power cut between count and map: slot 0 is used up, but no entry points at it.
    await patch(source, header.mapOffset, filled(4, 0xff));
    await withDisk(source, 'write', async (disk) => {
      await disk.write(12288 + 100, filled(10, 7));
      expect(await read(disk, 12288, 100)).toEqual(filled(100, 0));
      expect(await read(disk, 12288 + 110, 100)).toEqual(filled(100, 0));
    });
    expect((await bytesOf(source)).length).toBe(before.length);
  });

  it('writes blocks behind their private bytes', async () => {
    const source = await make();
    const extra = new Uint8Array(4);
    new DataView(extra.buffer).setUint32(0, 512, true);
    await patch(source, HEADER.fields.blockExtra.offset, extra);
    const content = Uint8Array.from({ length: 16384 }, (_, n) => n % 251);
    await withDisk(source, 'write', (disk) => disk.write(0, content));
    await withDisk(source, 'read', async (disk) => expect(await read(disk, 0, 16384)).toEqual(content));
    const bytes = await bytesOf(source);
    const { dataOffset } = HEADER.decode(bytes);
    expect(bytes.subarray(dataOffset, dataOffset + 512)).toEqual(filled(512, 0));
    expect(bytes.subarray(dataOffset + 512, dataOffset + 512 + 4096)).toEqual(content.subarray(0, 4096));
  });
});

it('lists the private bytes of its blocks', async () => {
  const source = await make();
  const extra = new Uint8Array(4);
  new DataView(extra.buffer).setUint32(0, 512, true);
  await patch(source, HEADER.fields.blockExtra.offset, extra);
  await withDisk(source, 'write', async (disk) => {
    await disk.write(8192, filled(4096, 1));
    await disk.write(0, filled(4096, 2));
    await disk.flush();
    const found: unknown[] = [];
    for await (const { what, offset, bytes, guestOffset } of disk.metadata(0, { perUnit: true })) {
      if (what === 'block') found.push({ offset, length: bytes.length, guestOffset });
    }
    const { dataOffset } = HEADER.decode(await bytesOf(source));
    expect(found).toEqual([
      { offset: dataOffset, length: 512, guestOffset: 8192 },
      { offset: dataOffset + 4608, length: 512, guestOffset: 0 },
    ]);
  });
});

describe('a differencing image', () => {
  async function chain() {
    const base = await make({ uuid: PARENT }, '/base.vdi');
    await withDisk(base, 'write', (disk) => disk.write(0, filled(65536, 0x11)));
    await createImage({ provider: base.provider, name: '/diff.vdi' }, { parent: base, config: SMALL });
    return { base, diff: { provider: base.provider, name: '/diff.vdi' } };
  }

  it('names its parent and shows it', async () => {
    const { base, diff } = await chain();
    const parent = await inspect(base);
    expect(await inspect(diff)).toMatchObject({
      variant: ['diff'],
      parentUuid: PARENT,
      parentModificationUuid: parent.modificationUuid,
      virtualSize: 65536,
    });
    await withDisk(diff, 'read', async (disk) => {
      expect(await read(disk, 0, 65536)).toEqual(filled(65536, 0x11));
      expect(disk.images.map((image) => image.name)).toEqual(['/base.vdi', '/diff.vdi']);
    });
  });

  it('copies the rest of a block from the parent and leaves the parent alone', async () => {
    const { base, diff } = await chain();
    const before = await bytesOf(base);
    await withDisk(diff, 'write', (disk) => disk.write(4096 + 100, filled(50, 0x22)));
    await withDisk(diff, 'read', async (disk) => {
      const block = filled(4096, 0x11);
      block.fill(0x22, 100, 150);
      expect(await read(disk, 4096, 4096)).toEqual(block);
    });
    expect(await bytesOf(base)).toEqual(before);
  });

  it('hides the parent with zeroes, also after it was opened again', async () => {
    const { diff } = await chain();
    await withDisk(diff, 'write', async (disk) => {
      await disk.write(0, filled(8192, 0));
      await disk.zero(8192, 4096 + 100);
    });
    await withDisk(diff, 'read', async (disk) => {
      expect(await read(disk, 0, 12288 + 100)).toEqual(filled(12288 + 100, 0));
      expect(await read(disk, 12288 + 100, 100)).toEqual(filled(100, 0x11));
      const states = [];
      for await (const extent of disk.extents()) states.push([extent.state, extent.image]);
      expect(states).toEqual([
        ['zero', 1],
        ['data', 1],
        ['data', 0],
      ]);
    });
  });

  it('stores nothing that the parent reads already, unless asked to', async () => {
    const { diff } = await chain();
    await withDisk(diff, 'write', (disk) => disk.write(100, filled(20000, 0x11)));
    expect(HEADER.decode(await bytesOf(diff)).blocksAllocated).toBe(0);
    const disk = await openDisk(diff, { mode: 'write', honourSame: true, allow: ['/'] });
    await disk.write(100, filled(20000, 0x11));
    await disk.close();
    expect(HEADER.decode(await bytesOf(diff)).blocksAllocated).toBe(5);
  });

  it('warns when the parent was written since', async () => {
    const { base, diff } = await chain();
    await withDisk(base, 'write', (disk) => disk.write(0, filled(1, 1)));
    await withDisk(diff, 'read', async (disk) => expect(disk.warnings.join()).toContain('was modified after'));
  });

  it('is refused without a gate, without its parent, with a wrong parent, and as its own parent', async () => {
    const { base, diff } = await chain();
    await expect(openDisk(diff)).rejects.toMatchObject({ kind: 'denied' });
    const other = await make({}, '/other.vdi', base.provider);
    await expect(openDisk(diff, { parent: other })).rejects.toMatchObject({ status: 'VERR_VD_UUID_MISMATCH' });
    await expect(openDisk(diff, { parent: diff })).rejects.toMatchObject({ kind: 'corrupt' });
    await base.provider.remove('/base.vdi');
    await expect(openDisk(diff, { allow: ['/'] })).rejects.toMatchObject({ kind: 'not-found' });
  });
});

describe('reading what others wrote', () => {
  it('reads version 0.2, whose map follows the header and whose data follows the map', async () => {
    const provider = new MemoryProvider();
    const storage = await provider.create('/old.vdi');
    const header = OLD_HEADER.encode({
      text: 'old',
      signature: SIGNATURE,
      version: 2,
      type: 1,
      flags: 0,
      comment: 'old times',
      physicalCylinders: 2,
      physicalHeads: 16,
      physicalSectors: 63,
      physicalSectorSize: 512,
      diskSize: 8192,
      blockSize: 4096,
      blockCount: 2,
      blocksAllocated: 1,
      uuid: PARENT,
      modificationUuid: PARENT,
      parentUuid: '00000000-0000-0000-0000-000000000000',
    });
    await storage.write(0, header);
    await storage.write(420, Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    await storage.write(428, filled(4096, 9));
    await storage.close();
    const source = { provider, name: '/old.vdi' };
    expect(await inspect(source)).toMatchObject({ version: '0.2', comment: 'old times', virtualSize: 8192 });
    await withDisk(source, 'read', async (disk) => {
      expect(await read(disk, 0, 4096)).toEqual(filled(4096, 0));
      expect(await read(disk, 4096, 4096)).toEqual(filled(4096, 9));
    });
    await expect(openDisk(source, { mode: 'write' })).rejects.toMatchObject({ kind: 'read-only' });
  });

  it('opens images with two users of one slot for reading only', async () => {
    const source = await make();
    await withDisk(source, 'write', (disk) => disk.write(0, filled(8192, 1)));
    const { mapOffset } = HEADER.decode(await bytesOf(source));
    await patch(source, mapOffset, Uint8Array.from([1, 0, 0, 0]));
    await expect(openDisk(source, { mode: 'write' })).rejects.toThrow('another entry uses too');
    await withDisk(source, 'read', async (disk) => expect(await read(disk, 0, 1)).toEqual(filled(1, 1)));
  });

  it('reads what is left of an image that was cut off, and says where it ends', async () => {
    const source = await make();
    await withDisk(source, 'write', (disk) => disk.write(0, filled(8192, 1)));
    const storage = await source.provider.open(source.name, 'write');
    await storage.resize(storage.size - 4096 - 1024);
    await storage.close();
    await withDisk(source, 'read', async (disk) => {
      expect(await read(disk, 0, 3072)).toEqual(filled(3072, 1));
      await expect(read(disk, 3072, 512)).rejects.toMatchObject({ status: 'VERR_VD_READ_OUT_OF_RANGE' });
    });
  });

  const u32 = (value: number): Uint8Array => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return bytes;
  };
  it.each([
    ['an unknown version', 'version', 0x0002_0001, 'unsupported'],
    ['a header that is too short', 'headerSize', 100, 'invalid-format'],
    ['an unknown type', 'type', 9, 'invalid-format'],
    ['unknown flags', 'flags', 0x8000, 'invalid-format'],
    ['a block size that is no power of two', 'blockSize', 5000, 'invalid-format'],
    ['a block size of nothing', 'blockSize', 0, 'invalid-format'],
    ['a map inside the header', 'mapOffset', 0x100, 'invalid-format'],
    ['a map whose entries are not aligned', 'mapOffset', 0x201, 'invalid-format'],
    ['data inside the map', 'dataOffset', 0x210, 'invalid-format'],
    ['a map that is too short', 'blockCount', 3, 'invalid-format'],
    ['a map that does not fit the file', 'mapOffset', 0xffff_0000, 'invalid-format'],
    ['odd extra bytes', 'blockExtra', 3, 'invalid-format'],
    ['another logical sector size', 'logicalSectorSize', 4096, 'invalid-format'],
  ] as const)('refuses %s with a typed error that names the field', async (_what, field, value, kind) => {
    const source = await make();
    await patch(source, HEADER.fields[field].offset, u32(value));
    const error = await openDisk(source).then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ImageError);
    expect(error).toMatchObject({ kind, context: { path: '/disk.vdi' } });
  });
});
