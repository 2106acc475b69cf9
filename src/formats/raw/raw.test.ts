import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import type { FormatCreateOptions, Image, Mapping, MediumType, ProbeInput, Progress } from '../../image/contract.ts';
import { flushImage } from '../../image/flush.ts';
import { checkRegions } from '../../image/regions.ts';
import { createImage } from '../../operations/create.ts';
import { openDisk } from '../../operations/open.ts';
import { isPromise, type OpenMode, type Storage, type StorageProvider } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { stageTarget } from '../../storage/staging.ts';
import { FaultProvider } from '../../testing/fault-storage.ts';
import { openWith } from '../../testing/format-files.ts';
import { raw } from './index.ts';
import { FLOPPY_MAX } from './layout.ts';

const MIB = 2 ** 20;
const NAME = '/disk.img';

async function providerWith(bytes: Uint8Array, name = NAME): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const storage = await provider.create(name);
  if (bytes.length > 0) await storage.write(0, bytes);
  await storage.close();
  return provider;
}

async function opened(size: number, mode: OpenMode = 'read', type: MediumType = 'hdd'): Promise<Image> {
  const provider = await providerWith(new Uint8Array(size).fill(7));
  return openWith(raw, { provider, name: NAME }, { mode, type });
}

function mapped(image: Image, offset: number, length: number): Mapping {
  const answer = image.map(offset, length);
  if (isPromise(answer)) throw new Error('a raw image has no table to wait for');
  return answer;
}

