/**
 * The power goes while an image is resized: it opens for writing, and has the size of before or of after with its
 * content. Mutants break the order of the writes, each of which must be noticed.
 */
import { describe, expect, it, vi } from 'vitest';
import { rounds } from '../../../test/conformance/random.ts';
import { storages } from '../../../test/faults/mutations.ts';
import {
  CASES,
  type Case,
  contentOf,
  type Ends,
  endsOf,
  NAME,
  OPEN,
  Reserving,
  resize,
  start,
} from '../../../test/formats/vmdk/resized.ts';
import { Disk, isImageError } from '../../index.ts';
import type { Storage, StorageProvider } from '../../storage/contract.ts';
import { crashStates, RecordingProvider } from '../../testing/index.ts';
import { overriding } from '../../testing/overriding.ts';
import { WrittenSparse } from './extents/sparse-written.ts';

/** Recording reads all of each file, so those of 2 GiB are left out; extents that share a file get new ones all the same. */
const RECORDED = CASES.filter(({ sizes }) => sizes[1] < 2 ** 30);
const caseOf = (title: string): Case => {
  const found = RECORDED.find((one) => one.title === title);
  if (found === undefined) throw new Error(`there is no case ${title}`);
  return found;
};

interface Cuts {
  readonly one: Case;
  readonly grows: boolean;
  readonly states: number;
  /** Put around the provider while the image is resized. */
  readonly wrap?: (provider: StorageProvider) => StorageProvider;
}

/** Problems in the states that a power cut may leave, up to three of them. */
async function problemsOf({ one, grows, states, wrap = (provider) => provider }: Cuts): Promise<string[]> {
  const ends = await endsOf(one, grows);
  const files = new Reserving();
  await start(files, one, grows);
  const recorder = new RecordingProvider(files);
  await resize(wrap(recorder), ends.to);
  vi.restoreAllMocks();
  const problems: string[] = [];
  let count = 0;
  for (const state of crashStates(recorder.log, files, { maxStates: states })) {
    count++;
    const problem = await problemIn(state.provider, one, ends);
    if (problem !== null) problems.push(`${problem}: ${state.describe()}`);
    if (problems.length === 3) break;
  }
  expect(count).toBeGreaterThan(10);
  return problems;
}

async function problemIn(provider: StorageProvider, one: Case, { states }: Ends): Promise<string | null> {
  try {
    const { size, found } = await contentOf(provider, one);
    const wanted = states.get(size)?.content;
    if (wanted === undefined) return `the size is ${size}`;
    for (const [offset, value] of wanted)
      if (found.get(offset) !== value) return `${offset} reads ${found.get(offset)}`;
    await (await Disk.open({ provider, name: NAME }, OPEN)).close();
    return null;
  } catch (error) {
    if (isImageError(error)) return error.message;
    throw error;
  }
}

describe.each(RECORDED)('the power goes while an image is resized: $title', (one) => {
  it.each([
    ['larger', true],
    ['smaller', false],
  ])('becomes %s, or stays as it was', async (_, grows) => {
    expect(await problemsOf({ one, grows, states: rounds(36, 1500) })).toEqual([]);
  });
});

/** The flush that follows the growth of a file does nothing. */
const growthUnflushed = (): Mutated =>
  storages((storage) => {
    let grew = false;
    const growing = async (end: number, run: () => Promise<void>): Promise<void> => {
      grew ||= end > storage.size;
      await run();
    };
    return {
      resize: (size, options) => growing(size, () => storage.resize(size, options)),
      allocate: (offset, length, options) =>
        growing(offset + length, async () => storage.allocate?.(offset, length, options)),
      write: (offset, source, options) => growing(offset + 1, () => storage.write(offset, source, options)),
      flush: async (options) => {
        if (!grew) await storage.flush(options);
        grew = false;
      },
    };
  });

/** Files that are made are flushed by what comes later only. */
const partsUnflushed = (): Mutated => ({
  wrap: (provider) =>
    overriding<StorageProvider>(provider, {
      create: async (name, how) => overriding<Storage>(await provider.create(name, how), { flush: async () => {} }),
    }),
});

/** The descriptor is flushed by what comes later only. */
const descriptorUnflushed = (): Mutated => ({
  wrap: (provider) =>
    overriding<StorageProvider>(provider, {
      open: async (name, mode) => {
        const storage = await provider.open(name, mode);
        return name === NAME ? overriding<Storage>(storage, { flush: async () => {} }) : storage;
      },
    }),
});

const namesUnflushed = (): Mutated => ({
  wrap: (provider) => overriding<StorageProvider>(provider, { syncNames: async () => {} }),
});

/** A shorter extent loses the end of its file before its tables. */
function tailFirst(): Mutated {
  const { shrink } = WrittenSparse.prototype;
  vi.spyOn(WrittenSparse.prototype, 'shrink').mockImplementation(async function (this: WrittenSparse, length, options) {
    const { grainBytes, overhead } = this.layout;
    let end = overhead;
    for (let offset = 0; offset < length; offset += grainBytes) {
      const mapping = await this.map(offset, 1);
      if (mapping.kind === 'data') end = Math.max(end, mapping.fileOffset + grainBytes);
    }
    if (end < this.storage.size) await this.storage.resize(end);
    await this.storage.flush();
    await shrink.call(this, length, options);
  });
  return {};
}

interface Mutated {
  readonly wrap?: (provider: StorageProvider) => StorageProvider;
}

const MUTANTS: readonly (readonly [name: string, title: string, grows: boolean, mutate: () => Mutated])[] = [
  ['directories switched before they are durable', 'sparse, directories move', true, growthUnflushed],
  ['line of the last extent before its length', 'flat', true, growthUnflushed],
  ['line of a new extent before its content', 'extents that share a file', true, partsUnflushed],
  ['line of a new extent before its name', 'extents that share a file', true, namesUnflushed],
  ['extents deleted before their lines', 'extents that share a file', false, descriptorUnflushed],
  ['end of an extent cut off before its line is shorter', 'flat', false, descriptorUnflushed],
  ['end of an extent cut off before its tables are shorter', 'sparse', false, tailFirst],
];

describe('a mutant of the resize is caught', () => {
  it.each(MUTANTS)('%s', async (_, title, grows, mutate) => {
    const { wrap } = mutate();
    const problems = await problemsOf({
      one: caseOf(title),
      grows,
      states: 300,
      ...(wrap === undefined ? {} : { wrap }),
    });
    expect(problems).not.toEqual([]);
  });
});
