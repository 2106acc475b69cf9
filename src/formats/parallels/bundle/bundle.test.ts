import { beforeEach, describe, expect, it } from 'vitest';
import { ImageError } from '../../../errors.ts';
import { checkImage } from '../../../operations/check.ts';
import { convert } from '../../../operations/convert.ts';
import { createImage } from '../../../operations/create.ts';
import { copyDirectory } from '../../../operations/directories.ts';
import { removeImage, renameImage } from '../../../operations/files.ts';
import { detectFormat, inspect } from '../../../operations/inspect.ts';
import { createDisk } from '../../../operations/new-disk.ts';
import { openDisk } from '../../../operations/open.ts';
import { childrenOf } from '../../../operations/siblings.ts';
import type { Source } from '../../../storage/contract.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { DEFAULT_TOP } from './descriptor.ts';

const UNIT = 64 * 1024;
const SIZE = 16 * UNIT;
const NAME = '/disk.hdd';
const FIRST = `disk.hdd.0.{${DEFAULT_TOP}}.hds`;
const config = { cluster_size: UNIT };

let provider: MemoryProvider;
const at = (name: string): Source => ({ provider, name });
const bundle = (): Source => at(NAME);

beforeEach(async () => {
  provider = new MemoryProvider();
  await createImage(bundle(), { size: SIZE, variant: ['bundle'], config });
});

async function files(name = NAME): Promise<string[]> {
  const names: string[] = [];
  for await (const file of provider.list(name)) names.push(file.slice(name.length + 1));
  return names.sort();
}

async function fill(target: Source | string, offset: number, byte: number, length = UNIT): Promise<void> {
  const source = typeof target === 'string' ? at(target) : target;
  await using disk = await openDisk(source, { mode: 'write', flushAfterMs: 0 });
  await disk.write(offset, new Uint8Array(length).fill(byte));
}

async function units(source: Source): Promise<number[]> {
  await using disk = await openDisk(source);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return Array.from({ length: disk.size / UNIT }, (_, unit) => bytes[unit * UNIT] ?? 0);
}

async function snapshot(name: string): Promise<void> {
  await createImage(at(`${NAME}/${name}`), { parent: bundle() });
}

async function clean(): Promise<void> {
  expect((await checkImage(bundle())).findings).toEqual([]);
}

/** Three images: 1, then 2 over it, then 3, with a unit of each visible. */
async function chain(): Promise<void> {
  await fill(bundle(), 0, 1, 3 * UNIT);
  await snapshot('b.hds');
  await fill(bundle(), UNIT, 2, 2 * UNIT);
  await snapshot('c.hds');
  await fill(bundle(), 2 * UNIT, 3);
}

const ALL = [1, 2, 3, ...Array<number>(13).fill(0)];