async function create(provider: StorageProvider, options: Partial<FormatCreateOptions> = {}): Promise<Image> {
  if (raw.create === undefined) throw new Error('raw images can be made');
  const staged = await stageTarget({ provider, name: NAME }, { force: false, lock: false });
  try {
    const image = await raw.create(await staged.create(), { size: MIB, variant: [], ...options });
    await staged.publish();
    return image;
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

/** A provider that reports `free` as its free space, and whose storages cannot allocate. */
function limited(free: number | null, failAt = Number.POSITIVE_INFINITY): MemoryProvider {
  const provider = new MemoryProvider();
  provider.freeSpace = () => Promise.resolve(free);
  const make = provider.create.bind(provider);
  provider.create = async (...given) => {
    const storage: Storage = await make(...given);
    const write = storage.write.bind(storage);
    Object.defineProperty(storage, 'allocate', { value: undefined });
    storage.write = (offset, source) => (offset >= failAt ? Promise.reject(new Error('full')) : write(offset, source));
    return storage;
  };
  return provider;
}

describe('a raw image', () => {
  it('has its bytes where the file has them', async () => {
    const image = await opened(4096);
    expect(image.info).toMatchObject({
      virtualSize: 4096,
      type: 'hdd',
      sectorSize: 512,
      differencing: false,
      uuid: null,
    });
    expect(mapped(image, 512, 4096 - 512)).toMatchObject({
      kind: 'data',
      fileOffset: 512,
      length: 3584,
      writable: false,
    });
    await image.close();
  });

  it('is writable in place when it was opened for writing', async () => {
    const image = await opened(4096, 'write');
    expect(image.can).toMatchObject({ write: true, readOnlyReason: null, allocate: false, zeroMarker: false });
    expect(mapped(image, 0, 512)).toMatchObject({ kind: 'data', writable: true });
    await image.close();
  });

  it('reads zeroes behind a part of a sector, and loses no byte of it', async () => {
    const provider = await providerWith(new Uint8Array(1000).fill(7));
    const disk = await openDisk({ provider, name: NAME }, { format: 'raw', type: 'hdd' });
    expect(disk.size).toBe(1024);
    const bytes = new Uint8Array(1024).fill(1);
    await disk.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(1024).fill(7, 0, 1000));
    await disk.close();
  });

  it('with a part of a sector opens for reading only', async () => {
    const image = await opened(1000, 'write');
    expect(image.can).toMatchObject({ write: false, readOnlyReason: 'its size is not a multiple of 512 bytes' });
    expect(image.info.warnings).toEqual([expect.stringContaining('not a multiple of 512')]);
    expect(mapped(image, 0, 1024)).toMatchObject({ kind: 'data', length: 1000, writable: false });
    expect(mapped(image, 1000, 24)).toEqual({ kind: 'zero', length: 24 });
    await image.close();
  });

  it('keeps its size when the file grows', async () => {
    const provider = await providerWith(new Uint8Array(1024));
    const image = await openWith(raw, { provider, name: NAME }, { mode: 'read' });
    const file = await provider.open(NAME, 'write');
    await file.resize(4096);
    expect(image.info.virtualSize).toBe(1024);
    await image.close();
  });

  it('grows with zeroes and shrinks, and asks before it gives data up', async () => {
    const provider = await providerWith(new Uint8Array(4096).fill(7));
    const place = { provider, name: NAME };
    const open = () => openDisk(place, { mode: 'write', format: 'raw', flushAfterMs: 0 });
    {
      await using disk = await open();
      await disk.resize(3 * MIB);
      expect(disk.size).toBe(3 * MIB);
      const bytes = new Uint8Array(3 * MIB).fill(1);
      await disk.read(0, bytes);
      expectSameBytes(bytes, new Uint8Array(3 * MIB).fill(7, 0, 4096), 'the longer disk');
      await disk.write(3 * MIB - 512, new Uint8Array(512).fill(9));
    }
    expect((await provider.lookUp(NAME))?.size).toBe(3 * MIB);
    await using disk = await open();
    await expect(disk.resize(MIB)).rejects.toMatchObject({
      kind: 'unsupported',
      context: { guestOffset: 3 * MIB - 65_536 },
    });
    await disk.write(3 * MIB - 512, new Uint8Array(512));
    await disk.resize(MIB);
    await expect(disk.resize(2048)).rejects.toMatchObject({ status: 'VERR_VD_SHRINK_NOT_SUPPORTED' });
    await disk.resize(2048, { shrink: true });
    expect((await provider.lookUp(NAME))?.size).toBe(2048);
    await expect(disk.resize(1000)).rejects.toMatchObject({ kind: 'invalid-argument' });
    const bytes = new Uint8Array(2048);
    await disk.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(2048).fill(7));
  });

  it('reads no zeroes where a cut that failed took data away', async () => {
    const memory = await providerWith(new Uint8Array(4096).fill(7));
    const provider = new FaultProvider(memory, { fail: { flush: 1 } });
    const disk = await openDisk({ provider, name: NAME }, { mode: 'write', format: 'raw', flushAfterMs: 0 });
    await expectKind(() => disk.resize(2048, { shrink: true }), 'io');
    const bytes = new Uint8Array(2048);
    await disk.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(2048).fill(7));
    // The file is shorter already, the disk is not.
    expect(disk.size).toBe(4096);
    await expectKind(() => disk.read(2048, new Uint8Array(512)), 'io');
    await expectKind(() => disk.read(0, new Uint8Array(4096)), 'io');
    await expectKind(() => disk.write(2048, new Uint8Array(512)), 'io');
    await expectKind(() => disk.close(), 'io');
  });

  it('grows below an image that is committed, durably and before any data', async () => {
    const provider = await providerWith(new Uint8Array(4096).fill(7));
    const child = { provider, name: '/child.qcow2' };
    const options = { allow: ['same-directory'], mode: 'write', flushAfterMs: 0 } as const;
    await createImage(child, { format: 'qcow2', parent: NAME, parentFormat: 'raw', size: MIB, provider });
    await using disk = await openDisk(child, options);
    await disk.write(2048, new Uint8Array(4096).fill(8));
    const log: string[] = [];
    const reopen = provider.open.bind(provider);
    provider.open = async (name, mode) => {
      const storage: Storage = await reopen(name, mode);
      if (name !== NAME || mode !== 'write') return storage;
      const { resize, write, flush } = storage;
      storage.resize = (...given) => {
        log.push('resize');
        return resize.apply(storage, given);
      };
      storage.write = (...given) => {
        log.push('write');
        return write.apply(storage, given);
      };
      storage.flush = (...given) => {
        log.push('flush');
        return flush.apply(storage, given);
      };
      return storage;
    };
    await disk.commit();
    expect(log.slice(0, 3)).toEqual(['resize', 'flush', 'write']);
    const base = await reopen(NAME, 'read');
    const bytes = new Uint8Array(base.size);
    await base.read(0, bytes);
    await base.close();
    expectSameBytes(bytes, new Uint8Array(MIB).fill(7, 0, 2048).fill(8, 2048, 6144), 'the base');
  });

  it('says that it can discard and be resized', () => {
    expect(raw.capabilities).toMatchObject({ discard: true, resize: true, compact: false });
  });

  it('refuses writes after a flush that failed', async () => {
    const image = await opened(1024, 'write');
    const [storage] = image.storages();
    if (storage === undefined) throw new Error('a raw image is one file');
    storage.flush = () => Promise.reject(new Error('the cable came off'));
    await expect(flushImage(image, { skipStorageFlush: false })).rejects.toThrow('cable');
    expect(mapped(image, 0, 512)).toMatchObject({ writable: false });
    await expect(flushImage(image, { skipStorageFlush: false })).rejects.toMatchObject({ kind: 'io' });
    await image.close();
  });

  it.each<[number, MediumType, string]>([
    [2048 * 17 + 512, 'optical', 'VERR_VD_RAW_SIZE_MODULO_2048'],
    [32_768, 'optical', 'VERR_VD_RAW_SIZE_OPTICAL_TOO_SMALL'],
    [FLOPPY_MAX + 512, 'floppy', 'VERR_VD_RAW_SIZE_FLOPPY_TOO_BIG'],
  ])('of %i bytes is no %s', async (size, type, status) => {
    await expect(opened(size, 'read', type)).rejects.toMatchObject({ kind: 'invalid-format', status });
  });

  it.each<[number, MediumType, number]>([
    [32_768 + 2048, 'optical', 2048],
    [FLOPPY_MAX, 'floppy', 512],
  ])('of %i bytes can be an %s', async (size, type, sectorSize) => {
    const image = await opened(size, 'read', type);
    expect(image.info).toMatchObject({
      type,
      sectorSize,
      regions: { regions: [{ length: size, blockSize: sectorSize }] },
    });
    await image.close();
  });

  it.each([
    [512, 20 * 2048, 512],
    [100, 20 * 2048, 512],
    [2048 - 100, 21 * 2048, 0],
  ])('of a disc with %i bytes behind it keeps them', async (more, whole, rest) => {
    const bytes = new Uint8Array(20 * 2048 + more).fill(7, 20 * 2048);
    bytes.set([1, ...new TextEncoder().encode('CD001')], 32_768);
    bytes.set([255, ...new TextEncoder().encode('CD001')], 34_816);
    for (const type of [undefined, 'optical'] as const) {
      const image = await openWith(raw, { provider: await providerWith(bytes), name: NAME }, { mode: 'read', type });
      const { info } = image;
      expect(info).toMatchObject({ type: 'optical', sectorSize: 2048, virtualSize: whole + rest });
      checkRegions(info.regions);
      expect(info.regions.regions.map(({ length }) => length)).toEqual(rest === 0 ? [whole] : [whole, rest]);
      await image.close();
    }
  });

  it('closes the file when opening fails', async () => {
    const provider = await providerWith(new Uint8Array(32_768));
    let closed = 0;
    const open = provider.open.bind(provider);
    provider.open = async (name, mode) => {
      const storage: Storage = await open(name, mode);
      const close = storage.close.bind(storage);
      storage.close = () => {
        closed++;
        return close();
      };
      return storage;
    };
    const optical = openWith(raw, { provider, name: NAME }, { mode: 'read', type: 'optical' });
    await expect(optical).rejects.toThrow('not an image of an optical disc');
    expect(closed).toBe(1);
  });
});

