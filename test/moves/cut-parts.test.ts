/**
 * The power goes while an image of several files is renamed, moved, converted in a move, deleted or merged: what is found
 * reads as before, the same command ends well, and no file is left that nothing names.
 */
import { describe, expect, it } from 'vitest';
import { createImage, Disk, isImageError, moveImage, removeImage, renameImage } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { ForwardingProvider } from '../../src/storage/forwarding.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, RecordingProvider } from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';

const SIZE = 256 * 1024;
const FROM = '/a/disk.vmdk';
const OPEN = { flushAfterMs: 0, lock: false, allow: ['/a', '/b'] } as const;
const OPTIONS = { allow: ['/a', '/b'] };

const KINDS = [
  { title: 'split', variant: ['split'], flat: false },
  { title: 'fixed', variant: ['fixed'], flat: true },
  { title: 'delta file of ESX', variant: ['dynamic', 'esx'], flat: false },
] as const;

interface Change {
  readonly title: string;
  /** Name of the image afterwards; null: it is gone. */
  readonly to: string | null;
  run(provider: StorageProvider): Promise<unknown>;
}

const at = (provider: StorageProvider, name: string) => ({ provider, name });
const CHANGES: readonly Change[] = [
  { title: 'renamed', to: '/a/new.vmdk', run: (files) => renameImage(at(files, FROM), '/a/new.vmdk', OPTIONS) },
  {
    title: 'moved',
    to: '/b/new.vmdk',
    run: (files) => moveImage(at(files, FROM), at(files, '/b/new.vmdk'), OPTIONS),
  },
  {
    title: 'moved into another format',
    to: '/a/new.qcow2',
    run: (files) => moveImage(at(files, FROM), at(files, '/a/new.qcow2'), { ...OPTIONS, to: 'qcow2' }),
  },
  { title: 'deleted', to: null, run: (files) => removeImage(at(files, FROM), OPTIONS) },
];

/** Without hard links, as on a FAT file system. */
class Linkless extends MemoryProvider {
  override link = undefined as never;
}

async function make(files: StorageProvider, name: string, variant: readonly string[], parent?: string): Promise<void> {
  const over = parent === undefined ? { size: SIZE } : { parent: at(files, parent), parentFormat: 'vmdk' };
  await createImage(at(files, name), { format: 'vmdk', variant, config: grains(variant), allow: ['/a'], ...over });
  await using disk = await Disk.open(at(files, name), { ...OPEN, mode: 'write' });
  const start = parent === undefined ? 0 : 20 * 1024 * Number(/\d/.exec(name)?.[0] ?? 1);
  await disk.write(start, new Uint8Array(64 * 1024).fill(start / 1024 + 1));
}

const grains = (variant: readonly string[]) => (variant.includes('split') ? { grain_size: 4096 } : {});

async function contentOf(files: StorageProvider, name: string): Promise<Buffer> {
  await using disk = await Disk.open(at(files, name), OPEN);
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** Null: it is not there, or not all of it. */
async function found(files: StorageProvider, name: string): Promise<Buffer | null> {
  try {
    return await contentOf(files, name);
  } catch (error) {
    if (isImageError(error)) return null;
    throw error;
  }
}

async function namesIn(files: StorageProvider): Promise<string[]> {
  const names: string[] = [];
  for (const directory of ['/a', '/b']) for await (const name of files.list(directory)) names.push(name);
  // A cut leaves files that were not named yet.
  return names.filter((name) => !/(\/x|\.vdkit-tmp)$/.test(name)).sort();
}

async function placed(files: MemoryProvider): Promise<MemoryProvider> {
  // A directory is there by what it has in it.
  for (const name of ['/a/x', '/b/x']) await (await files.create(name)).close();
  return files;
}

describe.each(KINDS)('an image of several files: $title', ({ variant }) => {
  describe.each([
    ['with hard links', MemoryProvider],
    ['without hard links', Linkless],
  ])('%s', (_, Files) => {
    // To convert is slow, and the kind of image matters little to it: one of them in the usual run.
    const converts = rounds(0, 1) === 1 || (variant[0] === 'fixed' && Files === Linkless);
    it.each(CHANGES.filter(({ to }) => converts || to !== '/a/new.qcow2'))('is $title', async ({ to, run }) => {
      const files = await placed(new Files());
      await make(files, FROM, variant);
      const wanted = await contentOf(files, FROM);
      const parts = (await namesIn(files)).filter((name) => name !== FROM);
      const recorder = new RecordingProvider(files);
      await run(recorder);
      const after = await namesIn(files);
      let states = 0;
      for (const state of crashStates(recorder.log, files, { maxStates: rounds(30, 1500), everyCut: rounds(3, 1) })) {
        states++;
        const provider = new ForwardingProvider(state.provider, files.link === undefined ? ['link'] : []);
        const own = [await found(provider, FROM), to === null ? null : await found(provider, to)];
        for (const one of own) if (one !== null) expect(one.equals(wanted), state.describe()).toBe(true);
        if (to !== null)
          expect(
            own.some((one) => one !== null),
            state.describe(),
          ).toBe(true);
        if (own[0] !== null) await run(provider);
        // Its parts went first, when all of it was somewhere else, or was to go.
        else if ((await provider.lookUp(FROM)) !== null) await removeImage(at(provider, FROM), OPTIONS);
        // Once the image has its new name only, its parts may have both.
        const left = (await namesIn(provider)).filter((name) => after.includes(name) || !parts.includes(name));
        expect(left, state.describe()).toEqual(after);
        if (to !== null) expect((await contentOf(provider, to)).equals(wanted), state.describe()).toBe(true);
      }
      expect(states).toBeGreaterThan(1);
    });
  });
});

describe('a chain of split images', () => {
  it.each([
    [2, 0, [0]],
    [2, 1, [0, 1]],
    [1, 0, [0, 2]],
    [0, 1, [1, 2]],
    [0, 2, [2]],
  ] as const)('merged from %i to %i', async (from, to, left) => {
    const files = await placed(new MemoryProvider());
    const names = [0, 1, 2].map((number) => `/a/${number}.vmdk`);
    for (const [number, name] of names.entries()) await make(files, name, ['split'], names[number - 1]);
    const wanted = await contentOf(files, names[2] ?? '');
    const merge = async (provider: StorageProvider): Promise<void> => {
      await using disk = await Disk.open(at(provider, names[2] ?? ''), { ...OPEN, mode: 'write' });
      await disk.merge(from, to);
    };
    const recorder = new RecordingProvider(files);
    await merge(recorder);
    const last = names[left.at(-1) ?? 0] ?? '';
    const after = left.flatMap((number) => [`/a/${number}-s001.vmdk`, `/a/${number}.vmdk`]);
    expect(await namesIn(files)).toEqual(after);
    let states = 0;
    for (const state of crashStates(recorder.log, files, { maxStates: rounds(20, 1500), everyCut: rounds(16, 1) })) {
      states++;
      const top = (await state.provider.lookUp(names[2] ?? '')) === null ? last : (names[2] ?? '');
      expect((await contentOf(state.provider, top)).equals(wanted), state.describe()).toBe(true);
      if (top !== names[2] || (await namesIn(state.provider)).join() === after.join()) continue;
      await merge(state.provider).catch((error: unknown) => {
        // The record knows files by their identities, which the files of a state do not keep.
        if (!isImageError(error) || error.kind !== 'busy') throw error;
      });
      const found = (await state.provider.lookUp(top)) === null ? last : top;
      expect((await contentOf(state.provider, found)).equals(wanted), state.describe()).toBe(true);
    }
    expect(states).toBeGreaterThan(2);
  });
});
