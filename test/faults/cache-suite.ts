/**
 * Chains with a cache for the power-cut suite: images and cache file are recorded together, in sessions with the cache,
 * without it, and with it for a part of the time. What is compared after a cut is the chain with the cache and without.
 */
import { SECTOR } from '../../src/binary/numbers.ts';
import { HEADER } from '../../src/formats/vci/layout.ts';
import { LINE } from '../../src/formats/vci/lines.ts';
import { createImage, Disk, inspectCache } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { forwardedProvider } from '../../src/storage/forwarding.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { type CrashState, crashStates, type OperationLog, Random, RecordingProvider } from '../../src/testing/index.ts';
import { overriding } from '../../src/testing/overriding.ts';
import { rounds } from '../conformance/random.ts';

const NAMES = ['/0.vdi', '/1.vdi'] as const;
const CACHE = '/c.vci';
const MIB = 1024 * 1024;
/** More lines than the cache has, each of them with a block, so that it evicts. */
const PIECES = 100;
const SIZE = PIECES * LINE;
const BLOCK = 4096;
const CACHE_BYTES = 2 * MIB;
const CONFIG = { AllocationBlockSize: BLOCK, DataAlignment: SECTOR };
const OPEN = { format: 'vdi', flushAfterMs: 0, lock: false } as const;

/** Headers and maps; what is filled into the cache is data. */
const isMetadata = (name: string, offset: number): boolean =>
  offset < (name === CACHE ? HEADER.size + 2 * SECTOR : SECTOR + 4 * (SIZE / BLOCK));

/** Marks of sessions: lines go to others while the images stay as they are; the cache is closed and opened again. */
export const ONLY_READING = 'only reading';
export const IN_THE_MIDDLE = 'closed and opened in the middle';

/** A recorded run. */
export interface CacheRun {
  readonly provider: StorageProvider;
  readonly log: OperationLog;
}

/** Findings in the states of a run. */
export interface CacheReport {
  readonly states: number;
  /** States in which the cache was believed. */
  readonly believed: number;
  /** States in which it was not closed in order. */
  readonly unclean: number;
  readonly violations: readonly string[];
}

/** Puts something around the provider that the sessions work on. */
export type WrapProvider = (provider: StorageProvider) => StorageProvider;

function open(recorded: StorageProvider, mode: 'read' | 'write'): Promise<Disk> {
  const provider = withoutTimes(recorded);
  return Disk.open(
    NAMES.map((name) => ({ provider, name })),
    { ...OPEN, provider, mode },
  );
}

/** Files are told by their names and never by a time, so that the UUIDs alone tell one state from another. */
function withoutTimes(provider: StorageProvider): StorageProvider {
  return forwardedProvider(provider, {
    open: async (name, mode) =>
      overriding(await provider.open(name, mode), {
        identity: async () => ({
          key: name,
          kind: 'memory',
          allocatedSize: null,
          modifiedMs: null,
          revision: { text: 'some', atMs: 0, tickMs: 0 },
        }),
      }),
  });
}

const cacheOf = (provider: StorageProvider) => ({ provider, name: CACHE });

/** A block in every piece of the disk, by turns in the base and in the child. */
async function makeChain(provider: StorageProvider, random: Random): Promise<void> {
  for (const [level, name] of NAMES.entries()) {
    const below = NAMES[level - 1];
    const shape = below === undefined ? { size: SIZE } : { parent: { provider, name: below } };
    await createImage({ provider, name }, { provider, format: 'vdi', config: CONFIG, ...shape });
    const disk = await Disk.open(
      NAMES.slice(0, level + 1).map((one) => ({ provider, name: one })),
      { ...OPEN, provider, mode: 'write' },
    );
    for (let piece = level; piece < PIECES; piece += 2) await put(disk, placeIn(piece), BLOCK, random);
    await disk.close();
  }
}