describe('the kind of medium', () => {
  function answer(name: string, size: number, ...sectors: [number, string][]): string {
    const head = new Uint8Array(Math.min(size, 65_536));
    for (const [type, id] of sectors) {
      const at = 32_768 + sectors.findIndex((sector) => sector[0] === type && sector[1] === id) * 2048;
      head.set([type, ...new TextEncoder().encode(id)], at);
    }
    const input: ProbeInput = { name, size, head, tail: head.subarray(-1024) };
    const { match, type } = raw.probe(input);
    return `${match} ${type}`;
  }
  const ISO: [number, string][] = [
    [1, 'CD001'],
    [2, 'CD001'],
    [255, 'CD001'],
  ];
  const UDF: [number, string][] = [
    [0, 'BEA01'],
    [0, 'NSR03'],
    [0, 'TEA01'],
  ];

  it.each<[string, string, number, [number, string][], string]>([
    ['an ISO 9660 disc by any name', 'x.bin', 700 * MIB, ISO, 'maybe optical'],
    ['an ISO 9660 disc named like a floppy', 'x.img', MIB, ISO, 'maybe optical'],
    ['a UDF disc', 'x', MIB, UDF, 'maybe optical'],
    ['a bridge disc', 'x', MIB, [...ISO, ...UDF], 'maybe optical'],
    [
      'a boot record before the primary',
      'x',
      MIB,
      [
        [0, 'CD001'],
        [1, 'CD001'],
        [255, 'CD001'],
      ],
      'maybe optical',
    ],
    [
      'no primary descriptor',
      'x',
      MIB,
      [
        [2, 'CD001'],
        [255, 'CD001'],
      ],
      'maybe hdd',
    ],
    ['no terminator', 'x', MIB, [[1, 'CD001']], 'maybe hdd'],
    [
      'UDF without its volume',
      'x',
      MIB,
      [
        [0, 'BEA01'],
        [0, 'TEA01'],
      ],
      'maybe hdd',
    ],
    [
      'UDF that does not begin',
      'x',
      MIB,
      [
        [0, 'NSR02'],
        [0, 'TEA01'],
      ],
      'maybe hdd',
    ],
    ['ISO 9660 in a file of half sectors', 'x', MIB + 512, ISO, 'maybe optical'],
    ['the name .iso', 'a/x.ISO', MIB, [], 'maybe optical'],
    ['the name .cdr', 'x.cdr', 32_768 + 2048, [], 'maybe optical'],
    ['the name .iso on too small a file', 'x.iso', 32_768, [], 'maybe hdd'],
    ['the name .iso on half sectors', 'x.iso', MIB + 512, [], 'maybe hdd'],
    ['the name .img', 'x.img', 1440 * 1024, [], 'maybe floppy'],
    ['the largest floppy', 'x.vfd', FLOPPY_MAX, [], 'maybe floppy'],
    ['more than the largest floppy', 'x.vfd', FLOPPY_MAX + 512, [], 'maybe hdd'],
    ['no name that helps', 'x.raw', MIB, [], 'maybe hdd'],
    ['an empty file', 'x.iso', 0, [], 'no undefined'],
  ])('%s', (_what, name, size, sectors, expected) => {
    expect(answer(name, size, ...sectors)).toBe(expected);
  });
});

