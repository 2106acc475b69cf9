/** One cache file for every view of the images: it serves the state that it was closed for, and no other. */
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createImage, Disk, type DiskOpenOptions, inspectCache } from '../../index.ts';
import type { StorageRevision } from '../../storage/contract.ts';
import { forwardedProvider } from '../../storage/forwarding.ts';
import { localFiles } from '../../storage/local/provider.ts';
import { overriding } from '../../testing/overriding.ts';

const KIB = 1024;
const SIZE = 256 * KIB;
const CACHE = { size: 2 * KIB * KIB };
const ALLOW = { allow: ['same-directory'], flushAfterMs: 0 } as const;

let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-cache-states-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

async function fill(disk: Disk, value: number): Promise<void> {
  await disk.write(64 * KIB, new Uint8Array(128 * KIB).fill(value));
}

/** Outcome of one way to open the images. */
interface State {
  readonly title: string;
  readonly open: (cache?: DiskOpenOptions['cache']) => Promise<Disk>;
}

/** A QCOW2 image with two snapshots over a base with one; every state has unique content. */
async function makeStates(): Promise<State[]> {
  await createImage(at('base.qcow2'), { size: SIZE, format: 'qcow2' });
  {
    await using base = await Disk.open(at('base.qcow2'), { ...ALLOW, mode: 'write' });
    await base.write(0, new Uint8Array(64 * KIB).fill(90));
    await fill(base, 1);
    await base.snapshots.create('old');
    await fill(base, 2);
  }
  await createImage(at('d.qcow2'), { parent: at('base.qcow2'), parentFormat: 'qcow2', format: 'qcow2', ...ALLOW });
  {
    await using disk = await Disk.open(at('d.qcow2'), { ...ALLOW, mode: 'write' });
    await fill(disk, 3);
    await disk.snapshots.create('monday');
    await fill(disk, 4);
    await disk.snapshots.create('tuesday');
    await fill(disk, 5);
  }
  copyFileSync(at('d.qcow2'), at('copy.qcow2'));
  const open = (name: string, how: DiskOpenOptions) => (cache?: DiskOpenOptions['cache']) =>
    Disk.open(at(name), { ...ALLOW, ...how, ...(cache === undefined ? {} : { cache }) });
  const below = (snapshot: string) => ({ parent: { image: at('base.qcow2'), format: 'qcow2', snapshot } });
  return [
    { title: 'the image', open: open('d.qcow2', {}) },
    { title: 'snapshot monday', open: open('d.qcow2', { snapshot: 'monday' }) },
    { title: 'snapshot tuesday', open: open('d.qcow2', { snapshot: 'tuesday' }) },
    { title: 'a copy of the image', open: open('copy.qcow2', {}) },
    { title: 'the image over a snapshot of its parent', open: open('d.qcow2', below('old')) },
    { title: 'the parent', open: open('base.qcow2', {}) },
    { title: 'the snapshot of the parent', open: open('base.qcow2', { snapshot: 'old' }) },
    { title: 'the file as a raw disk', open: open('d.qcow2', { format: 'raw' }) },
  ];
}

async function contentOf(disk: Disk): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

const FILE = () => ({ file: at('c.vci'), ...CACHE });
const WAS_EMPTIED = expect.stringContaining('did not match the current state');

it('serves the state that it was closed for, and is emptied for every other', async () => {
  const states = await makeStates();
  const wanted = new Map<State, Buffer>();
  for (const state of states) {
    await using plain = await state.open();
    wanted.set(state, await contentOf(plain));
  }
  expect(new Set([...wanted.values()].map((bytes) => bytes.toString('latin1'))).size).toBeGreaterThanOrEqual(6);
  for (const before of states) {
    for (const after of states) {
      const title = `${before.title}, then ${after.title}`;
      rmSync(at('c.vci'), { force: true });
      for (const state of [before, before, after]) {
        await using disk = await state.open(FILE());
        expect((await contentOf(disk)).equals(wanted.get(state) ?? Buffer.alloc(0)), title).toBe(true);
        if (state !== after || before === after) continue;
        expect(disk.warnings, title).toEqual(expect.arrayContaining([WAS_EMPTIED]));
      }
      await using again = await after.open();
      const cached = await again.cache.open(at('c.vci')).then(() => again.cache.info?.cached ?? 0);
      expect(cached, title).toBeGreaterThan(0);
    }
  }
});

/** Changes a byte of the content behind the disk's back. */
function scribble(name: string, offset: number): void {
  const file = openSync(at(name), 'r+');
  writeSync(file, Uint8Array.of(255), 0, 1, offset);
  closeSync(file);
}

