import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { fill, KINDS, type Kind, Place } from '../../../test/conformance/place.ts';
import { checkImage, createImage, Disk, inspect } from '../../index.ts';

interface Sizes {
  readonly base?: number;
  readonly middle?: number;
  readonly own?: number;
}

/** A base, a child, and a grandchild. */
async function family({ format, config, unit }: Kind, sizes: Sizes = {}) {
  const place = new Place(format, config);
  const size = unit * 30;
  const u = (n: number): number => n * unit;
  await place.make('/base', sizes.base ?? size, [fill(u(1), u(4), 1), fill(u(20), u(2), 2)]);
  await place.make('/middle', sizes.middle ?? size, [fill(u(3), u(4), 3), fill(u(20), u(1), 0)], '/base');
  const own = [fill(u(2), u(2), 4), fill(u(10), 512, 5), fill(u(4), u(1), 0), fill(u(29) - 512, 512, 6)];
  await place.make('/own', sizes.own ?? size, own, '/middle');
  return { place, u };
}

async function fileSize(place: Place, name: string): Promise<number> {
  return (await inspect(place.at(name))).fileSize;
}

async function expectSound(place: Place, ...names: string[]): Promise<void> {
  for (const name of names) {
    const { findings } = await checkImage(place.at(name));
    expect(findings, name).toEqual([]);
  }
}

