/**
 * Operations on chains that are cut at any change and then called again as they were typed: they end as one that was not
 * cut, with the same files, the same content, and sound images.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkImage, createImage, Disk, FORMATS, isImageError, rebaseImage } from '../../src/index.ts';
import { localFiles } from '../../src/storage/local/index.ts';
import { type FaultPoint, FaultProvider } from '../../src/testing/fault-storage.ts';
import { runCli } from '../cli/run-cli.ts';
import { unitsOf } from '../conformance/kits.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { rounds } from '../conformance/random.ts';

const UNIT = 4096;
const SIZE = 16 * UNIT;
const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;
/** Changes a process makes to its files; none take effect after a cut. */
const CHANGES: readonly FaultPoint[] = ['write', 'names'];

const DIFFING = FORMATS.filter(({ capabilities }) => capabilities.write && capabilities.diff).map(
  ({ name }) => [name, unitsOf(name, UNIT)] as const,
);

interface Operation {
  readonly words: readonly string[];
  /** Images that are there afterwards. */
  readonly left: readonly number[];
  run(place: Place): Promise<unknown>;
}

/** Files of the chain: images 0 to 3, base first, and another image of the same disk. */
interface Place {
  readonly folder: string;
  readonly provider: FaultProvider;
  at(name: number | string): { readonly provider: FaultProvider; readonly name: string };
  open(): Promise<Disk>;
}

const all = [0, 1, 2, 3];
const withDisk = (work: (disk: Disk) => Promise<unknown>) => async (place: Place) => {
  const disk = await place.open();
  try {
    await work(disk);
  } finally {
    await disk.close();
  }
};
const merge = (from: number, to: number, words: readonly string[], left: readonly number[]): Operation => ({
  words: ['merge', '@3', ...words],
  left,
  run: withDisk((disk) => disk.merge(from, to)),
});

const OPERATIONS: readonly Operation[] = [
  { words: ['commit', '@3'], left: all, run: withDisk((disk) => disk.commit()) },
  { words: ['commit', '@3', '--base', '0'], left: all, run: withDisk((disk) => disk.commit({ base: 0 })) },
  { words: ['commit', '@3', '--base', '1'], left: all, run: withDisk((disk) => disk.commit({ base: 1 })) },
  {
    words: ['commit', '@3', '--base', '0', '--keep'],
    left: all,
    run: withDisk((disk) => disk.commit({ base: 0, keep: true })),
  },
  merge(3, 2, [], [0, 1, 2]),
  merge(3, 0, ['--to-image', '0'], [0]),
  merge(3, 1, ['--from', '3', '--to-image', '1'], [0, 1]),
  merge(2, 1, ['--from', '2', '--to-image', '1'], [0, 1, 3]),
  merge(2, 0, ['--from', '2', '--to-image', '0'], [0, 3]),
  merge(0, 1, ['--from', '0'], [1, 2, 3]),
  merge(0, 3, ['--from', '0', '--to-image', 'last'], [3]),
  merge(1, 2, ['--from', '1', '--to-image', '2'], [0, 2, 3]),
  merge(1, 3, ['--from', '1', '--to-image', '3'], [0, 3]),
  {
    words: ['rebase', '@3', '--to', '@0'],
    left: all,
    run: ({ at }) => rebaseImage(at(3), at(0), OPEN),
  },
  {
    words: ['rebase', '@3', '--to', '@0', '--parent', '@2'],
    left: all,
    run: ({ at }) => rebaseImage(at(3), at(0), { ...OPEN, oldParent: at(2) }),
  },
  { words: ['rebase', '@3', '--to', 'none'], left: all, run: ({ at }) => rebaseImage(at(3), null, OPEN) },
];

/** One in this many changes of an operation is cut in the usual run. */
function stepOf({ words }: Operation, point: FaultPoint, count: number): number {
  if (point === 'names') return 8;
  // A rebase, and a commit that keeps, write little: three of their writes count.
  return words[0] === 'rebase' || words.includes('--keep') ? Math.ceil(count / 3) : 60;
}

