/** Chains of three images of one format for the power cuts: how they are made and opened, and what is done to them. */
import { SECTOR } from '../../src/binary/numbers.ts';
import { createImage, Disk } from '../../src/index.ts';
import { checkImage } from '../../src/operations/check.ts';
import { copyChain } from '../../src/operations/copy.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import {
  type CrashSession,
  type CrashSuite,
  initialBytes,
  randomTraffic,
  writeBytes,
} from '../../src/testing/index.ts';
import { unitsOf } from '../conformance/kits.ts';
import { REGISTRY } from './ways.ts';
import { scattered, type Workload } from './workloads.ts';

const PATCH = 16;

/** Sectors of which patches each image stores; below lies something that must never show. */
const storedBy = (level: number, sector: number): boolean => Math.floor(sector / PATCH) % 4 === level;
const hasInitial = (sector: number): boolean => [0, 1, 2].some((level) => storedBy(level, sector));

/** Parts of {@link Chains}. */
export interface ChainParts {
  readonly format: string;
  /** Bytes of a unit of each image, base first; what the format has that comes next. */
  readonly units: readonly number[];
  /** Bytes of the disk. */
  readonly size: number;
}

/** Chains of one format. */
export class Chains {
  readonly #format: string;
  readonly #units: readonly number[];
  readonly #size: number;
  readonly #extension: string;

  constructor({ format, units, size }: ChainParts) {
    this.#format = format;
    this.#units = units;
    this.#size = size;
    this.#extension = REGISTRY.find(format).extensions[0]?.extension ?? format;
  }

  /** Name of an image of the chain. */
  name(level: number): string {
    return `/${level}.${this.#extension}`;
  }

  /** A workload on a chain; `image` is there in all of it. */
  suite(image: number, sessions: readonly Workload[], seed: number): CrashSuite {
    return {
      provider: new MemoryProvider(),
      image: this.name(image),
      size: this.#size,
      seed,
      prepare: (provider) => this.#make(provider),
      hasInitial,
      build: async () => {},
      open: (provider) => this.#openTop(provider),
      sessions,
      // Opening for writing looks at every map already.
      check: async ({ provider, stage }) => (stage === 'found' ? [] : this.#corruption(provider)),
    };
  }

  /** A chain is copied; the copy is there in full, or its last image is not there. */
  copySuite(seed: number): CrashSuite {
    const copy = (level: number): string => `/copy${level}.${this.#extension}`;
    return {
      ...this.suite(2, [(session) => guest(session, 12)], seed),
      image: copy(2),
      build: async (provider) => {
        const disk = await this.#openTop(provider);
        await copyChain(disk, (_, level) => ({ provider, name: copy(level) }), { provider });
        await disk.close();
      },
      open: (provider) =>
        Disk.open(
          [0, 1, 2].map((level) => ({ provider, name: copy(level) })),
          { mode: 'write', flushAfterMs: 0, format: this.#format },
        ),
    };
  }

  async #make(provider: StorageProvider): Promise<void> {
    for (const [level, units] of this.#units.entries()) {
      const image = { provider, name: this.name(level) };
      const config = unitsOf(this.#format, units);
      const shape = level === 0 ? { size: this.#size } : { parent: { provider, name: this.name(level - 1) } };
      await createImage(image, { provider, format: this.#format, config, ...shape });
      const disk = await this.#open(provider, level);
      for (let sector = 0; sector < this.#size / SECTOR; sector += PATCH) await fill(disk, level, sector);
      await disk.close();
    }
  }

  #open(provider: StorageProvider, level: number): Promise<Disk> {
    const options = { mode: 'write', flushAfterMs: 0, format: this.#format, allow: ['same-directory'] } as const;
    return Disk.open({ provider, name: this.name(level) }, { provider, ...options });
  }

  /** The highest image that is there is the last one. */
  async #openTop(provider: StorageProvider): Promise<Disk> {
    for (let level = 3; level > 0; level--)
      if ((await provider.lookUp(this.name(level))) !== null) return this.#open(provider, level);
    return this.#open(provider, 0);
  }

  /** No image of the chain is corrupt. Room may be lost. */
  async #corruption(provider: StorageProvider): Promise<string[]> {
    const problems: string[] = [];
    for (let level = 0; level <= 3; level++) {
      const name = this.name(level);
      if ((await provider.lookUp(name)) === null) continue;
      const { findings } = await checkImage({ provider, name }, { format: this.#format, lock: false });
      const found = findings.filter(({ severity }) => severity === 'corruption');
      problems.push(...found.map(({ message }) => `${name}: ${message}`));
    }
    return problems;
  }

  /** A snapshot is taken, written to, and dropped again. */
  get stacked(): Workload {
    return async (session) => {
      const disk = session.disk as Disk;
      const config = unitsOf(this.#format, this.#units[0] ?? SECTOR);
      await guest(session, 8);
      await session.structural('createDiff', () => disk.createDiff(this.name(3), { config }));
      await scattered(4)(session);
      await session.merge(3, 2);
      await guest(session, 8);
    };
  }
}

/** Data of an image; at places that of one above it that hides this. */
async function fill(disk: Disk, level: number, sector: number): Promise<void> {
  const write = (bytes: Uint8Array): Promise<void> => disk.write(sector * SECTOR, bytes);
  if (storedBy(level, sector)) await write(initialBytes(sector, PATCH));
  else if (storedBy(level + 1, sector)) {
    // Hidden by the next image.
    await write(writeBytes({ number: 0x3fff_ffff - level, sector, count: PATCH }));
  }
  if (level === 2 && storedBy(3, sector)) await disk.zero(sector * SECTOR, PATCH * SECTOR);
}

const guest = (session: CrashSession, operations: number): Promise<void> =>
  randomTraffic(session, { operations, unit: 4, flushes: 0.15, discards: 0.1 });

/** A guest works before, during and after. */
export const merged =
  (from: number, to: number): Workload =>
  async (session) => {
    await scattered(5)(session);
    await Promise.all([session.merge(from, to), scattered(8)(session).then(() => guest(session, 15))]);
    await guest(session, 8);
  };