describe.each(KINDS)('committing, $name', (kind) => {
  it('stores what it holds in its parent, and is empty then', async () => {
    const { place } = await family(kind);
    const before = await place.content('/own');
    {
      await using disk = await place.open('/own');
      await disk.commit();
      const bytes = new Uint8Array(disk.size);
      await disk.read(0, bytes);
      expect(before.equals(bytes)).toBe(true);
      expect(disk.images.map(({ name, mode }) => [name, mode])).toEqual([
        ['/base', 'read'],
        ['/middle', 'read'],
        ['/own', 'write'],
      ]);
    }
    expect(before.equals(await place.content('/middle'))).toBe(true);
    expect(before.equals(await place.content('/own'))).toBe(true);
    expect(await place.bytesHeld('/own')).toBe(0);
    await place.make('/empty', before.length, [], '/middle');
    expect(await fileSize(place, '/own')).toBe((await fileSize(place, '/empty')) + (kind.keeps ?? 0));
    await place.provider.remove('/empty');
    await expectSound(place, '/base', '/middle', '/own');
    // And it takes what comes.
    await using disk = await place.open('/own');
    expect(disk.warnings).toEqual([]);
    await disk.write(kind.unit, new Uint8Array(512).fill(9));
    await disk.commit();
    await disk.close();
    before.fill(9, kind.unit, kind.unit + 512);
    expect(before.equals(await place.content('/middle'))).toBe(true);
  });

  it('keeps what it holds when it is told to', async () => {
    const { place } = await family(kind);
    const before = await place.content('/own');
    const held = await place.bytesHeld('/own');
    {
      await using disk = await place.open('/own');
      await disk.commit({ keep: true });
    }
    expect(await place.bytesHeld('/own')).toBe(held);
    expect(before.equals(await place.content('/middle'))).toBe(true);
    expect(before.equals(await place.content('/own'))).toBe(true);
  });

  it('goes through several images, and leaves those between', async () => {
    for (const keep of [false, true]) {
      const { place } = await family(kind);
      const before = await place.content('/own');
      {
        await using disk = await place.open('/own');
        await disk.commit({ base: 0, keep });
        expect(disk.images.map(({ name }) => name)).toEqual(['/base', '/own']);
        const bytes = new Uint8Array(disk.size);
        await disk.read(0, bytes);
        expect(before.equals(bytes)).toBe(true);
      }
      await place.provider.remove('/middle');
      expect(before.equals(await place.content('/base'))).toBe(true);
      expect(before.equals(await place.content('/own'))).toBe(true);
      await expectSound(place, '/base', '/own');
    }
  });

  it.each<[string, Sizes]>([
    ['a smaller parent grows', { base: kind.unit * 23, middle: kind.unit * 25 }],
    ['a larger parent keeps its size', { middle: kind.unit * 40, base: kind.unit * 50 }],
    ['ends inside of units', { base: kind.unit * 28 + 1024, middle: kind.unit * 29 + 512, own: kind.unit * 30 + 1536 }],
  ])('%s', async (_what, sizes) => {
    for (const base of [1, 0]) {
      const { place } = await family(kind, sizes);
      const before = await place.content('/own');
      {
        await using disk = await place.open('/own');
        await disk.commit({ base });
      }
      expect(before.equals(await place.content('/own'))).toBe(true);
      const target = await place.content(base === 0 ? '/base' : '/middle');
      expect(target.length).toBe(Math.max(before.length, (base === 0 ? sizes.base : sizes.middle) ?? 0));
      expect(before.equals(target.subarray(0, before.length))).toBe(true);
      await expectSound(place, '/base', '/own');
    }
  });

  it('leaves all as it reads when it is cancelled, and can be run again', async () => {
    const { place } = await family(kind);
    const before = await place.content('/own');
    const stop = new AbortController();
    await using disk = await place.open('/own');
    await expectKind(() => disk.commit({ signal: stop.signal, onProgress: () => stop.abort() }), 'aborted');
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    expect(before.equals(bytes)).toBe(true);
    await disk.commit();
    await disk.close();
    expect(before.equals(await place.content('/middle'))).toBe(true);
  });

  it('refuses to change what others are made from', async () => {
    const { place, u } = await family(kind);
    await place.make('/sibling', u(30), [], '/middle');
    await using disk = await place.open('/own');
    await expectKind(() => disk.commit(), 'busy');
    await expectKind(() => disk.commit({ base: 0 }), 'busy');
    await disk.commit({ force: true });
  });

  it('takes no notice of images that are made from the one that is committed', async () => {
    const { place, u } = await family(kind);
    await place.make('/child', u(30), [fill(0, u(1), 8)], '/own');
    const before = await place.content('/child');
    {
      await using disk = await place.open('/own');
      await disk.commit();
    }
    expect(before.equals(await place.content('/child'))).toBe(true);
    // Its link still fits.
    await using disk = await place.open('/child');
    expect(disk.warnings).toEqual([]);
  });

  it('writes that come meanwhile are in it', async () => {
    const { place, u } = await family(kind);
    const before = await place.content('/own');
    await using disk = await place.open('/own');
    const writes: Promise<void>[] = [];
    const committing = disk.commit({
      onProgress: () => void writes.push(disk.write(u(7), new Uint8Array(512).fill(66))),
    });
    await committing;
    await Promise.all(writes);
    await disk.close();
    before.fill(66, u(7), u(7) + 512);
    expect(before.equals(await place.content('/own'))).toBe(true);
  });
});

