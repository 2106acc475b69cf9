/** Bundles as other programs leave them: several parts, files without headers, paths of another computer, damage. */
import { beforeEach, describe, expect, it } from 'vitest';
import { checkImage } from '../../../operations/check.ts';
import { createImage } from '../../../operations/create.ts';
import { removeImage } from '../../../operations/files.ts';
import { inspect } from '../../../operations/inspect.ts';
import { openDisk } from '../../../operations/open.ts';
import type { Source } from '../../../storage/contract.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { DESCRIPTOR } from '../layout.ts';
import { DEFAULT_TOP } from './descriptor.ts';

const UNIT = 64 * 1024;
const SECTORS = UNIT / 512;
const NAME = '/disk.hdd';
const BASE = '11111111-2222-4333-8444-555555555555';
const ZERO = '00000000-0000-0000-0000-000000000000';

let provider: MemoryProvider;
const at = (name: string): Source => ({ provider, name });
const bundle = (): Source => at(NAME);
beforeEach(() => {
  provider = new MemoryProvider();
});

/** A part of the disk: units, and its files by snapshot. */
interface Part {
  readonly units: number;
  readonly files: Readonly<Record<string, readonly [type: 'Plain' | 'Compressed', file: string]>>;
}

async function write(name: string, bytes: Uint8Array): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, bytes);
  await storage.close();
}

async function describeDisk(parts: readonly Part[], shots: readonly (readonly [string, string])[]): Promise<void> {
  let end = 0;
  const storages = parts.map(({ units, files }) => {
    const start = end;
    end += units * SECTORS;
    const images = Object.entries(files).map(
      ([id, [type, file]]) => `<Image><GUID>{${id}}</GUID><Type>${type}</Type><File>${file}</File></Image>`,
    );
    return `<Storage><Start>${start}</Start><End>${end}</End><Blocksize>${SECTORS}</Blocksize>${images.join('')}</Storage>`;
  });
  const list = shots.map(([id, parent]) => `<Shot><GUID>{${id}}</GUID><ParentGUID>{${parent}}</ParentGUID></Shot>`);
  const text = `<Parallels_disk_image Version="1.0"><Disk_Parameters><Disk_size>${end}</Disk_size></Disk_Parameters>
<StorageData>${storages.reverse().join('')}</StorageData><Snapshots>${list.join('')}</Snapshots></Parallels_disk_image>`;
  await write(`${NAME}/${DESCRIPTOR}`, new TextEncoder().encode(text));
}

/** An expandable file with these units: 0 is not stored. */
async function expandable(name: string, units: readonly number[]): Promise<void> {
  await createImage(at('/new.hds'), { size: units.length * UNIT, config: { cluster_size: UNIT } });
  const disk = await openDisk(at('/new.hds'), { mode: 'write' });
  for (const [unit, byte] of units.entries())
    if (byte !== 0) await disk.write(unit * UNIT, new Uint8Array(UNIT).fill(byte));
  await disk.close();
  await provider.rename('/new.hds', name, { replace: false });
}

const plain = (name: string, units: readonly number[]): Promise<void> =>
  write(name, Uint8Array.from(units.flatMap((byte) => Array<number>(UNIT).fill(byte))));

async function units(source = bundle(), allow: readonly string[] = []): Promise<number[]> {
  await using disk = await openDisk(source, { allow });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return Array.from({ length: disk.size / UNIT }, (_, unit) => bytes[unit * UNIT] ?? 0);
}

const one = (file: string, type: 'Plain' | 'Compressed' = 'Compressed'): Part => ({
  units: 3,
  files: { [DEFAULT_TOP]: [type, file] },
});

const ALONE = [[DEFAULT_TOP, ZERO]] as const;

describe('a bundle of several parts', () => {
  beforeEach(async () => {
    await describeDisk(
      [
        { units: 3, files: { [BASE]: ['Plain', 'a0'], [DEFAULT_TOP]: ['Compressed', 'b0'] } },
        { units: 2, files: { [BASE]: ['Compressed', 'a1'], [DEFAULT_TOP]: ['Compressed', 'b1'] } },
      ],
      [
        [DEFAULT_TOP, BASE],
        [BASE, ZERO],
      ],
    );
    await plain(`${NAME}/a0`, [1, 2, 3]);
    await expandable(`${NAME}/a1`, [4, 0]);
    await expandable(`${NAME}/b0`, [0, 5, 0]);
    await expandable(`${NAME}/b1`, [0, 6]);
  });

  it('is read, and written where its parts are', async () => {
    expect(await units()).toEqual([1, 5, 3, 4, 6]);
    {
      await using disk = await openDisk(bundle(), { mode: 'write', flushAfterMs: 0 });
      await disk.write(2 * UNIT + 512, new Uint8Array(2 * UNIT).fill(7));
      await disk.zero(0, 512);
      await disk.compact();
    }
    await using disk = await openDisk(bundle());
    const bytes = new Uint8Array(5 * UNIT);
    await disk.read(0, bytes);
    const wanted = new Uint8Array(5 * UNIT)
      .fill(1, 512, UNIT)
      .fill(5, UNIT, 2 * UNIT)
      .fill(3, 2 * UNIT, 2 * UNIT + 512);
    wanted.fill(7, 2 * UNIT + 512, 4 * UNIT + 512).fill(6, 4 * UNIT + 512);
    expect(Buffer.from(bytes).equals(wanted)).toBe(true);
    expect((await checkImage(bundle())).findings).toEqual([]);
    expect((await inspect(bundle(), { chain: true })).chain?.map(({ parts }) => parts.map(({ file }) => file))).toEqual(
      [
        [`${NAME}/a0`, `${NAME}/a1`],
        [`${NAME}/b0`, `${NAME}/b1`],
      ],
    );
  });

  it('is merged and deleted, but gets no snapshot', async () => {
    await expect(createImage(at(`${NAME}/c0`), { format: 'parallels', parent: bundle() })).rejects.toMatchObject({
      kind: 'unsupported',
    });
    expect(await provider.lookUp(`${NAME}/c0`)).toBeNull();
    const disk = await openDisk(bundle(), { mode: 'write' });
    await disk.merge(1, 0);
    await disk.close();
    expect(await units()).toEqual([1, 5, 3, 4, 6]);
    expect((await removeImage(bundle())).removed).toHaveLength(4);
    expect(await provider.lookUp(NAME)).toBeNull();
  });
});

