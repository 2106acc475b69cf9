import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { fill, KINDS, type Kind, MIB, Place } from '../../../test/conformance/place.ts';
import { randomBytes } from '../../../test/conformance/random.ts';
import { checkImage, createImage, Disk, inspect, rebaseImage } from '../../index.ts';
import { Random } from '../../testing/index.ts';

/** Two parents that agree in part, and a child of the first. */
async function family({ format, config, unit }: Kind, sizes: { old?: number; new?: number; own?: number } = {}) {
  const place = new Place(format, config);
  const size = unit * 40;
  const u = (n: number): number => n * unit;
  const common = [fill(u(1), u(3), 1), fill(u(20), u(2), 2)];
  await place.make('/old', sizes.old ?? size, [...common, fill(u(5), u(4), 3), fill(u(30), u(3), 4)]);
  await place.make('/new', sizes.new ?? size, [...common, fill(u(7), u(4), 5), fill(u(33), u(3), 6)]);
  await place.make(
    '/own',
    sizes.own ?? size,
    [fill(u(6), u(1), 7), fill(u(20) + 512 * (unit > 512 ? 1 : 0), 512, 8), fill(u(34), u(1), 0)],
    '/old',
  );
  return { place, size, u };
}

const how = { allow: ['/'] };

describe.each(KINDS)('rebasing, $name', (kind) => {
  it('reads the same over another parent, and stores no more than what differs', async () => {
    const { place, u } = await family(kind);
    const before = await place.content('/own');
    const { modificationUuid } = await inspect(place.at('/own'));
    const held = await place.bytesHeld('/own');
    const report = await rebaseImage(place.at('/own'), place.at('/new'), how);
    expect(report.modificationUuid).toBe(modificationUuid);
    expect(before.equals(await place.content('/own'))).toBe(true);
    // Units 5, 7 to 10, 8 of the old one; 30 to 32, and 33, 35 of the new one.
    const more = (await place.bytesHeld('/own')) - held;
    expect(more).toBeGreaterThan(0);
    expect(more).toBeLessThanOrEqual(kind.name.includes('subclusters') ? 2 * 16_384 : u(12));
    await place.provider.remove('/old');
    expect(before.equals(await place.content('/own'))).toBe(true);
    expect((await checkImage(place.at('/own'))).findings).toEqual([]);
  });

  it('becomes a base', async () => {
    const { place } = await family(kind);
    const before = await place.content('/own');
    const report = await rebaseImage(place.at('/own'), null, how);
    expect(report).toMatchObject({ differencing: false, parentName: null, parentUuid: null });
    await place.provider.remove('/old');
    expect(before.equals(await place.content('/own'))).toBe(true);
    expect((await checkImage(place.at('/own'))).findings).toEqual([]);
  });

  it.each<[string, { old?: number; new?: number; own?: number }]>([
    ['a shorter new parent', { new: kind.unit * 36 }],
    ['a longer new parent', { new: kind.unit * 50 }],
    ['a shorter old parent', { old: kind.unit * 33 }],
    ['a longer image', { own: kind.unit * 60 }],
    ['an end inside of a unit', { old: kind.unit * 38 + 512, new: kind.unit * 39 + 1024, own: kind.unit * 45 + 512 }],
  ])('reads the same with %s', async (_what, sizes) => {
    const { place } = await family(kind, sizes);
    const before = await place.content('/own');
    await rebaseImage(place.at('/own'), place.at('/new'), how);
    expect(before.equals(await place.content('/own'))).toBe(true);
    await rebaseImage(place.at('/own'), null, how);
    expect(before.equals(await place.content('/own'))).toBe(true);
  });

  it('skips what both have from the same image, and goes on as a disk', async () => {
    const { place, u } = await family(kind);
    await place.make('/middle', u(40), [fill(u(10), u(1), 9)], '/old');
    const before = await place.content('/own');
    await using disk = await place.open('/own');
    await disk.rebase(place.at('/middle'));
    expect(disk.images.map(({ name }) => name)).toEqual(['/old', '/middle', '/own']);
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    expect(before.equals(bytes)).toBe(true);
    await disk.write(u(10), new Uint8Array(512).fill(77));
    // And back, to the base alone.
    await disk.rebase(place.at('/old'));
    expect(disk.images.map(({ name }) => name)).toEqual(['/old', '/own']);
    await disk.read(0, bytes);
    before.fill(77, u(10), u(10) + 512);
    expect(before.equals(bytes)).toBe(true);
    await disk.close();
    expect(before.equals(await place.content('/own'))).toBe(true);
  });

  it('changes only the link when it is told to', async () => {
    const { place, size } = await family(kind);
    const held = await place.bytesHeld('/own');
    await place.make('/same', size, []);
    await rebaseImage(place.at('/own'), place.at('/same'), { ...how, unsafe: true });
    expect(await place.bytesHeld('/own')).toBe(held);
    expect((await place.content('/own'))[kind.unit]).toBe(0);
  });

  it('keeps its parent when it is cancelled', async () => {
    const { place } = await family(kind);
    const before = await place.content('/own');
    for (const calls of [1, 2, 3]) {
      const stop = new AbortController();
      let seen = 0;
      const onProgress = (): void => {
        if (++seen === calls) stop.abort();
      };
      const rebasing = (): Promise<unknown> =>
        rebaseImage(place.at('/own'), null, { ...how, signal: stop.signal, onProgress });
      await expectKind(rebasing, 'aborted');
      expect((await inspect(place.at('/own'))).differencing).toBe(true);
      expect(before.equals(await place.content('/own'))).toBe(true);
    }
    await rebaseImage(place.at('/own'), null, how);
    expect(before.equals(await place.content('/own'))).toBe(true);
  });

  it('refuses to be its own parent', async () => {
    const { place, u } = await family(kind);
    await place.make('/child', u(40), [], '/own');
    await expectKind(() => rebaseImage(place.at('/own'), place.at('/child'), how), 'invalid-argument');
    await expectKind(() => rebaseImage(place.at('/own'), place.at('/own'), how), 'invalid-argument');
    await expectKind(() => rebaseImage(place.at('/own'), place.at('/missing'), how), 'not-found');
    await using disk = await place.open('/own');
    expect(disk.images).toHaveLength(2);
  });
});