describe('a bundle', () => {
  it('is created, detected, written and read', async () => {
    expect(await files()).toEqual(['DiskDescriptor.xml', FIRST]);
    expect(await detectFormat(bundle())).toMatchObject({ format: 'parallels', detail: 'Parallels bundle' });
    await fill(bundle(), UNIT, 5);
    expect(await units(bundle())).toEqual([0, 5, ...Array<number>(14).fill(0)]);
    expect(await inspect(bundle())).toMatchObject({
      virtualSize: SIZE,
      blockSize: UNIT,
      differencing: false,
      variant: ['bundle'],
    });
    await clean();
  });

  it('is opened by its descriptor, too', async () => {
    await fill(at(`${NAME}/DiskDescriptor.xml`), 0, 4);
    expect((await units(bundle()))[0]).toBe(4);
  });

  it('gets snapshots, each of which is one of the images of the disk', async () => {
    await chain();
    expect(await units(bundle())).toEqual(ALL);
    expect(await files()).toEqual(['DiskDescriptor.xml', 'b.hds', 'c.hds', FIRST]);
    const disk = await openDisk(bundle());
    expect(disk.images.map(({ info }) => info.differencing)).toEqual([false, true, true]);
    await disk.close();
    expect((await inspect(bundle(), { chain: true })).chain).toHaveLength(3);
    await clean();
  });

  it.each([
    ['before the list has it', false, ['DiskDescriptor.xml', FIRST]],
    ['after the list has it', true, ['DiskDescriptor.xml', FIRST, 'b.hds'].sort()],
  ])('opens when making a snapshot fails %s', async (_, renames, left) => {
    await fill(bundle(), 0, 1);
    const [rename, syncNames] = [provider.rename.bind(provider), provider.syncNames.bind(provider)];
    const broken = new ImageError('io', 'The medium is gone');
    let fails = false;
    provider.rename = async (from, to, how) => {
      const isList = to.endsWith('DiskDescriptor.xml');
      if (isList && !renames) throw broken;
      await rename(from, to, how);
      if (isList) fails = true;
    };
    provider.syncNames = async (directory) => {
      if (fails) throw broken;
      await syncNames(directory);
    };
    await expect(snapshot('b.hds')).rejects.toBe(broken);
    Object.assign(provider, { rename, syncNames });
    expect(await files()).toEqual(left);
    expect((await units(bundle())).slice(0, 2)).toEqual([1, 0]);
    await clean();
  });

  it('gets a snapshot while it is open, and loses it again', async () => {
    const disk = await openDisk(bundle(), { mode: 'write' });
    await disk.write(0, new Uint8Array(UNIT).fill(1));
    await disk.createDiff(at(`${NAME}/b.hds`));
    await disk.write(UNIT, new Uint8Array(UNIT).fill(2));
    expect(disk.images).toHaveLength(2);
    await disk.close();
    expect((await units(bundle())).slice(0, 3)).toEqual([1, 2, 0]);
    const again = await openDisk(bundle(), { mode: 'write' });
    await again.closeLast({ remove: true });
    await again.write(2 * UNIT, new Uint8Array(UNIT).fill(3));
    await again.close();
    expect((await units(bundle())).slice(0, 3)).toEqual([1, 0, 3]);
    expect(await files()).toEqual(['DiskDescriptor.xml', FIRST]);
    await clean();
  });

  it('is opened with its new image', async () => {
    const disk = await createDisk(at(`${NAME}/b.hds`), { parent: bundle() });
    await disk.write(0, new Uint8Array(UNIT).fill(7));
    expect(disk.images).toHaveLength(2);
    await disk.close();
    expect((await units(bundle()))[0]).toBe(7);
  });

  it.each([
    ['backward into the middle', 2, 1, 2],
    ['backward into the base', 2, 0, 1],
    ['the middle into the base', 1, 0, 2],
    ['the base into the middle', 0, 1, 2],
    ['the middle into the last one', 1, 2, 2],
    ['forward into the last one', 0, 2, 1],
  ])('is merged %s', async (_, from, to, left) => {
    await chain();
    const disk = await openDisk(bundle(), { mode: 'write' });
    await disk.merge(from, to);
    expect(disk.images).toHaveLength(left);
    await disk.write(15 * UNIT, new Uint8Array(UNIT).fill(9));
    await disk.close();
    expect(await units(bundle())).toEqual([...ALL.slice(0, 15), 9]);
    expect(await files()).toHaveLength(left + 1);
    await clean();
  });

  it.each([1, 0])('is committed to image %i', async (base) => {
    await chain();
    const disk = await openDisk(bundle(), { mode: 'write' });
    await disk.commit({ base });
    expect(disk.images).toHaveLength(base + 2);
    await disk.close();
    expect(await units(bundle())).toEqual(ALL);
    await clean();
  });

  it('is not merged while a branch depends on what changes', async () => {
    await chain();
    const descriptor = await provider.open(`${NAME}/DiskDescriptor.xml`, 'write');
    const bytes = new Uint8Array(descriptor.size);
    await descriptor.read(0, bytes);
    const text = new TextDecoder().decode(bytes);
    const other = '11111111-2222-4333-8444-555555555555';
    const branch = text
      .replace(
        '</Snapshots>',
        `<Shot><GUID>{${other}}</GUID><ParentGUID>{${DEFAULT_TOP}}</ParentGUID></Shot></Snapshots>`,
      )
      .replace(
        '</Storage>',
        `<Image><GUID>{${other}}</GUID><Type>Compressed</Type><File>z.hds</File></Image></Storage>`,
      );
    await descriptor.write(0, new TextEncoder().encode(branch));
    await descriptor.close();
    const disk = await openDisk(bundle(), { mode: 'write' });
    await expect(disk.merge(1, 0)).rejects.toMatchObject({ kind: 'busy' });
    await expect(disk.merge(2, 0)).rejects.toMatchObject({ kind: 'busy' });
    await disk.merge(2, 1);
    await disk.close();
    expect(await units(bundle())).toEqual(ALL);
  });

  it('is resized while it has one image', async () => {
    await fill(bundle(), 0, 1);
    const disk = await openDisk(bundle(), { mode: 'write' });
    await disk.resize(2 * SIZE);
    await disk.write(2 * SIZE - UNIT, new Uint8Array(UNIT).fill(2));
    await disk.close();
    expect(await units(bundle())).toEqual([1, ...Array<number>(30).fill(0), 2]);
    await clean();
    const again = await openDisk(bundle(), { mode: 'write' });
    await again.resize(SIZE, { shrink: true });
    await again.close();
    expect(await units(bundle())).toEqual([1, ...Array<number>(15).fill(0)]);
    await clean();
    await snapshot('b.hds');
    const last = await openDisk(bundle(), { mode: 'write' });
    await expect(last.resize(2 * SIZE)).rejects.toMatchObject({ kind: 'unsupported' });
    await last.close();
  });

  describe.each(['qcow2', 'vdi', 'vmdk', 'vhd', 'vhdx', 'qed', 'qcow'])('under an image of format %s', (format) => {
    const child = () => at(`/child.${format}`);

    it('is opened by the stored name', async () => {
      await fill(bundle(), 0, 1);
      await snapshot('b.hds');
      await fill(bundle(), UNIT, 2);
      const { warnings } = await createImage(child(), { format, parent: bundle() });
      const allow = warnings.join().includes('no UUID') ? { parent: bundle() } : { allow: ['same-directory'] };
      const parentFormat = warnings.join().includes('--parent-format parallels') ? { parentFormat: 'parallels' } : {};
      {
        await using disk = await openDisk(child(), { ...allow, ...parentFormat });
        const bytes = new Uint8Array(2 * UNIT);
        await disk.read(0, bytes);
        expect([bytes[0], bytes[UNIT]]).toEqual([1, 2]);
      }
      if ('parent' in allow) return;
      await expect(openDisk(child())).rejects.toMatchObject({ kind: 'denied' });
      await expect(removeImage(bundle(), { provider })).rejects.toMatchObject({ kind: 'busy' });
      await expect(renameImage(bundle(), '/other.hdd', { provider })).rejects.toMatchObject({ kind: 'busy' });
      expect((await childrenOf(bundle())).names).toEqual([`/child.${format}`]);
    });

    it('becomes the parent by rebase', async () => {
      await fill(bundle(), 0, 1);
      await createImage(at('/old.vdi'), { size: SIZE });
      await createImage(child(), { format, parent: at('/old.vdi') });
      let warned = '';
      {
        await using disk = await openDisk(child(), { mode: 'write', parent: at('/old.vdi') });
        const rebased = disk.rebase(bundle());
        if (format === 'vdi') {
          await expect(rebased).rejects.toThrow('The parent has no UUID to store');
          return;
        }
        warned = (await rebased).join();
      }
      const parentFormat = warned.includes('--parent-format parallels') ? 'parallels' : undefined;
      await using disk = await openDisk(child(), { allow: ['/'], parentFormat });
      const bytes = new Uint8Array(UNIT);
      await disk.read(0, bytes);
      expect(bytes[0]).toBe(0);
      expect(disk.images.length).toBe(2);
    });
  });

  it('is renamed and deleted as a whole', async () => {
    await chain();
    await renameImage(bundle(), '/other.hdd', { provider });
    expect(await units(at('/other.hdd'))).toEqual(ALL);
    const list = await provider.create('/other.hdd/Snapshots.xml');
    await list.close();
    const { removed, warnings } = await removeImage(at('/other.hdd'), { provider });
    expect([removed.length, warnings]).toEqual([6, []]);
    expect(await provider.lookUp('/other.hdd')).toBeNull();
  });

  it('is converted to and from, and replaced', async () => {
    await chain();
    await convert(bundle(), at('/d.vdi'));
    expect(await units(at('/d.vdi'))).toEqual(ALL);
    await convert(at('/d.vdi'), bundle(), { variant: ['bundle'], force: true, config });
    expect(await units(bundle())).toEqual(ALL);
    expect(await files()).toEqual(['DiskDescriptor.xml', FIRST]);
  });

  it('is locked by the files of its images', async () => {
    await snapshot('b.hds');
    await using disk = await openDisk(bundle(), { mode: 'write' });
    expect(disk.images).toHaveLength(2);
    await expect(openDisk(bundle())).rejects.toMatchObject({ kind: 'locked' });
    await expect(snapshot('c.hds')).rejects.toMatchObject({ kind: 'locked' });
    expect(await files()).toEqual(['DiskDescriptor.xml', 'b.hds', FIRST]);
  });

  it('takes no image of another size of clusters, and no other parent', async () => {
    await expect(
      createImage(at(`${NAME}/b.hds`), { parent: bundle(), config: { cluster_size: 2 * UNIT } }),
    ).rejects.toMatchObject({ kind: 'invalid-argument' });
    expect(await files()).toEqual(['DiskDescriptor.xml', FIRST]);
    await createImage(at('/other.vdi'), { size: SIZE });
    const disk = await openDisk(bundle(), { mode: 'write' });
    await expect(disk.rebase(at('/other.vdi'))).rejects.toMatchObject({ kind: 'unsupported' });
    await disk.close();
    await expect(createImage(at('/b.hds'), { parent: bundle() })).rejects.toMatchObject({ kind: 'unsupported' });
  });

  it('keeps its files from being changed, or read without their parents, one by one', async () => {
    await chain();
    for (const name of [FIRST, 'b.hds']) {
      const file = at(`${NAME}/${name}`);
      await expect(openDisk(file, { mode: 'write' })).rejects.toMatchObject({ kind: 'denied' });
      await expect(removeImage(file)).rejects.toMatchObject({ kind: 'denied' });
      await expect(renameImage(file, `${NAME}/z.hds`, { provider })).rejects.toMatchObject({ kind: 'denied' });
      expect((await checkImage(file)).findings).toEqual([]);
    }
    for (const options of [{ size: SIZE }, { parent: bundle() }]) {
      const again = createImage(at(`${NAME}/b.hds`), { ...options, config, force: true });
      await expect(again).rejects.toMatchObject({ kind: 'exists' });
    }
    expect(await units(bundle())).toEqual(ALL);
    expect((await units(at(`${NAME}/${FIRST}`))).slice(0, 3)).toEqual([1, 1, 1]);
    await expect(units(at(`${NAME}/b.hds`))).rejects.toMatchObject({ kind: 'not-found' });
    await using alone = await openDisk(at(`${NAME}/b.hds`), { parent: [] });
    await using older = await openDisk([at(`${NAME}/${FIRST}`), at(`${NAME}/b.hds`)]);
    const bytes = new Uint8Array(1);
    await alone.read(0, bytes);
    expect(bytes[0]).toBe(0);
    await older.read(0, bytes);
    expect(bytes[0]).toBe(1);
  });

  it('is copied with all its images', async () => {
    await chain();
    await copyDirectory(bundle(), at('/copy.hdd'));
    expect(await files('/copy.hdd')).toEqual(await files());
    expect(await units(at('/copy.hdd'))).toEqual(ALL);
    await expect(copyDirectory(bundle(), at('/copy.hdd'))).rejects.toMatchObject({ kind: 'exists' });
    await expect(copyDirectory(bundle(), bundle(), { force: true })).rejects.toMatchObject({
      kind: 'invalid-argument',
    });
    await using _disk = await openDisk(bundle(), { mode: 'write' });
    await expect(copyDirectory(bundle(), at('/other.hdd'))).rejects.toMatchObject({ kind: 'locked' });
    expect(await provider.lookUp('/other.hdd')).toBeNull();
  });
});