describe.each(DIFFING)('run again as it was typed: %s', (format, config) => {
  let top: string;
  beforeAll(async () => {
    top = mkdtempSync(join(memoryFolder(), 'vdkit-again-'));
    const place = placeOf(join(top, 'origin'));
    for (const number of all) {
      const over = number === 0 ? { size: SIZE } : { parent: place.at(number - 1), parentFormat: format };
      await createImage(place.at(number), { format, config, ...over });
      await using disk = await Disk.open(place.at(number), { ...OPEN, mode: 'write', format });
      await disk.write(number * 2 * UNIT, new Uint8Array(4 * UNIT).fill(number + 1));
    }
  });
  afterAll(() => rmSync(top, { recursive: true, force: true }));

  function placeOf(folder: string): Place {
    mkdirSync(folder, { recursive: true });
    const provider = new FaultProvider(localFiles());
    const at = (name: number | string) => ({ provider, name: join(folder, `${name}.${format}`) });
    const open = () => Disk.open(at(3), { ...OPEN, mode: 'write', format });
    return { folder, provider, at, open };
  }

  function fresh(): Place {
    rmSync(join(top, 'work'), { recursive: true, force: true });
    cpSync(join(top, 'origin'), join(top, 'work'), { recursive: true });
    return placeOf(join(top, 'work'));
  }

  const files = ({ folder }: Place): string[] =>
    readdirSync(folder)
      .filter((name) => !name.startsWith('.'))
      .sort();

  async function content(place: Place, number: number): Promise<string> {
    await using disk = await Disk.open(place.at(number), { ...OPEN, format });
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    return Buffer.from(bytes).toString('base64');
  }

  /** Cuts an operation at a change and calls it again. False: it ended before. */
  async function cutAndAgain(
    operation: Operation,
    point: FaultPoint,
    number: number,
    wanted: string,
  ): Promise<boolean> {
    const place = fresh();
    place.provider.plan({ fail: { [point]: number }, forGood: ['write', 'growth', 'flush', 'names'] });
    let cut = false;
    await operation.run(place).catch((error: unknown) => {
      if (!isImageError(error)) throw error;
      cut = true;
    });
    const { fired } = place.provider;
    place.provider.plan({});
    if (!cut) return fired;
    const where = `${operation.words.join(' ')} cut at ${point} ${number}`;
    const words = operation.words.map((word) => word.replace(/^@(.*)$/, (_, name) => place.at(name).name));
    const { status, stderr } = await runCli(words);
    expect({ where, status, stderr }).toMatchObject({ status: 0 });
    expect({ where, files: files(place) }).toEqual({ where, files: operation.left.map((one) => `${one}.${format}`) });
    const last = operation.left.at(-1) ?? 0;
    expect({ where, same: (await content(place, last)) === wanted }).toEqual({ where, same: true });
    for (const one of operation.left) {
      const { findings } = await checkImage(place.at(one), { format });
      expect({ where, findings: findings.filter(({ severity }) => severity === 'corruption') }).toEqual({
        where,
        findings: [],
      });
    }
    return true;
  }

  it.each(OPERATIONS.map((operation, index) => [operation.words.join(' '), operation, index] as const))(
    '%s',
    async (_, operation, index) => {
      const place = fresh();
      const wanted = await content(place, 3);
      await operation.run(place);
      const { counts } = place.provider;
      expect(files(place)).toEqual(operation.left.map((one) => `${one}.${format}`));
      let cuts = 0;
      for (const point of CHANGES) {
        const step = rounds(stepOf(operation, point, counts[point]), 1);
        // Each operation begins at another change, so that together they meet all.
        const first = index % Math.max(Math.min(step, counts[point]), 1);
        for (let number = first; await cutAndAgain(operation, point, number, wanted); number += step) cuts++;
      }
      expect(cuts).toBeGreaterThan(0);
    },
  );

  it.each(['commit @3 --base 0', 'commit @3', 'rebase @3 --to @0'])(
    'does nothing once it has ended: %s',
    async (text) => {
      const place = fresh();
      const wanted = await content(place, 3);
      const words = text.split(' ').map((word) => word.replace(/^@(.*)$/, (_, name) => place.at(name).name));
      for (let times = 0; times < 2; times++) {
        const { status, stderr } = await runCli(words);
        expect({ status, stderr }).toMatchObject({ status: 0 });
      }
      expect(await content(place, 3)).toBe(wanted);
    },
  );
});