describe('a file of a bundle', () => {
  it('without a header is the whole disk, and is written in place', async () => {
    await describeDisk([one('raw', 'Plain')], ALONE);
    await plain(`${NAME}/raw`, [1, 2, 3]);
    {
      await using disk = await openDisk(bundle(), { mode: 'write' });
      await disk.write(UNIT, new Uint8Array(UNIT).fill(9));
      await disk.discard([{ offset: 0, length: UNIT }]).catch(() => {});
      expect((await inspect(bundle(), { lock: false })).allocation).toBe('fixed');
    }
    expect((await units()).slice(1)).toEqual([9, 3]);
  });

  it.each(['/Users/me/Parallels/disk.hdd/a.hds', 'C:\\disks\\a.hds', '../a.hds'])(
    'under the path of another computer lies in the bundle: %s',
    async (stored) => {
      await describeDisk([one(stored)], ALONE);
      await expandable(`${NAME}/a.hds`, [1, 0, 2]);
      expect(await units()).toEqual([1, 0, 2]);
    },
  );

  it('outside of it is opened only if that is allowed', async () => {
    await describeDisk([one('../a.hds')], ALONE);
    await expandable('/a.hds', [1, 0, 2]);
    await expect(units()).rejects.toMatchObject({ kind: 'denied' });
    expect(await units(bundle(), ['/'])).toEqual([1, 0, 2]);
    // Nothing outside goes with the bundle.
    await removeImage(bundle());
    expect(await provider.lookUp('/a.hds')).not.toBeNull();
  });

  it.each<[string, () => Promise<void>, string, string]>([
    ['is missing', async () => {}, 'not-found', 'unreadable-file'],
    ['is too short', () => expandable(`${NAME}/a.hds`, [1, 2]), 'corrupt', 'file-too-short'],
    ['is no image', () => plain(`${NAME}/a.hds`, [1, 2, 3]), 'invalid-format', 'unreadable-file'],
    [
      'has other clusters',
      async () => {
        await createImage(at('/new.hds'), { size: 3 * UNIT, config: { cluster_size: UNIT / 2 } });
        await provider.rename('/new.hds', `${NAME}/a.hds`, { replace: false });
      },
      'corrupt',
      'other-clusters',
    ],
  ])('%s: the disk is refused, and the check says so', async (_, make, kind, code) => {
    await describeDisk([one('a.hds')], ALONE);
    await make();
    await expect(units()).rejects.toMatchObject({ kind });
    expect((await checkImage(bundle())).findings).toMatchObject([{ severity: 'corruption', code }]);
    expect((await removeImage(bundle())).removed.length).toBeGreaterThan(1);
    expect(await provider.lookUp(NAME)).toBeNull();
  });

  it('that is longer than the disk is what a cut of a resize left', async () => {
    await describeDisk([one('a.hds')], ALONE);
    await expandable(`${NAME}/a.hds`, [1, 2, 3, 4]);
    expect(await units()).toEqual([1, 2, 3]);
    const disk = await openDisk(bundle(), { mode: 'write' });
    await disk.resize(3 * UNIT);
    await disk.resize(4 * UNIT);
    await disk.close();
    expect(await units()).toEqual([1, 2, 3, 0]);
  });

  it('that no image consists of is reported, and stays', async () => {
    await describeDisk([one('a.hds')], ALONE);
    await expandable(`${NAME}/a.hds`, [1, 2, 3]);
    await expandable(`${NAME}/stray.hds`, [1, 2, 3]);
    expect((await checkImage(bundle(), { repair: true })).findings).toMatchObject([{ code: 'stray-file' }]);
    const { warnings } = await removeImage(bundle());
    expect(warnings).toMatchObject([expect.stringContaining('is left')]);
    expect(await provider.lookUp(`${NAME}/stray.hds`)).not.toBeNull();
  });
});
