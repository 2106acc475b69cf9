/**
 * Quirks of the reference that concern its functions (its list, 16.3), and what its callers rely on (16.4). Those of
 * filters, caches and plugins come with what they are about.
 */
import { describe, expect, it } from 'vitest';
import { probeFormat } from '../../src/image/probe.ts';
import {
  copyImage,
  createImage,
  Disk,
  defaultRegistry,
  inspect,
  isImageError,
  removeImage,
  renameImage,
  setImage,
} from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { FaultProvider } from '../../src/testing/fault-storage.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { fileBytes } from '../model/extents.ts';
import { DIFFING, FIXED, GROWING, LARGE, LINKED, pairsInTurn, STAMPED_PAIRS, WITH_UUID, WRITABLE } from './formats.ts';
import { MIB, ShadowedDisk } from './shadowed-disk.ts';

const SIZE = 4 * MIB;

describe('a format that there is not', () => {
  it('21: is VERR_NOT_FOUND, with a message and the nearest name as a hint', async () => {
    const source = { provider: new MemoryProvider(), name: '/image' };
    for (const { name } of WRITABLE) {
      // Its first letter twice, which must not be as near to another format.
      const format = `${name[0]}${name}`;
      await createImage(source, { format: name, size: MIB });
      await using disk = await Disk.open(source, { format: name });
      const target = { ...source, name: '/other' };
      for (const attempt of [
        () => Disk.open(source, { format }),
        () => Disk.create(target, { format, size: MIB }),
        () => createImage(target, { format, size: MIB }),
        () => copyImage(disk, 0, target, { format }),
        () => inspect(source, { format }),
      ]) {
        await expect(attempt()).rejects.toMatchObject({
          kind: 'not-found',
          status: 'VERR_NOT_FOUND',
          message: expect.stringContaining(format),
          hint: expect.stringContaining(`Did you mean ${name}?`),
        });
      }
      await disk.close();
      await removeImage(source, { format: name });
    }
  });
});

describe.each(WRITABLE)('statuses: $name', (format) => {
  it('22: a disk that is closed answers VERR_VD_NOT_OPENED to everything', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 222, size: SIZE });
    const { disk: closed } = disk;
    await closed.close();
    for (const request of [
      () => closed.read(0, new Uint8Array(512)),
      () => closed.write(0, new Uint8Array(512)),
      () => closed.zero(0, 512),
      () => closed.discard([{ offset: 0, length: 512 }]),
      () => closed.flush(),
      () => closed.merge(0, 'last'),
      () => closed.closeLast(),
      () => closed.createDiff(disk.at('/1')),
    ]) {
      await expect(request()).rejects.toMatchObject({ kind: 'invalid-argument', status: 'VERR_VD_NOT_OPENED' });
    }
  });

  it('are those of vd.h', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 223, size: SIZE });
    const { name } = format;
    const noImage = ['invalid-argument', 'VERR_VD_IMAGE_NOT_FOUND'];
    const target = disk.at('/new');
    for (const [[kind, status], attempt] of [
      [noImage, () => disk.disk.merge(0, 1)],
      [noImage, () => disk.disk.set(1, { comment: 'none' })],
      [noImage, () => copyImage(disk.disk, 1, target, { format: name })],
      [['invalid-argument', 'VERR_INVALID_PARAMETER'], () => disk.disk.merge(0, 0)],
      [['invalid-argument', 'VERR_VD_INVALID_SIZE'], () => createImage(target, { format: name, size: 513 })],
      [
        ['invalid-argument', 'VERR_VD_UNKNOWN_CFG_VALUES'],
        () => createImage(target, { format: name, size: MIB, config: { Colour: 'red' } }),
      ],
      [['exists', 'VERR_ALREADY_EXISTS'], () => createImage(disk.at('/0'), { format: name, size: MIB })],
      [['not-found', 'VERR_FILE_NOT_FOUND'], () => Disk.open(target, { format: name })],
      [['out-of-bounds', 'VERR_INVALID_PARAMETER'], () => disk.disk.read(SIZE, new Uint8Array(1))],
      [['locked', 'VERR_SHARING_VIOLATION'], () => Disk.open(disk.at('/0'), { format: name, mode: 'write' })],
      [
        ['aborted', 'VERR_CANCELLED'],
        () => createImage(target, { format: name, size: MIB, signal: AbortSignal.abort() }),
      ],
    ] as const) {
      await expect(attempt(), `${attempt}`).rejects.toMatchObject({ kind, status });
    }
    await disk.reopen({ mode: 'read' });
    const readOnly = { kind: 'read-only', status: 'VERR_VD_IMAGE_READ_ONLY' };
    await expect(disk.disk.write(0, new Uint8Array(512))).rejects.toMatchObject(readOnly);
    await expect(disk.disk.merge(0, 'last')).rejects.toMatchObject(readOnly);
    await disk.disk.close();
  });

  it('33: an image that does not open gives its file back, whatever went wrong', async () => {
    const memory = new MemoryProvider();
    const provider = new FaultProvider(memory);
    const source = { provider, name: '/image' };
    await createImage(source, { format: format.name, size: SIZE });
    for (let read = 0; ; read++) {
      provider.plan({ fail: { read } });
      const opening = Disk.open(source, { format: format.name, mode: 'write' });
      const failed = await opening.then(
        (disk) => disk.close(),
        (error: unknown) => error,
      );
      const { fired } = provider;
      provider.plan({});
      expect((await inspect(source, { format: format.name })).lock.held).toBe('none');
      if (!fired) {
        expect(read).toBeGreaterThan(1);
        break;
      }
      expect(isImageError(failed)).toBe(true);
    }
  });
});

