/** Sparse bundles that are wrong or odd. */
import { describe, expect, it } from 'vitest';
import { propertyList } from '../../../test/formats/sparsebundle.ts';
import { convert, createImage, Disk, inspect, removeImage, renameImage } from '../../index.ts';
import { BlobProvider } from '../../storage/blob-provider.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const BAND = 4096;
const SIZE = 20 * BAND;
const NAME = '/disk.sparsebundle';
const LIST = propertyList({ band: BAND, size: SIZE });
const SOUND: Readonly<Record<string, string | number>> = { 'Info.plist': LIST, token: '', 'bands/a': BAND };

/** Files by name: a text, or a length. A length gives bytes of 7. */
async function placed(files: Readonly<Record<string, string | number | null>>) {
  const provider = new MemoryProvider();
  for (const [name, content] of Object.entries({ ...SOUND, ...files })) {
    if (content === null) continue;
    const file = await provider.create(`${NAME}/${name}`);
    await file.write(0, bytesOf(content));
    await file.close();
  }
  return { provider, name: NAME };
}

function bytesOf(content: string | number): Uint8Array<ArrayBuffer> {
  return typeof content === 'number' ? new Uint8Array(content).fill(7) : new TextEncoder().encode(content);
}

type Placed = Awaited<ReturnType<typeof placed>>;

async function read(image: Placed): Promise<Uint8Array> {
  await using disk = await Disk.open(image, { allow: ['same-directory'] });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

const wanted = new Uint8Array(SIZE).fill(7, 10 * BAND, 11 * BAND);

describe('a sparse bundle', () => {
  it('is read from a directory, and describes it', async () => {
    const image = await placed({});
    expect(await read(image)).toEqual(wanted);
    const report = await inspect(image);
    expect(report).toMatchObject({ format: 'sparsebundle', virtualSize: SIZE, blockSize: BAND, warnings: [] });
    expect(report.fileSize).toBe(BAND + LIST.length);
  });

  it('is read from Blobs, as a page gets them', async () => {
    const provider = new BlobProvider();
    for (const [name, content] of Object.entries(SOUND)) provider.add(new Blob([bytesOf(content)]), `${NAME}/${name}`);
    expect(await read({ provider, name: NAME })).toEqual(wanted);
  });

  it('is read with far more bands than files that are open', async () => {
    const bands = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`bands/${n.toString(16)}`, BAND]));
    const image = await placed(bands);
    expect(await read(image)).toEqual(new Uint8Array(SIZE).fill(7));
    await using disk = await Disk.open({ image });
    const random = new Uint8Array(512);
    await Promise.all(Array.from({ length: 20 }, (_, n) => disk.read(((n * 7) % 20) * BAND, random)));
  });

  it('is read by the copy of its property list, with a warning', async () => {
    for (const list of [null, 'cut off', propertyList({ band: 0, size: SIZE })]) {
      const image = await placed({ 'Info.plist': list, 'Info.bckup': LIST });
      expect(await read(image)).toEqual(wanted);
      expect((await inspect(image)).warnings).toEqual([expect.stringContaining('Info.bckup')]);
    }
  });

  it.each([
    ['no sectors in a band', { 'Info.plist': propertyList({ band: 0, size: SIZE }) }, 'invalid-format'],
    ['half a sector', { 'Info.plist': propertyList({ band: BAND, size: 256 }) }, 'invalid-format'],
    ['a disk beyond all limits', { 'Info.plist': propertyList({ band: BAND, size: 2 ** 53 - 512 }) }, 'limit'],
    ['another version', { 'Info.plist': LIST.replace('>1<', '>2<') }, 'unsupported'],
    ['another type', { 'Info.plist': LIST.replace('sparsebundle<', 'x<') }, 'invalid-format'],
    ['entities', { 'Info.plist': LIST.replace(/<!DOCTYPE.*>/, '<!DOCTYPE a [<!ENTITY b "c">]>') }, 'unsupported'],
    ['a binary property list', { 'Info.plist': 'bplist00' }, 'unsupported'],
    ['a long property list', { 'Info.plist': `${' '.repeat(2 ** 16)}${LIST}` }, 'limit'],
    ['an encrypted token', { token: 'encrcdsa and more' }, 'unsupported'],
    ['an encrypted token of the first version', { token: '.......cdsaencr' }, 'unsupported'],
    ['a band that is too long', { 'bands/3': BAND + 1 }, 'corrupt'],
    ['no bands', { 'bands/a': null }, 'not-found'],
  ])('with %s is refused', async (_, files, kind) => {
    await expect(read(await placed(files))).rejects.toMatchObject({ name: 'ImageError', kind });
  });

  it('names files that are not read', async () => {
    const image = await placed({ 'bands/0a': 1, 'bands/A': 1, 'bands/14': BAND, 'bands/.DS_Store': 3 });
    expect(await read(image)).toEqual(wanted);
    const { warnings } = await inspect(image);
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toContain('"0a", "A", ".DS_Store"');
    expect(warnings[1]).toContain('"14"');
  });

  it('does not read zeroes where a band is gone since it was opened', async () => {
    const image = await placed({});
    await using disk = await Disk.open({ image });
    await image.provider.remove(`${NAME}/bands/a`);
    await expect(disk.read(10 * BAND, new Uint8Array(BAND))).rejects.toMatchObject({ kind: 'io' });
  });

  it('is read by the name of its property list', async () => {
    const image = await placed({});
    expect(await read({ ...image, name: `${NAME}/Info.plist` })).toEqual(wanted);
  });

  it('asks for its directory, where the property list lies alone', async () => {
    const image = await placed({ token: null, 'bands/a': null });
    const alone = { ...image, name: '/list' };
    const file = await image.provider.create(alone.name);
    await file.write(0, bytesOf(LIST));
    await file.close();
    const reading = read(alone);
    await expect(reading).rejects.toMatchObject({ kind: 'unsupported', hint: expect.stringContaining('directory') });
  });

  it('is a parent, and stays whole when asked to be deleted or renamed', async () => {
    const image = await placed({});
    const child = { provider: image.provider, name: '/child.qcow2' };
    await createImage(child, { parent: image });
    expect(await read(child)).toEqual(wanted);
    await expect(removeImage(image)).rejects.toMatchObject({ kind: 'busy' });
    await removeImage(child);
    const refusal = { kind: 'unsupported', message: expect.stringContaining('can only be read') };
    await expect(removeImage(image)).rejects.toMatchObject(refusal);
    await expect(renameImage(image, '/b.sparsebundle')).rejects.toMatchObject(refusal);
    expect(await read(image)).toEqual(wanted);
  });

  it('is converted', async () => {
    const image = await placed({});
    const raw = { provider: image.provider, name: '/a.raw' };
    await convert(image, raw, { format: 'raw' });
    await using disk = await Disk.open({ image: raw, format: 'raw' });
    const bytes = new Uint8Array(SIZE);
    await disk.read(0, bytes);
    expect(bytes).toEqual(wanted);
  });
});