describe('making a raw image', () => {
  it('takes no room unless it is fixed', async () => {
    const provider = limited(0);
    const image = await create(provider);
    expect(image.info.virtualSize).toBe(MIB);
    expect(image.can.write).toBe(true);
    const [storage] = image.storages();
    expect((await storage?.identity())?.allocatedSize).toBe(0);
    await image.close();
  });

  it('takes all room by writing when it is fixed, and tells how far it is', async () => {
    const progress: Progress[] = [];
    const size = 2 * MIB + 512;
    const options = { size, variant: ['fixed'], onProgress: (one: Progress) => progress.push(one) };
    const image = await create(limited(4 * MIB), options);
    expect(image.storages()[0]?.size).toBe(size);
    expect(progress.map(({ done }) => done)).toEqual([MIB, 2 * MIB, size]);
    expect(progress[0]).toEqual({ operation: 'create', done: MIB, total: size });
    await image.close();
  });

  it('reserves room where the platform can, piece by piece', async () => {
    const provider = new MemoryProvider();
    const reserved: [number, number][] = [];
    const make = provider.create.bind(provider);
    provider.create = async (...given) => {
      const storage: Storage = await make(...given);
      storage.write = () => Promise.reject(new Error('nothing needs writing'));
      storage.allocate = (offset, length) => {
        reserved.push([offset, length]);
        return Promise.resolve();
      };
      return storage;
    };
    const image = await create(provider, { size: 300 * MIB, variant: ['fixed'] });
    expect(reserved).toEqual([
      [0, 256 * MIB],
      [256 * MIB, 44 * MIB],
    ]);
    expect(image.storages()[0]?.size).toBe(300 * MIB);
    await image.close();
  });

  it('refuses what cannot fit before it makes anything', async () => {
    const provider = limited(MIB - 1);
    await expect(create(provider, { variant: ['fixed'] })).rejects.toMatchObject({
      kind: 'no-space',
      status: 'VERR_DISK_FULL',
      context: { found: `${MIB - 1} bytes free`, expected: `${MIB} bytes` },
    });
    expect(await provider.lookUp(NAME)).toBeNull();
    await (await create(limited(MIB), { variant: ['fixed'] })).close();
  });

  it('leaves nothing behind when it fails or is cancelled', async () => {
    const full = limited(null, MIB);
    await expect(create(full, { size: 2 * MIB, variant: ['fixed'] })).rejects.toThrow('full');
    expect(await full.lookUp(NAME)).toBeNull();

    const cancelled = limited(null);
    const control = new AbortController();
    const options = { size: 4 * MIB, variant: ['fixed'], signal: control.signal, onProgress: () => control.abort() };
    await expect(create(cancelled, options)).rejects.toMatchObject({ kind: 'aborted' });
    expect(await cancelled.lookUp(NAME)).toBeNull();
  });

  it('never touches a file that is there', async () => {
    const provider = await providerWith(new Uint8Array(512));
    await expect(create(provider)).rejects.toMatchObject({ kind: 'exists' });
    expect(await provider.lookUp(NAME)).toMatchObject({ size: 512 });
  });

  it.each<[Partial<FormatCreateOptions>, string]>([
    [{ size: 513 }, 'invalid-argument'],
    [{ size: -512 }, 'invalid-argument'],
    [{ size: 2 ** 53 }, 'invalid-argument'],
    [{ size: Number.NaN }, 'invalid-argument'],
    [{ size: 32_768, type: 'optical' }, 'invalid-argument'],
    [{ size: MIB + 512, type: 'optical' }, 'invalid-argument'],
    [{ size: FLOPPY_MAX + 512, type: 'floppy' }, 'invalid-argument'],
    [{ variant: ['fixed', 'sparse'] }, 'invalid-argument'],
    [{ comment: 'hello' }, 'unsupported'],
    [{ uuid: '01234567-89ab-cdef-0123-456789abcdef' }, 'unsupported'],
  ])('refuses %j', async (options, kind) => {
    const provider = new MemoryProvider();
    await expect(create(provider, options)).rejects.toMatchObject({ kind });
    expect(await provider.lookUp(NAME)).toBeNull();
  });

  it('plans without touching anything', async () => {
    expect(await raw.plan?.({ size: MIB, variant: [] })).toEqual({ virtualSize: MIB, preallocates: 0 });
    expect(await raw.plan?.({ size: MIB, variant: ['fixed'] })).toEqual({ virtualSize: MIB, preallocates: MIB });
    expect((await raw.plan?.({ size: 32_768 + 2048, variant: [], type: 'optical' }))?.virtualSize).toBe(34_816);
  });
});