describe.each(GROWING)('options: $name', (format) => {
  it('23: stay as they were when the chain becomes another one', async () => {
    const how = { honourZeroes: true, ignoreFlush: true };
    const layer = { format, block: MIB };
    const disk = await ShadowedDisk.make(layer, { seed: 224, size: SIZE, open: how });
    /** True when zeroes take space in the last image. */
    const honours = async (offset: number): Promise<boolean> => {
      const before = await disk.stored();
      await disk.write(offset, new Uint8Array(disk.disk.blockSize));
      return (await disk.stored()) > before;
    };
    expect(await honours(0)).toBe(true);
    if (format.capabilities.diff) {
      await disk.stack(layer);
      expect(await honours(MIB)).toBe(true);
      await disk.stack(layer);
      await disk.disk.merge(1, 2);
      expect(await honours(2 * MIB)).toBe(true);
      await disk.disk.closeLast({ remove: true });
      disk.shadow.zero(0, SIZE);
      expect(await honours(3 * MIB)).toBe(true);
    }
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(WITH_UUID)('geometry: $name', (format) => {
  it('25: follows a resize, and has the same bounds for every caller', async () => {
    const provider = new MemoryProvider();
    const source = { provider, name: '/image' };
    const physical = { cylinders: 8, heads: 16, sectors: 63 };
    const logical = { cylinders: 4, heads: 255, sectors: 63 };
    const size = 64 * MIB;
    await createImage(source, { format: format.name, size, geometry: { physical, logical } });
    const stored = (await inspect(source)).geometry;
    // A format has a place for both, or says that it has not.
    for (const [given, found] of [
      [physical, stored.physical],
      [logical, stored.logical],
    ]) {
      if (found !== null) expect(found).toEqual(given);
    }
    for (const geometry of [
      { physical: { ...physical, heads: 255 } },
      { logical: { ...logical, sectors: 64 } },
      { logical: { ...logical, heads: 256 } },
    ]) {
      const options = { format: format.name, size: MIB, geometry };
      await expectKind(() => createImage({ provider, name: '/other' }, options), 'invalid-argument', 'unsupported');
      await expectKind(() => setImage(source, { geometry }), 'invalid-argument', 'unsupported');
    }
    if (!format.capabilities.resize) return;
    await using disk = await Disk.open(source, { mode: 'write' });
    await disk.resize(2 * size);
    const [image] = disk.images;
    for (const found of [image?.info.geometry.physical, image?.info.geometry.logical]) {
      if (found === null || found === undefined) continue;
      expect(found.cylinders).toBe(Math.floor((2 * size) / 512 / found.heads / found.sectors));
    }
    await disk.close();
    expect((await inspect(source)).geometry).toEqual(image?.info.geometry);
  });
});

describe.each(LINKED)('renaming: $title', ({ lower, upper }) => {
  it('26: shows in the names of the chain, and its children find the parent under its new name', async () => {
    const disk = await ShadowedDisk.chain([{ format: lower }, { format: upper }], { seed: 226, size: SIZE });
    await disk.disk.close();
    // Children that store a name get another one; those that know a UUID alone would lose their parent.
    const byUuid = (await inspect(disk.at('/1'))).parentName === null;
    if (byUuid) await expectKind(() => renameImage(disk.at('/0'), '/renamed'), 'busy');
    const { warnings } = await renameImage(disk.at('/0'), '/renamed', { force: byUuid });
    expect(warnings).toHaveLength(1);
    await renameImage(disk.at('/1'), '/child');
    await using again = await Disk.open(disk.at('/child'), { allow: ['same-directory'] });
    expect(again.images.map(({ name }) => name)).toEqual(['/renamed', '/child']);
    await disk.verify(again);
  });
});

describe.each(DIFFING)('creating: $name', (format) => {
  it('34: refuses variants that contradict each other, and leaves the chain as it was', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 234, size: SIZE });
    await disk.scatter(2);
    const target = disk.at('/new');
    const { name } = format;
    const wrong = 'invalid-argument';
    if (FIXED.includes(format)) {
      await expectKind(() => disk.stack({ format, variant: ['fixed'] }), wrong);
      const fixed = { format: name, parent: disk.at('/0'), variant: ['fixed'], lock: false };
      await expectKind(() => createImage(target, fixed), wrong);
    }
    await expectKind(() => disk.stack({ format, variant: ['no-such-variant'] }), wrong);
    await expectKind(() => createImage(target, { format: name, size: MIB, variant: ['diff'] }), wrong);
    await expectKind(() => createImage(target, { format: name }), wrong);
    await expectKind(() => createImage(target, { format: name, size: MIB + 1 }), wrong);
    await expectKind(() => disk.disk.createDiff(disk.at('/0'), { format: name, force: true }), 'exists');
    expect(await disk.files()).toEqual(['/0']);
    expect(disk.disk.can.write).toBe(true);
    await disk.scatter(2);
    await disk.verifyTwice();
    await disk.disk.close();
  });
});

describe.each(STAMPED_PAIRS)('identities: $title', ({ lower, upper }) => {
  const layers = [{ format: lower }, { format: upper }, { format: upper }];
  const info = (disk: ShadowedDisk, number: number) => {
    const image = disk.disk.images[number];
    if (image === undefined) throw new Error('internal: the image is there');
    return image.info;
  };

  it.each([
    ['forward', 0, 1],
    ['backward', 1, 0],
  ])('36, 38: after a merge %s the target has a new modification UUID, which its child knows', async (_, from, to) => {
    const disk = await ShadowedDisk.chain(layers, { seed: 236, size: SIZE });
    await disk.disk.flush();
    const [target, last] = [info(disk, to), info(disk, 2)];
    await disk.disk.merge(from, to);
    expect(info(disk, 0).uuid).toBe(target.uuid);
    expect(info(disk, 0).modificationUuid).not.toBe(target.modificationUuid);
    expect([info(disk, 0).parentUuid, info(disk, 0).parentModificationUuid]).toEqual([null, null]);
    const { parentUuid, parentModificationUuid, modificationUuid } = info(disk, 1);
    expect([parentUuid, parentModificationUuid]).toEqual([info(disk, 0).uuid, info(disk, 0).modificationUuid]);
    // The last image was not written.
    expect(modificationUuid).toBe(last.modificationUuid);
    await disk.reopen({ linkage: 'strict' });
    expect(disk.disk.warnings).toEqual([]);
    await disk.verify();
    await disk.disk.close();
  });

  it('38: belong to each image by itself, and a child knows that of its parent', async () => {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 238, size: SIZE });
    // Not flushed: the child must know what the parent will have.
    await disk.write(0, disk.bytes(512));
    await disk.stack({ format: upper });
    const base = info(disk, 0);
    expect(info(disk, 1).parentModificationUuid).toBe(base.modificationUuid);
    const created = info(disk, 1).modificationUuid;
    await disk.write(0, disk.bytes(512));
    await disk.disk.flush();
    expect(info(disk, 0).modificationUuid).toBe(base.modificationUuid);
    expect(info(disk, 1).modificationUuid).not.toBe(created);
    await disk.disk.closeLast({ remove: true });
    expect(info(disk, 0).modificationUuid).toBe(base.modificationUuid);
    await disk.disk.write(0, disk.bytes(512));
    expect(info(disk, 0).modificationUuid).not.toBe(base.modificationUuid);
    await disk.disk.close();
  });

  it('38: change with a discard and with a resize', async () => {
    const disk = await ShadowedDisk.chain(layers, { seed: 239, size: SIZE });
    await disk.write(0, disk.bytes(MIB));
    const changes: (() => Promise<void>)[] = [
      ...(disk.disk.can.discard ? [() => disk.discard([{ offset: 0, length: MIB }])] : []),
      ...(upper.capabilities.resize ? [() => disk.resize(2 * SIZE)] : []),
    ];
    for (const change of changes) {
      await disk.reopen();
      const before = info(disk, 2);
      await change();
      await disk.disk.flush();
      expect(info(disk, 2).modificationUuid).not.toBe(before.modificationUuid);
    }
    await disk.disk.close();
  });

  it('are copied: the modification UUID and the comment, but not the UUID', async () => {
    const disk = await ShadowedDisk.chain(layers, { seed: 242, size: SIZE });
    const comment = 'of the mail server';
    // Not every format has a place for a comment.
    await disk.disk.set(2, { comment }).catch((error) => expectKind(() => Promise.reject(error), 'unsupported'));
    const target = disk.at('/copy');
    await copyImage(disk.disk, 'last', target, { format: upper.name });
    const [own, copy] = [info(disk, 2), await inspect(target)];
    expect(copy).toMatchObject({ modificationUuid: own.modificationUuid, comment: own.comment, parentUuid: null });
    expect(copy.uuid).not.toBe(own.uuid);
    await disk.disk.close();
  });
});