describe.each(['vdi', 'qcow2', 'raw'])('a cache of a %s image', (format) => {
  const name = `disk.${format}`;
  /** Position in the file of the byte at 70 KiB of the disk. */
  let place: number;

  const open = (options: DiskOpenOptions = {}) => Disk.open(at(name), { format, ...ALLOW, cache: FILE(), ...options });

  beforeEach(async () => {
    await createImage(at(name), { format, size: SIZE });
    await using disk = await Disk.open(at(name), { format, ...ALLOW, mode: 'write' });
    await fill(disk, 7);
    await disk.flush();
    const extent = await disk.extentAt(70 * KIB, 71 * KIB);
    place = extent.fileOffset ?? 0;
  });

  async function expectStale(): Promise<void> {
    await using plain = await Disk.open(at(name), { format, ...ALLOW });
    const wanted = await contentOf(plain);
    expect(wanted[70 * KIB]).toBe(255);
    await using disk = await open();
    expect(disk.warnings).toEqual([WAS_EMPTIED]);
    expect((await contentOf(disk)).equals(wanted)).toBe(true);
  }

  async function useIt(): Promise<void> {
    await using disk = await open();
    await contentOf(disk);
  }

  it('stays while nothing changes, and while the disk itself changes it', async () => {
    await useIt();
    for (let round = 1; round <= 3; round++) {
      await using disk = await open({ mode: 'write' });
      expect(disk.warnings).toEqual([]);
      expect(disk.cache.info?.cached).toBeGreaterThan(0);
      await disk.write(80 * KIB, new Uint8Array(4 * KIB).fill(round));
      const bytes = await contentOf(disk);
      expect([bytes[79 * KIB], bytes[80 * KIB]]).toEqual([7, round]);
    }
  });

  it('is emptied when another program wrote to the image and left its UUIDs alone', async () => {
    await useIt();
    scribble(name, place);
    await expectStale();
  });

  it('is emptied although the time of the change was set back', async () => {
    await useIt();
    const { atime, mtime } = statSync(at(name));
    scribble(name, place);
    utimesSync(at(name), atime, mtime);
    await expectStale();
  });

  it('is emptied when another file has the name now', async () => {
    await useIt();
    copyFileSync(at(name), at('other'));
    scribble('other', place);
    renameSync(at('other'), at(name));
    await expectStale();
  });

  it('is empty the next time when another program wrote while the disk was read', async () => {
    {
      await using disk = await open();
      await contentOf(disk);
      scribble(name, place);
    }
    expect(await inspectCache(at('c.vci'))).toMatchObject({ cached: 0, identity: null });
    await using disk = await open();
    expect((await contentOf(disk))[70 * KIB]).toBe(255);
  });

  /** Opens the image through a storage with a controlled clock. */
  function withClock(revision: (real: StorageRevision) => StorageRevision | undefined) {
    const provider = localFiles();
    return forwardedProvider(provider, {
      open: async (file, mode) => {
        const storage = await provider.open(file, mode);
        return overriding(storage, {
          identity: async () => {
            const { revision: real, ...identity } = await storage.identity();
            const told = real === undefined ? undefined : revision(real);
            return told === undefined ? identity : { ...identity, revision: told };
          },
        });
      },
    });
  }

  it.each<[string, (real: StorageRevision) => StorageRevision | undefined]>([
    ['no state is told', () => undefined],
    [
      'times have whole seconds, and the last change was just now',
      (real) => ({ ...real, atMs: Date.now(), tickMs: 2500 }),
    ],
  ])('is empty the next time where %s', async (_, revision) => {
    {
      await using disk = await Disk.open({ provider: withClock(revision), name: at(name) }, { format, cache: FILE() });
      await contentOf(disk);
    }
    expect(await inspectCache(at('c.vci'))).toMatchObject({ cached: 0, identity: null });
  });

  it('is kept where the last change came just now, once the file stayed as it is for a tick', async () => {
    let ticks = 0;
    let changes = false;
    const clock = withClock(() => ({ text: changes ? `${++ticks}` : 'some', atMs: Date.now() + 1e6, tickMs: 1 }));
    const session = async (): Promise<number> => {
      await using disk = await Disk.open({ provider: clock, name: at(name) }, { format, mode: 'write', cache: FILE() });
      await disk.write(0, Uint8Array.of(1));
      await contentOf(disk);
      return disk.cache.info?.cached ?? 0;
    };
    await session();
    expect((await inspectCache(at('c.vci'))).cached).toBeGreaterThan(0);
    changes = true;
    await session();
    expect(await inspectCache(at('c.vci'))).toMatchObject({ cached: 0, identity: null });
  });
});
