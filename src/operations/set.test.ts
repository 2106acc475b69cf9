import { describe, expect, it } from 'vitest';
import type { CreateImageOptions } from '../disk/options.ts';
import { HEADER } from '../formats/vdi/layout.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { RecordingProvider } from '../testing/recording-storage.ts';
import { createImage } from './create.ts';
import { inspect } from './inspect.ts';
import { openDisk } from './open.ts';
import { setImage } from './set.ts';

const UUID = '01234567-89ab-4def-8123-456789abcdef';
const SIZE = 64 * 1024;

interface At {
  readonly provider: MemoryProvider;
  readonly name: string;
}

async function make(name = '/disk.vdi', options: Partial<CreateImageOptions> = {}, beside?: At): Promise<At> {
  const provider = beside?.provider ?? new MemoryProvider();
  const config = { AllocationBlockSize: 4096, DataAlignment: 512 };
  await createImage({ provider, name }, { size: SIZE, config, ...options });
  return { provider, name };
}

async function bytesOf(source: At): Promise<Uint8Array> {
  const storage = await source.provider.open(source.name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function write(source: At, value: number): Promise<void> {
  await using disk = await openDisk(source, { mode: 'write', allow: ['/'] });
  await disk.write(0, new Uint8Array(4096).fill(value));
}

async function firstByte(source: At): Promise<number | undefined> {
  await using disk = await openDisk(source, { allow: ['/'] });
  const bytes = new Uint8Array(1);
  await disk.read(0, bytes);
  return bytes[0];
}

describe('setImage', () => {
  it('changes exactly what it was asked to, in one sector', async () => {
    const source = await make('/disk.vdi', { comment: 'a long comment that goes away' });
    await write(source, 7);
    const before = { report: await inspect(source), bytes: await bytesOf(source) };
    const report = await setImage(source, { comment: 'new', uuid: UUID });
    expect(report).toMatchObject({ comment: 'new', uuid: UUID, warnings: [] });
    expect(await inspect(source)).toMatchObject({ ...before.report, comment: 'new', uuid: UUID });
    const bytes = await bytesOf(source);
    expect(bytes.subarray(512)).toEqual(before.bytes.subarray(512));
    const expected = before.bytes.slice(0, 512);
    HEADER.put(expected, 'comment', 'new');
    HEADER.put(expected, 'uuid', UUID);
    expect(bytes.subarray(0, 512)).toEqual(expected);
  });

  it('is durable when it resolves', async () => {
    const source = await make();
    const provider = new RecordingProvider(source.provider);
    await setImage({ provider, name: source.name }, { comment: 'kept' });
    const [change, ...others] = provider.log.operations;
    expect(change).toMatchObject({ kind: 'write', offset: 0 });
    expect(others).toEqual([]);
    expect(provider.log.flushes).toHaveLength(1);
    expect(provider.log.flushes[0]?.startedAt).toBeGreaterThan(change?.endedAt ?? Number.POSITIVE_INFINITY);
  });

  it('sets and clears everything that has a place', async () => {
    const source = await make();
    const physical = { cylinders: 10, heads: 16, sectors: 63 };
    const logical = { cylinders: 5, heads: 255, sectors: 63 };
    const set = await setImage(source, { modificationUuid: UUID, geometry: { physical, logical } });
    expect(set).toMatchObject({ modificationUuid: UUID, geometry: { physical, logical } });
    const cleared = await setImage(source, {
      comment: null,
      uuid: null,
      modificationUuid: null,
      geometry: { physical: null, logical: null },
    });
    expect(cleared).toMatchObject({ comment: null, uuid: null, modificationUuid: null });
    expect(cleared.geometry.logical).toBeNull();
    expect(cleared.warnings.join('\n')).toMatch(/without a UUID.*modification UUID/is);
    const { uuid } = await setImage(source, { uuid: 'random' });
    expect(uuid).toMatch(/^[0-9a-f-]{36}$/);
  });

  it.each([
    [{ comment: 'x'.repeat(256) }],
    [{ comment: 'a\0b' }],
    [{ uuid: 'no uuid' }],
    [{ geometry: { physical: { cylinders: 1, heads: 17, sectors: 1 } } }],
    [{ geometry: { logical: { cylinders: 1, heads: 256, sectors: 1 } } }],
  ])('refuses %j and changes nothing', async (changes) => {
    const source = await make();
    const before = await bytesOf(source);
    await expect(setImage(source, changes)).rejects.toMatchObject({ kind: 'invalid-argument' });
    expect(await bytesOf(source)).toEqual(before);
  });

  it('is unsupported where the format keeps nothing', async () => {
    const provider = new MemoryProvider();
    await createImage({ provider, name: '/disk.raw' }, { size: SIZE });
    const source = { provider, name: '/disk.raw' };
    await expect(setImage(source, { comment: 'x' }, { format: 'raw' })).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('is refused for an image that can only be read, or that somebody has open', async () => {
    const source = await make();
    const storage = await source.provider.open(source.name, 'write');
    await storage.lock('shared');
    await expect(setImage(source, { comment: 'x' })).rejects.toMatchObject({ kind: 'locked' });
    await expect(setImage(source, { comment: 'x' }, { forceShare: true })).rejects.toMatchObject({
      kind: 'invalid-argument',
    });
    await storage.write(HEADER.fields.type.offset, Uint8Array.of(3));
    await storage.close();
    await expect(setImage(source, { comment: 'x' })).rejects.toMatchObject({ kind: 'read-only' });
  });

  it('has no place for a logical geometry in a short header', async () => {
    const source = await make();
    const storage = await source.provider.open(source.name, 'write');
    await storage.write(HEADER.fields.headerSize.offset, Uint8Array.of(0x80, 0x01));
    await storage.close();
    const logical = { cylinders: 5, heads: 255, sectors: 63 };
    await expect(setImage(source, { geometry: { logical } })).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('warns of the images that name this one as their parent, when that concerns them', async () => {
    const base = await make();
    await make('/diff.vdi', { parent: base }, base);
    await make('/other.vdi', {}, base);
    expect((await setImage(base, { comment: 'harmless' })).warnings).toEqual([]);
    const { warnings } = await setImage(base, { uuid: 'random' });
    expect(warnings).toEqual([expect.stringMatching(/^\/diff\.vdi depends on \/disk\.vdi/)]);
    expect((await setImage(base, { uuid: 'random' })).warnings).toEqual([]);
  });
});

describe('the parent', () => {
  it('is linked again after it was written', async () => {
    const base = await make();
    await write(base, 1);
    const diff = await make('/diff.vdi', { parent: base }, base);
    await write(base, 2);
    const stale = await openDisk(diff, { allow: ['/'] });
    expect(stale.warnings).toHaveLength(1);
    await stale.close();
    const report = await setImage(diff, { parent: base });
    const { uuid, modificationUuid } = await inspect(base);
    expect(report).toMatchObject({ parentUuid: uuid, parentModificationUuid: modificationUuid });
    const disk = await openDisk(diff, { allow: ['/'] });
    expect(disk.warnings).toEqual([]);
    await disk.close();
  });

  it('makes a differencing image of a base, and a base of a differencing image', async () => {
    const base = await make();
    await write(base, 5);
    const other = await make('/other.vdi', {}, base);
    expect(await firstByte(other)).toBe(0);
    const linked = await setImage(other, { parent: base });
    expect(linked).toMatchObject({ differencing: true, variant: ['diff'] });
    expect(await firstByte(other)).toBe(5);
    const alone = await setImage(other, { parentUuid: null, parentModificationUuid: null });
    expect(alone).toMatchObject({ differencing: false, variant: ['dynamic'], warnings: [] });
    expect(await firstByte(other)).toBe(0);
  });

  it('must fit: another size, no UUID, the image itself and its own child are refused', async () => {
    const base = await make();
    const diff = await make('/diff.vdi', { parent: base }, base);
    const longer = await make('/longer.vdi', { size: 2 * SIZE }, base);
    const anonymous = await make('/anonymous.vdi', {}, base);
    await setImage(anonymous, { uuid: null });
    const before = await bytesOf(base);
    for (const parent of [longer, anonymous, base, diff]) {
      await expect(setImage(base, { parent }), parent.name).rejects.toMatchObject({
        kind: 'invalid-argument',
        hint: expect.any(String),
      });
    }
    expect(await bytesOf(base)).toEqual(before);
  });

  it('may have another size when it is the parent already', async () => {
    const base = await make();
    const diff = await make('/diff.vdi', { parent: base }, base);
    const disk = await openDisk(diff, { mode: 'write', allow: ['/'] });
    await disk.resize(2 * SIZE);
    await disk.close();
    expect(await setImage(diff, { parent: base })).toMatchObject({ virtualSize: 2 * SIZE });
  });

  it('is nothing for a fixed image', async () => {
    const base = await make();
    const fixed = await make('/fixed.vdi', { variant: ['fixed'] }, base);
    await expect(setImage(fixed, { parent: base })).rejects.toMatchObject({ kind: 'unsupported' });
  });
});
