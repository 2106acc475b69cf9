/** Limits of what a record beside an image may make a merge do. */
import { describe, expect, it } from 'vitest';
import { fill, KINDS, Place } from '../../../test/conformance/place.ts';
import { Disk, type Message } from '../../index.ts';
import { FaultProvider } from '../../testing/fault-storage.ts';

const OPEN = { mode: 'write', flushAfterMs: 0, allow: ['/'] } as const;

interface Stored {
  readonly images: readonly { readonly name: string; readonly key: string }[];
}

describe.each(KINDS)('the record of a merge, $name', ({ format, unit, config }) => {
  async function family(): Promise<Place> {
    const place = new Place(format, config);
    await place.make('/0', unit * 8, [fill(0, unit * 2, 1)]);
    await place.make('/1', unit * 8, [fill(unit, unit * 2, 2)], '/0');
    await place.make('/2', unit * 8, [fill(unit * 2, unit * 2, 3)], '/1');
    return place;
  }

  /** Cut when the links have changed, before the first file is deleted. */
  async function cut(place: Place, from: number, to: number): Promise<void> {
    const provider = new FaultProvider(place.provider, { fail: { names: 3 }, forGood: ['write', 'growth', 'names'] });
    const disk = await Disk.open({ provider, name: '/2' }, { ...OPEN, format });
    await expect(disk.merge(from, to)).rejects.toMatchObject({ kind: 'io' });
    await disk.close().catch(() => {});
    expect(await place.provider.lookUp('/2.vdkit-merge')).not.toBeNull();
  }

  async function changeRecord(place: Place, change: (record: Stored) => Stored): Promise<void> {
    const storage = await place.provider.open('/2.vdkit-merge', 'write');
    const bytes = new Uint8Array(storage.size);
    await storage.read(0, bytes);
    const changed = new TextEncoder().encode(JSON.stringify(change(JSON.parse(new TextDecoder().decode(bytes)))));
    await storage.resize(changed.length);
    await storage.write(0, changed);
    await storage.close();
  }

  async function again(place: Place, from: number, to: number): Promise<readonly string[]> {
    const messages: string[] = [];
    const onMessage = ({ text }: Message): void => void messages.push(text);
    await using disk = await Disk.open(place.at('/2'), { ...OPEN, format, onMessage });
    await disk.merge(from, to);
    return messages;
  }

  async function names(place: Place): Promise<string[]> {
    const found: string[] = [];
    for await (const name of place.provider.list('/')) found.push(name);
    return found.sort();
  }

  it('has the same call finish what was cut, and nothing more', async () => {
    const place = await family();
    const before = await place.content('/2');
    await cut(place, 1, 0);
    expect((await again(place, 1, 0)).join()).toContain('interrupted merge');
    expect(await names(place)).toEqual(['/0', '/2']);
    expect(before.equals(await place.content('/2'))).toBe(true);
  });

  it('is no matter to a merge of other images', async () => {
    const place = await family();
    const before = await place.content('/2');
    await cut(place, 0, 1);
    // The chain is /1 and /2 now.
    expect((await again(place, 1, 0)).join()).not.toContain('interrupted merge');
    expect(before.equals(await place.content('/1'))).toBe(true);
    expect(await names(place)).toEqual(['/0', '/1']);
  });

  it.each<[string, (place: Place) => Promise<unknown>]>([
    [
      'another file of the name',
      async (place) => {
        await place.provider.remove('/1');
        await place.make('/1', unit * 8, [fill(0, unit, 9)]);
      },
    ],
    [
      'a file that a stranger names',
      (place) =>
        changeRecord(place, ({ images, ...rest }) => ({
          ...rest,
          images: images.map((one) => (one.name === '/1' ? { ...one, key: 'memory:0' } : one)),
        })),
    ],
    ['a file that somebody works with', (place) => Disk.open(place.at('/1'), { ...OPEN, format })],
    ['a file that another image is made from', (place) => place.make('/new', unit * 8, [], '/1')],
  ])('leaves alone %s', async (_what, change) => {
    const place = await family();
    await cut(place, 1, 0);
    await change(place);
    const messages = await again(place, 1, 0);
    expect(messages.join()).toMatch(/\/1 was merged but not deleted: /);
    expect(await place.provider.lookUp('/1')).not.toBeNull();
    expect(await place.provider.lookUp('/2.vdkit-merge')).toBeNull();
  });

  it.each([
    '',
    'no JSON',
    '[]',
    '{"version":1,"from":0,"to":0,"images":[]}',
    '{"version":1,"from":1,"to":0,"images":[7,8]}',
  ])('is passed over when it is not one: %s', async (text) => {
    const place = await family();
    const before = await place.content('/2');
    const storage = await place.provider.create('/2.vdkit-merge');
    await storage.write(0, new TextEncoder().encode(text));
    await again(place, 2, 1);
    expect(before.equals(await place.content('/1'))).toBe(true);
    expect(await names(place)).toEqual(['/0', '/1']);
  });
});