describe.each(pairsInTurn(5))('closing: $title', ({ lower, upper }) => {
  it('39: flushes, and says so when that fails', async () => {
    for (const end of ['close', 'closeLast'] as const) {
      const provider = new FaultProvider(new MemoryProvider());
      const layers = [{ format: lower }, { format: upper }];
      const disk = await ShadowedDisk.chain(layers, { seed: 243, size: SIZE, provider });
      provider.plan({ fail: { flush: 0 } });
      await expectKind(() => disk.disk[end](), 'io');
      expect(provider.fired).toBe(true);
      if (end === 'closeLast') {
        // It is still there; only what was not flushed is lost.
        expect(disk.names).toEqual(['/0', '/1']);
        await expectKind(() => disk.disk.close(), 'io');
      }
      provider.plan({});
      for (const name of ['/0', '/1']) expect((await inspect(disk.at(name))).lock.held).toBe('none');
    }
  });

  it('numbers are places in the chain, whatever was merged or closed before', async () => {
    const layers = [lower, upper, upper, upper, upper].map((format) => ({ format }));
    const disk = await ShadowedDisk.chain(layers, { seed: 244, size: SIZE });
    await disk.disk.merge(2, 1);
    expect(disk.names).toEqual(['/0', '/1', '/3', '/4']);
    await disk.disk.merge(1, 2);
    expect(disk.names).toEqual(['/0', '/3', '/4']);
    await disk.disk.closeLast();
    expect(disk.names).toEqual(['/0', '/3']);
    await disk.disk.merge('last', 0, { force: true });
    expect(disk.names).toEqual(['/0']);
    // What was closed is still there, what was merged is not.
    expect(await disk.files()).toEqual(['/0', '/4']);
    await disk.disk.close();
  });
});

describe.each(WRITABLE)('recognising: $name', (format) => {
  it('yields the format also of an image that cannot be opened', async () => {
    const provider = new MemoryProvider();
    const source = { provider, name: '/image' };
    await createImage(source, { format: format.name, size: LARGE });
    const whole = await fileBytes(source);
    const head = whole.subarray(0, 1024);
    const outcome = probeFormat({ name: '/image', size: head.length, head, tail: head }, defaultRegistry());
    expect(outcome.format.name).toBe(format.name);
  });
});

describe('what is recognised', () => {
  it('is no missing and no empty file', async () => {
    const provider = new MemoryProvider();
    const missing = { provider, name: '/missing.vdi' };
    await expect(inspect(missing)).rejects.toMatchObject({ kind: 'not-found', status: 'VERR_FILE_NOT_FOUND' });
    await (await provider.create('/empty')).close();
    await expectKind(() => inspect({ provider, name: '/empty' }), 'invalid-format');
  });
});