describe.each(KINDS)('growing over a longer parent, $name', ({ format, config, unit }) => {
  it('shows zeroes in the new space', async () => {
    const place = new Place(format, config);
    await place.make('/parent', unit * 20, [fill(0, unit * 20, 5)]);
    await place.make('/own', unit * 10, [fill(0, unit, 6)], '/parent');
    const before = await place.content('/own');
    {
      await using disk = await place.open('/own');
      await disk.resize(unit * 18);
    }
    const after = await place.content('/own');
    expect(before.equals(after.subarray(0, before.length))).toBe(true);
    expect(after.subarray(before.length).every((byte) => byte === 0)).toBe(true);
    expect((await checkImage(place.at('/own'))).findings).toEqual([]);
  });
});

describe('rebasing', () => {
  it('opens nothing that an image names unless the gate lets it', async () => {
    const { place } = await family(KINDS[0] as Kind);
    await place.make('/over', 40 * 4096, [], '/new');
    await expectKind(() => rebaseImage(place.at('/own'), place.at('/over'), {}), 'denied');
    const { parentName } = await inspect(place.at('/own'));
    expect(parentName).toBe('old');
  });

  it('is refused where the parent cannot be named, or the image cannot have one', async () => {
    const vdi = await family(KINDS[3] as Kind);
    const raw = await vdi.place.provider.create('/disk.raw');
    await raw.resize(MIB);
    await raw.close();
    await expectKind(
      () => rebaseImage(vdi.place.at('/own'), vdi.place.at('/disk.raw'), { ...how, parentFormat: 'raw' }),
      'invalid-argument',
    );
    await expectKind(() => rebaseImage(vdi.place.at('/disk.raw'), null, { ...how, format: 'raw' }), 'unsupported');
    await using disk = await Disk.open(vdi.place.at('/own'), { mode: 'write', withoutParents: true });
    await expectKind(() => disk.rebase(null), 'unsupported');
  });

  it('is refused for an image with internal snapshots, which read the parent as well', async () => {
    const { place } = await family(KINDS[0] as Kind);
    await using disk = await place.open('/own');
    await disk.snapshots.create('one');
    await expectKind(() => disk.rebase(place.at('/new')), 'unsupported');
    await expectKind(() => disk.rebase(null), 'unsupported');
  });

  it('makes a child of a base, whose zeroes hide the parent', async () => {
    for (const { format, config, unit } of KINDS) {
      const place = new Place(format, config);
      await place.make('/parent', unit * 10, [fill(0, unit * 10, 5)]);
      await place.make('/own', unit * 12, [fill(unit, unit, 6)]);
      const before = await place.content('/own');
      await rebaseImage(place.at('/own'), place.at('/parent'), how);
      expect(before.equals(await place.content('/own'))).toBe(true);
      expect((await inspect(place.at('/own'))).differencing).toBe(true);
    }
  });

  it('has random chains of several formats', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = new Random(seed);
      const place = new Place('qcow2', {});
      const make = async (name: string, parent?: string): Promise<void> => {
        const cluster = 512 * 2 ** random.below(5);
        const size = 512 * (100 + random.below(100));
        const over = parent === undefined ? {} : { parent: place.at(parent), parentFormat: 'qcow2' };
        await createImage(place.at(name), {
          format: 'qcow2',
          size,
          config: { cluster_size: cluster },
          ...over,
          allow: ['/'],
        });
        await using disk = await place.open(name);
        for (let n = 0; n < 12; n++) {
          const at = 512 * random.below(size / 512);
          const length = Math.min(512 * (1 + random.below(20)), size - at);
          if (n % 4 === 0) await disk.zero(at, length);
          else await disk.write(at, randomBytes(random, length));
        }
      };
      await make('/a');
      await make('/b', '/a');
      await make('/c', '/a');
      await make('/d');
      await make('/own', '/b');
      const before = await place.content('/own');
      for (const parent of ['/c', '/a', '/d', '/b', null, '/c'] as const) {
        await rebaseImage(place.at('/own'), parent === null ? null : place.at(parent), how);
        expect(before.equals(await place.content('/own')), `seed ${seed}, ${parent}`).toBe(true);
        const { findings } = await checkImage(place.at('/own'));
        expect(findings.filter(({ severity }) => severity === 'corruption')).toEqual([]);
      }
    }
  });
});
