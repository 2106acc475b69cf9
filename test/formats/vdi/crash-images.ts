/**
 * VDI images for the power-cut suites: how they are made, which rules must hold in their bytes, and what is done to
 * them. Small blocks and a map of several sectors make one flush publish several sectors, in any order and any part.
 */
import { SECTOR } from '../../../src/binary/numbers.ts';
import type { Registry } from '../../../src/image/registry.ts';
import { createImage, Disk } from '../../../src/index.ts';
import { checkImage } from '../../../src/operations/check.ts';
import type { StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashCheck, type CrashSuite, initialBytes } from '../../../src/testing/index.ts';
import { scattered, traffic, UNIT, type Workload } from '../../faults/workloads.ts';

export const IMAGE = '/disk.vdi';
const PARENT = '/parent.vdi';
const BLOCK = UNIT * SECTOR;
/** Six sectors of map. */
export const BLOCKS = 768;
const SIZE = BLOCKS * BLOCK;
export const MAP_OFFSET = SECTOR;
const DATA_OFFSET = MAP_OFFSET + 4 * BLOCKS;
const CONFIG = { AllocationBlockSize: BLOCK, DataAlignment: SECTOR };
/** The disk after it was made larger, so that the map has to move. */
const MANY_BLOCKS = 1024;
/** Blocks that are there from the start, in the first slots, and stay there until the map takes their room. */
const FIRST_BLOCKS = 16;
/** End of the map after it moved. */
const MOVED_MAP_END = DATA_OFFSET + 4 * MANY_BLOCKS;
/** First sector that traffic touches where the first blocks must stay. */
const BEHIND = FIRST_BLOCKS * UNIT;

export type Kind = 'dynamic' | 'fixed' | 'diff';

export interface VdiSuiteOptions {
  readonly seed: number;
  readonly sessions: CrashSuite['sessions'];
  readonly registry?: Registry;
  /** Put around the provider wherever the image is opened or made. */
  readonly wrap?: (provider: StorageProvider) => StorageProvider;
}

export const isMetadata = (name: string, offset: number): boolean => name !== PARENT && offset < DATA_OFFSET;

/** Also where the map moves to. What lies there before it moves is written before the recording begins. */
export const isMovedMetadata = (name: string, offset: number): boolean => name !== PARENT && offset < MOVED_MAP_END;

/** An empty image, and whatever the sessions do with it. */
export function vdiSuite(kind: Kind, options: VdiSuiteOptions): CrashSuite {
  const { seed, sessions, registry, wrap = (provider) => provider } = options;
  const formats = registry === undefined ? {} : { registry };
  return {
    provider: new MemoryProvider(),
    image: IMAGE,
    size: SIZE,
    seed,
    ...(kind === 'diff' ? { prepare: makeParent, hasInitial } : {}),
    build: (provider) => makeImage(kind, wrap(provider), formats),
    open: (bare) => {
      const provider = wrap(bare);
      const image = { provider, name: IMAGE };
      return Disk.open(kind === 'diff' ? [{ provider, name: PARENT }, image] : image, {
        mode: 'write',
        flushAfterMs: 0,
        format: 'vdi',
        ...formats,
      });
    },
    sessions,
    check: brokenRules,
  };
}

/** An image that holds its first blocks from the start; see {@link maintenance}. */
export function filledSuite(kind: 'dynamic' | 'diff', options: VdiSuiteOptions): CrashSuite {
  const empty = vdiSuite(kind, options);
  return {
    ...empty,
    hasInitial: (sector) => sector < BEHIND || (empty.hasInitial?.(sector) ?? false),
    async prepare(provider) {
      await empty.prepare?.(provider);
      await makeImage(kind, provider, {});
      const disk = await vdiSuite(kind, { seed: 0, sessions: [] }).open(provider);
      for (let sector = 0; sector < BEHIND; sector += UNIT) {
        await disk.write(sector * SECTOR, initialBytes(sector, UNIT));
      }
      await disk.close();
    },
    build: async () => {},
  };
}

/** Damage of a {@link damagedSuite}. */
export type Damage = 'entries' | 'count' | 'both';

/**
 * A damaged image that is repaired instead of made: of its first blocks one points beyond the end of the file and one
 * at another's block, or the count is too low. A repair that was cut is run again by the next open.
 */