describe('committing', () => {
  const qcow2 = KINDS[0] as Kind;

  it('is refused where there is nothing below', async () => {
    const { place } = await family(qcow2);
    {
      await using disk = await place.open('/base');
      await expectKind(() => disk.commit(), 'invalid-argument');
    }
    await using top = await place.open('/own');
    for (const base of [2, 3, -1, 0.5]) await expectKind(() => top.commit({ base }), 'invalid-argument');
  });

  it('is refused where the parent has snapshots, or cannot be written', async () => {
    const { place } = await family(qcow2);
    {
      await using disk = await place.open('/base');
      await disk.snapshots.create('one');
    }
    const before = await place.content('/own');
    await using disk = await place.open('/own');
    await expectKind(() => disk.commit({ base: 0 }), 'busy');
    await disk.commit({ base: 0, force: true });
    await disk.snapshots.create('of this image');
    await expectKind(() => disk.commit(), 'busy');
    await disk.snapshots.delete('of this image');
    await disk.close();
    expect(before.equals(await place.content('/own'))).toBe(true);
    await using old = await Disk.open(place.at('/base'), { snapshot: 'one', format: 'qcow2' });
    const first = new Uint8Array(512);
    await old.read(4096, first);
    expect(first[0]).toBe(1);
  });

  it('records in the bitmaps of the parent what it changes', async () => {
    const { place, u } = await family(qcow2);
    {
      await using disk = await place.open('/middle');
      await disk.bitmaps.add('one');
    }
    for (const base of [1, 0]) {
      await using disk = await place.open('/own');
      await disk.write(u(base), new Uint8Array(512).fill(3));
      await disk.commit({ base });
      await disk.close();
      expect((await inspect(place.at('/middle'))).bitmaps).toMatchObject([{ name: 'one', inconsistent: false }]);
    }
  });

  it('goes into an image of another format', async () => {
    const place = new Place('qcow2', {});
    const raw = await place.provider.create('/base.raw');
    await raw.write(0, new Uint8Array(100_000 - (100_000 % 512)).fill(4));
    await raw.close();
    const parent = { parent: place.at('/base.raw'), parentFormat: 'raw' };
    await createImage(place.at('/own'), { format: 'qcow2', ...parent });
    await using disk = await place.open('/own');
    await disk.write(512, new Uint8Array(1024).fill(7));
    await disk.zero(65_536, 4096);
    const before = await new Promise<Buffer>((resolve, reject) => {
      const bytes = new Uint8Array(disk.size);
      disk.read(0, bytes).then(() => resolve(Buffer.from(bytes)), reject);
    });
    await disk.commit();
    await disk.close();
    const storage = await place.provider.open('/base.raw', 'read');
    const bytes = new Uint8Array(storage.size);
    await storage.read(0, bytes);
    expect(before.equals(bytes)).toBe(true);
  });

  it('is for images with data files and compressed clusters, too', async () => {
    const size = 16 * 65_536;
    const place = new Place('qcow2', {});
    const allow = ['/', '/base.data', '/own.data'];
    const open = (name: string) =>
      Disk.open(place.at(name), { mode: 'write', flushAfterMs: 0, allow, format: 'qcow2' });
    for (const [base, own] of [
      [{ data_file: 'base.data' }, {}],
      [{}, { data_file: 'own.data' }],
      [{ data_file: 'base.data' }, { data_file: 'own.data' }],
      [{}, {}],
    ]) {
      await createImage(place.at('/base'), { format: 'qcow2', size, config: base ?? {} });
      const parent = { parent: place.at('/base'), parentFormat: 'qcow2', allow };
      await createImage(place.at('/own'), { format: 'qcow2', ...parent, config: own ?? {} });
      const expected = new Uint8Array(size);
      {
        await using disk = await open('/base');
        await disk.write(0, expected.fill(1, 0, 200_000).subarray(0, 200_000));
      }
      {
        await using disk = await open('/own');
        await disk.write(65_536, expected.fill(2, 65_536, 2 * 65_536).subarray(65_536, 2 * 65_536));
        await disk.zero(2 * 65_536, 65_536);
        expected.fill(0, 2 * 65_536, 3 * 65_536);
        if (disk.compression !== null) {
          const bytes = expected.fill(3, 8 * 65_536, 9 * 65_536).subarray(8 * 65_536, 9 * 65_536);
          await (await disk.compress(8 * 65_536, bytes)).store();
        }
        await disk.commit();
      }
      for (const name of ['/base', '/own']) {
        await using disk = await open(name);
        const bytes = new Uint8Array(size);
        await disk.read(0, bytes);
        expect(Buffer.from(expected).equals(bytes), name).toBe(true);
      }
      await expectSound(place, '/base', '/own');
      for (const name of ['/base', '/own', '/base.data', '/own.data'])
        await place.provider.remove(name).catch(() => {});
    }
  });
});