/** The block of a piece that is stored. */
function placeIn(piece: number): number {
  return piece * LINE + (piece % 8) * BLOCK;
}

async function put(disk: Disk, offset: number, length: number, random: Random): Promise<void> {
  const filler = 1 + random.below(255);
  await disk.write(
    offset,
    Uint8Array.from({ length }, (_, index) => filler ^ ((index >> 9) + 1)),
  );
}

/** A guest whose accesses stay within stored blocks. */
class Guest {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  async reads(disk: Disk, count: number): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async () => {
        const piece = this.#random.below(PIECES);
        const first = this.#random.below(BLOCK / SECTOR);
        const length = SECTOR * (1 + this.#random.below(BLOCK / SECTOR - first));
        await disk.read(placeIn(piece) + first * SECTOR, new Uint8Array(length));
      }),
    );
  }

  async writes(disk: Disk, count: number): Promise<void> {
    for (let left = count; left > 0; left--) {
      const at = placeIn(this.#random.below(PIECES));
      if (this.#random.chance(0.2)) await disk.zero(at, BLOCK);
      else await put(disk, at + SECTOR * this.#random.below(4), SECTOR * (1 + this.#random.below(4)), this.#random);
    }
  }
}

/** Records a run: five sessions, the last of which never ends. */
export async function recordCacheRun(seed: number, wrap: WrapProvider = (provider) => provider): Promise<CacheRun> {
  const provider = new MemoryProvider();
  const random = new Random(seed);
  await makeChain(provider, random);
  const recorder = new RecordingProvider(provider, { turns: () => random.below(6) });
  const work = wrap(recorder);
  const { log } = recorder;
  const guest = new Guest(random);
  const discard = { stale: 'discard' } as const;

  log.mark('with the cache from the start');
  const first = await open(work, 'write');
  await first.cache.create(cacheOf(work), { size: CACHE_BYTES });
  await guest.reads(first, 40);
  await Promise.all([guest.writes(first, 6), guest.reads(first, 20)]);
  await first.flush();
  await guest.reads(first, 30);
  await guest.writes(first, 3);
  await first.close();

  log.mark(ONLY_READING);
  const second = await open(work, 'read');
  await second.cache.open(cacheOf(work), discard);
  await guest.reads(second, 60);
  await guest.reads(second, 40);
  await second.close();

  log.mark('without the cache');
  const third = await open(work, 'write');
  await guest.writes(third, 5);
  if (seed % 2 === 0) await third.flush();
  await guest.writes(third, 3);
  await third.close();

  log.mark(IN_THE_MIDDLE);
  const fourth = await open(work, 'write');
  await guest.writes(fourth, 2);
  await fourth.cache.open(cacheOf(work), discard);
  await guest.reads(fourth, 60);
  await guest.writes(fourth, 2);
  await guest.reads(fourth, 20);
  await fourth.cache.close();
  await guest.writes(fourth, 4);
  await fourth.flush();
  await guest.writes(fourth, 2);
  await fourth.cache.open(cacheOf(work), discard);
  await guest.reads(fourth, 30);
  await fourth.close();

  log.mark('never closed');
  const fifth = await open(work, 'write');
  await fifth.cache.open(cacheOf(work), discard);
  await guest.reads(fifth, 30);
  await guest.writes(fifth, 3);
  await fifth.flush();
  await guest.reads(fifth, 20);
  return { provider, log };
}

/** Options for checking a run. */
export interface CacheCheckOptions {
  /** States to look at, about, of those in which the cache is in use; the few in which it is closed are all looked at. */
  readonly states: number;
  readonly seed?: number;
  readonly stopAfter?: number;
  /** Only cuts in the session that begins with this mark. */
  readonly during?: string;
}

/** Cuts a run and compares the chain with the cache and without. */
export async function checkCacheRun(run: CacheRun, options: CacheCheckOptions): Promise<CacheReport> {
  const { states, seed = 1, stopAfter = 5 } = options;
  const violations: string[] = [];
  const report = { states: 0, believed: 0, unclean: 0 };
  // Nothing of a cache is flushed until it closes, so that far more states reveal something than there is time for.
  const cuts = options.during === undefined ? {} : { cuts: sessionOf(run.log, options.during) };
  const how = {
    maxStates: states,
    everyCut: rounds(options.during === undefined ? 5 : 2, 1),
    seed,
    isMetadata,
    ...cuts,
  };
  const enumerate = () => crashStates(run.log, run.provider, how);
  const share = states / [...enumerate()].length;
  const random = new Random(seed);
  for (const state of enumerate()) {
    const closed = (await state.provider.lookUp(CACHE)) !== null && !(await isUnclean(state.provider));
    if (!closed && !random.chance(share)) continue;
    report.states++;
    const found = await checkState(state, report, report.states % 4 === 0);
    if (found !== null) violations.push(`${found}: ${state.describe()}`);
    if (violations.length >= stopAfter) break;
  }
  return { ...report, violations };
}

/** From a mark of a session to the next one. */
function sessionOf(log: OperationLog, label: string): [number, number] {
  const marks = log.entries.filter((entry) => entry.kind === 'mark');
  const index = marks.findIndex((mark) => mark.label === label);
  return [marks[index]?.position ?? 0, marks[index + 1]?.position ?? log.position];
}

async function checkState(
  state: CrashState,
  report: { believed: number; unclean: number },
  rewrites: boolean,
): Promise<string | null> {
  const { provider } = state;
  if ((await provider.lookUp(CACHE)) === null) return null;
  if (await isUnclean(provider)) {
    report.unclean++;
    const { cached, identity } = await inspectCache(cacheOf(provider));
    if (cached !== 0 || identity !== null) return 'a cache that was not closed is not empty';
  }
  const wanted = await contentOfImages(provider);
  const disk = await open(provider, rewrites ? 'write' : 'read');
  await disk.cache.open(cacheOf(provider), { stale: 'discard' });
  if ((disk.cache.info?.cached ?? 0) > 0) report.believed++;
  // Twice: what the first read put into the cache is read of it then.
  for (const round of ['first', 'second']) {
    if (Buffer.compare(await contentOf(disk, FOUND), wanted) !== 0) {
      return `the ${round} read through the cache is not what the images hold`;
    }
  }
  if (rewrites) await put(disk, placeIn(PIECES - 1), BLOCK, new Random(state.cutAt + 1));
  await disk.close();
  return rewrites ? afterwards(provider) : null;
}

/** A session was closed well: its cache is believed, and right. */
async function afterwards(provider: StorageProvider): Promise<string | null> {
  const wanted = await contentOfImages(provider);
  const disk = await open(provider, 'read');
  await disk.cache.open(cacheOf(provider));
  const right = Buffer.compare(await contentOf(disk, FOUND), wanted) === 0;
  await disk.close();
  return right ? null : 'a further session left a cache that is not what the images hold';
}

async function isUnclean(provider: StorageProvider): Promise<boolean> {
  const storage = await provider.open(CACHE, 'read');
  const head = new Uint8Array(HEADER.size);
  await storage.read(0, head);
  await storage.close();
  return HEADER.get(head, 'unclean') !== 0;
}

/** Rooms for all of the disk, which thousands of states take turns in. */
const FOUND = new Uint8Array(SIZE);
const WANTED = new Uint8Array(SIZE);

async function contentOf(disk: Disk, room: Uint8Array): Promise<Uint8Array> {
  // Neither zeroes nor what the last state held: a read has to fill all of it.
  room.fill(0xa5);
  await disk.read(0, room);
  return room;
}

/** Content of the images. */
async function contentOfImages(provider: StorageProvider): Promise<Uint8Array> {
  const plain = await open(provider, 'read');
  const bytes = await contentOf(plain, WANTED);
  await plain.close();
  return bytes;
}