export function damagedSuite(damage: Damage, options: VdiSuiteOptions): CrashSuite {
  const filled = filledSuite('dynamic', options);
  const [beyond, double] = damage === 'count' ? [-1, -1] : [5, 9];
  let damaged: Metadata | null = null;
  const repairedAgain = new WeakSet<StorageProvider>();
  /** True when something was corrupt. */
  const repair = async (provider: StorageProvider): Promise<boolean> => {
    const { repairs } = await checkImage({ provider, name: IMAGE }, { format: 'vdi', repair: true });
    return repairs.some(({ severity }) => severity === 'corruption');
  };
  return {
    ...filled,
    hasInitial: (sector) => {
      const block = Math.floor(sector / UNIT);
      return block < FIRST_BLOCKS && block !== beyond && block !== double;
    },
    async prepare(provider) {
      await filled.prepare?.(provider);
      const storage = await provider.open(IMAGE, 'write');
      const patch = async (offset: number, value: number): Promise<void> => {
        await storage.write(offset, new Uint8Array(new Uint32Array([value]).buffer));
      };
      if (beyond >= 0) await patch(MAP_OFFSET + 4 * beyond, 500);
      if (double >= 0) await patch(MAP_OFFSET + 4 * double, 3);
      if (damage !== 'entries') await patch(0x184, 1);
      await storage.flush();
      await storage.close();
      damaged = await metadataOf(provider, IMAGE);
    },
    async build(provider) {
      await repair(provider);
    },
    async open(provider) {
      if (await repair(provider)) repairedAgain.add(provider);
      return filled.open(provider);
    },
    async check(context) {
      const problems = await brokenRules(context);
      const { header, map } = await metadataOf(context.provider, IMAGE);
      const before = damaged ?? { header, map };
      if (context.session !== null && repairedAgain.has(context.provider)) problems.push('The repair did not last');
      if (sameUuid(header, before.header) && map.some((entry, index) => entry !== before.map[index])) {
        problems.push('A repair changed the content under the old modification UUID');
      }
      return problems;
    },
  };
}

/** Blocks of the parent that lie together. */
const PATCH = 8 * UNIT;
/** Every third patch of the parent holds data. */
const hasInitial = (sector: number): boolean => Math.floor(sector / PATCH) % 3 === 0;

async function makeImage(kind: Kind, provider: StorageProvider, formats: { registry?: Registry }): Promise<void> {
  const shape = kind === 'diff' ? { parent: { provider, name: PARENT } } : { size: SIZE };
  await createImage(
    { provider, name: IMAGE },
    {
      provider,
      format: 'vdi',
      allow: ['same-directory'],
      variant: kind === 'fixed' ? ['fixed'] : [],
      config: CONFIG,
      ...shape,
      ...formats,
    },
  );
}

async function makeParent(provider: StorageProvider): Promise<void> {
  const source = { provider, name: PARENT };
  await createImage(source, { format: 'vdi', size: SIZE, config: CONFIG });
  const disk = await Disk.open(source, { mode: 'write', flushAfterMs: 0, format: 'vdi' });
  for (let sector = 0; sector < SIZE / SECTOR; sector += 3 * PATCH) {
    await disk.write(sector * SECTOR, initialBytes(sector, PATCH));
  }
  await disk.close();
}

/**
 * Violations of the format sheet's "clean after a crash", read from the bytes independently of the code under test.
 */
async function brokenRules(context: CrashCheck): Promise<string[]> {
  const { header, map, fileSize } = await metadataOf(context.provider, context.image);
  const problems: string[] = [];
  const [dataOffset, blocks, count] = [0x158, 0x180, 0x184].map((offset) => header.getUint32(offset, true));
  const slots = new Set<number>();
  map.forEach((slot, index) => {
    if (slot >= 0xffff_fffe) return;
    if (slot >= (count ?? 0)) problems.push(`Block ${index} has slot ${slot}, but only ${count} are allocated`);
    if (slots.has(slot)) problems.push(`Block ${index} shares slot ${slot}`);
    if ((dataOffset ?? 0) + (slot + 1) * BLOCK > fileSize)
      problems.push(`Slot ${slot} lies beyond the end of the file`);
    slots.add(slot);
  });
  if ((count ?? 0) > (blocks ?? 0)) problems.push(`${count} of ${blocks} blocks are allocated`);
  if (context.stage === 'found' && context.session !== null) {
    const before = await metadataOf(context.atOpen(), context.image);
    if (sameUuid(header, before.header) && context.contentChanged) {
      problems.push('Data changed under the old modification UUID');
    }
  }
  return problems;
}

interface Metadata {
  readonly header: DataView;
  readonly map: Uint32Array;
  readonly fileSize: number;
}

