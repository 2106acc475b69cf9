/**
 * Delta files of ESX for the power-cut suites: a base, and a child over a flat disk of ESX. Grains of one sector and two
 * grain tables make each flush publish parts of both, and give new ones room.
 */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { vmdk } from '../../../src/formats/vmdk/index.ts';
import { COWD_HEADER } from '../../../src/formats/vmdk/layout.ts';
import { createImage, Disk } from '../../../src/index.ts';
import { lengthOf } from '../../../src/storage/checks.ts';
import type { StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { checkWith } from '../../../src/testing/format-files.ts';
import { type CrashCheck, type CrashSession, type CrashSuite, initialBytes } from '../../../src/testing/index.ts';
import { stageLast, storages } from '../../faults/mutations.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { CrashKit, CrashRow, Mutant, Mutation } from '../crash-kit.ts';

const IMAGE = '/disk.vmdk';
const DELTA = '/disk-delta.vmdk';
const PARENT = '/parent.vmdk';
/** Two tables, the last of them not whole. */
const SECTORS = 4096 + 203;

export interface CowdSuiteOptions extends Mutation {
  readonly seed: number;
  readonly sessions: CrashSuite['sessions'];
  readonly over: boolean;
}

/** An empty delta file, and whatever the sessions do with it. */
export function cowdSuite({ seed, sessions, over, registry, wrap = (bare) => bare }: CowdSuiteOptions): CrashSuite {
  const formats = registry === undefined ? {} : { registry };
  return {
    provider: new MemoryProvider(),
    image: IMAGE,
    size: SECTORS * SECTOR,
    seed,
    ...(over ? { prepare: makeParent, hasInitial } : {}),
    build: async (bare) => {
      const provider = wrap(bare);
      const parent = over ? { parent: { provider, name: PARENT } } : { size: SECTORS * SECTOR };
      await createImage(
        { provider, name: IMAGE },
        { format: 'vmdk', variant: ['dynamic', 'esx'], ...parent, ...formats },
      );
    },
    open: (bare) => {
      const provider = wrap(bare);
      const image = { provider, name: IMAGE };
      const chain = over ? [{ provider, name: PARENT }, image] : image;
      return Disk.open(chain, { mode: 'write', flushAfterMs: 0, format: 'vmdk', ...formats });
    },
    sessions,
    check: brokenRules,
  };
}

function hasInitial(sector: number): boolean {
  return sector < SECTORS && Math.floor(sector / 40) % 3 === 0;
}

async function makeParent(provider: StorageProvider): Promise<void> {
  const source = { provider, name: PARENT };
  await createImage(source, { format: 'vmdk', variant: ['fixed', 'esx'], size: SECTORS * SECTOR });
  await using disk = await Disk.open(source, { mode: 'write', flushAfterMs: 0 });
  for (let sector = 0; sector < SECTORS; sector += 120) {
    await disk.write(sector * SECTOR, initialBytes(sector, Math.min(40, SECTORS - sector)));
  }
}

/** A check finds no damage, a count that is too low among it; and the mark of a session is gone when it ended. */
async function brokenRules({ provider, stage }: CrashCheck): Promise<readonly string[]> {
  const findings = await checkWith(vmdk, { provider, name: IMAGE });
  const damage = findings.filter(({ severity }) => severity === 'corruption').map(({ message }) => message);
  if (stage === 'found') return damage;
  const storage = await provider.open(DELTA, 'read');
  const header = new Uint8Array(COWD_HEADER.size);
  await storage.read(0, header);
  const unclean = COWD_HEADER.get(header, 'unclean') !== 0;
  await storage.close();
  return unclean ? [...damage, 'The mark of an unclean end is still there'] : damage;
}

/** Fills ranges of both tables, the second one behind what is given up then, so that it moves when it is compacted. */
async function packed(session: CrashSession): Promise<void> {
  await session.write(0, 90);
  await session.flush();
  await session.write(4096, 20);
  await session.flush();
  await session.discard(10, 70);
  await session.write(300, 7);
  await session.compact();
  await session.write(4150, 9);
}

const busy = traffic(50, { discards: 0.15 });

/** Each state is read as a whole, and this disk is larger than those of the other ways. */
const fewer: Pick<CrashRow, 'seeds' | 'states'> = { seeds: [1, 10], states: [110, 1000] };

const ROWS: readonly CrashRow[] = [
  {
    title: 'delta file: traffic',
    suite: (seed) => cowdSuite({ over: false, seed, sessions: [busy, scattered(6)] }),
    options: {},
    ...fewer,
  },
  {
    title: 'delta file over a flat disk: traffic',
    suite: (seed) => cowdSuite({ over: true, seed, sessions: [busy, scattered(6)] }),
    options: {},
    ...fewer,
  },
  {
    title: 'delta file: compact',
    suite: (seed) => cowdSuite({ over: false, seed, sessions: [packed] }),
    options: {},
    ...fewer,
  },
];

/** The count of used sectors is durable after the entries that name what it counts. */
const countLast: Mutant = {
  name: 'count of a delta file after its entries',
  mutate: stageLast,
  suite: (mutation) => cowdSuite({ over: false, seed: 21, sessions: [scattered(6)], ...mutation }),
};

/** The directory names the place of a grain table, a new or a moved one, before that holds it. */
const tableLast: Mutant = {
  name: 'entry of a grain table before the table',
  mutate: () =>
    storages((storage) => {
      let isTable = false;
      return {
        write: (offset, source) => {
          isTable = lengthOf(source) === 4096 * 4;
          return storage.write(offset, source);
        },
        flush: async () => {
          if (!isTable) await storage.flush();
        },
      };
    }),
  suite: (mutation) => cowdSuite({ over: false, seed: 5, sessions: [packed], ...mutation }),
};

/** The part of the kit about delta files. */
export const cowdCrashes: Pick<CrashKit, 'rows' | 'mutants'> = { rows: ROWS, mutants: [countLast, tableLast] };