async function metadataOf(provider: StorageProvider, name: string): Promise<Metadata> {
  const storage = await provider.open(name, 'read');
  try {
    const header = new DataView(new ArrayBuffer(SECTOR));
    await storage.read(0, new Uint8Array(header.buffer));
    const map = new Uint32Array(header.getUint32(0x180, true));
    await storage.read(header.getUint32(0x154, true), new Uint8Array(map.buffer));
    return { header, map, fileSize: storage.size };
  } finally {
    await storage.close();
  }
}

function sameUuid(one: DataView, other: DataView): boolean {
  for (let at = 0x198; at < 0x1a8; at += 4) if (one.getUint32(at) !== other.getUint32(at)) return false;
  return true;
}

/** Every flush of compacting has something to cover. */
export const coveredCompact: Workload = async (session) => {
  await session.write(0, 1);
  await session.write(BEHIND, 60);
  await session.flush();
  await session.discard(BEHIND, 20);
  await session.write(300, 8);
  await session.compact();
  await session.write(1, 1);
  await session.write(400, 8);
};

/** The same for a map that moves. */
export const coveredGrowth: Workload = async (session) => {
  await session.write(0, 1);
  await session.write(BEHIND, 8);
  await session.resize(MANY_BLOCKS * UNIT);
  await session.write(1, 1);
  await session.write(1800, 8);
};

/** The same for an end that is cut off and grows again over what the map still says, with blocks that fill the holes. */
export const coveredCut: Workload = async (session) => {
  await session.write(0, 1);
  await session.write(session.sectors - 9, 8);
  await session.write(600 * UNIT, UNIT);
  await session.write(BEHIND, 20);
  await session.flush();
  await session.resize(601 * UNIT - 1);
  await session.write(BEHIND + 1, 2);
  await session.flush();
  await session.resize(BLOCKS * UNIT);
  await session.write(650 * UNIT, 20);
};

/**
 * Cut to few blocks, which stand in the highest slots, since those that are lost were written first. Twice, and grown in
 * between.
 */
export const cutOfHighSlots: Workload = async (session) => {
  const fill = async (last: number, kept: number): Promise<void> => {
    for (let block = last; block > last - 20; block--) await session.write(block * UNIT, UNIT);
    for (let block = kept - 1; block >= 0; block--) await session.write(block * UNIT + (block % 2), 1);
    await session.flush();
  };
  await fill(90, 7);
  await session.resize(7 * UNIT - 1);
  await session.write(2, 3);
  await session.flush();
  await session.resize(300 * UNIT);
  await fill(200, 12);
  await session.resize(9 * UNIT);
  await session.write(5, 2);
};

/**
 * The same; whatever a cut leaves, a further session ends it by a resize to the size that there is: the map is as long as
 * the disk, and nothing stands in a slot that the header cannot count.
 */
export function highSlotsSuite(options: Omit<VdiSuiteOptions, 'sessions'>): CrashSuite {
  const suite = vdiSuite('dynamic', { ...options, sessions: [cutOfHighSlots] });
  return {
    ...suite,
    afterwards: (disk) => disk.resize?.(disk.size) ?? Promise.resolve(),
    async check(context) {
      const problems = (await suite.check?.(context)) ?? [];
      if (context.stage === 'found') return problems;
      const { header } = await metadataOf(context.provider, context.image);
      const blocks = Math.ceil(Number(header.getBigUint64(0x170, true)) / BLOCK);
      const found = header.getUint32(0x180, true);
      return found === blocks ? problems : [...problems, `The map has ${found} entries for ${blocks} blocks`];
    },
  };
}

/** Holes are made and filled. Ends with writes that only the closing makes durable. */
export const compacted: Workload = async (session) => {
  await traffic(25, { from: BEHIND, discards: 0.3 })(session);
  await session.compact();
  await scattered(14, BEHIND)(session);
  await session.discard(BEHIND, 40);
  await session.compact();
  await session.write(BEHIND + 3, 2);
};

/** The map moves into the room of the first blocks, which move to the end. */
const grown: Workload = async (session) => {
  await session.write(BEHIND + 1, 4);
  await session.resize(MANY_BLOCKS * UNIT);
  await scattered(15)(session);
  await session.write(session.sectors - 5, 4);
  await session.flush();
  await session.compact();
};

/** Cut below what is stored, and made longer again where the map is. */
const cutAndGrown: Workload = async (session) => {
  await session.write(session.sectors - 9, 8);
  await session.resize(601 * UNIT - 1);
  await scattered(13)(session);
  await session.resize(1000 * UNIT);
  await traffic(10, { discards: 0.2 })(session);
  await session.compact();
  await scattered(13)(session);
  await session.write(7, 3);
};

/** All that can be done to an image, on {@link filledSuite}. */
export const maintenance: readonly Workload[] = [compacted, grown, cutAndGrown];
