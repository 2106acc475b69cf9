/**
 * VMDK images for the power-cut suites: how they are made, which rules must hold in their bytes, and what is done to
 * them. Small grains make one flush publish several sectors of both copies of the tables, in any order and any part.
 */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { ChainDisk } from '../../../src/disk/disk.ts';
import { defaultRegistry } from '../../../src/formats/index.ts';
import { commentOf } from '../../../src/formats/vmdk/descriptor/facts.ts';
import { DescriptorStore } from '../../../src/formats/vmdk/descriptor/store.ts';
import { KDMV, SPARSE_HEADER } from '../../../src/formats/vmdk/layout.ts';
import { createImage } from '../../../src/operations/create.ts';
import type { StorageProvider } from '../../../src/storage/contract.ts';
import type { CrashCheck, CrashSuite } from '../../../src/testing/index.ts';
import { unitsOf } from '../../conformance/kits.ts';
import { crashSuite } from '../../faults/common-crashes.ts';
import { createWay, SECTORS, type Way } from '../../faults/ways.ts';
import { scattered, traffic, type Workload } from '../../faults/workloads.ts';
import { fileBytes } from '../../model/extents.ts';
import type { Mutation } from '../crash-kit.ts';

const FORMAT = defaultRegistry().find('vmdk');
/** Sectors of a grain. */
export const GRAIN = 8;
/** Sectors of the extents of a split image. Only the last one is not whole grains. */
const EXTENTS = [600, 600, SECTORS - 1200];
/** Place of the descriptor in a sparse image, and its room. */
const EMBEDDED = { fileOffset: SECTOR, room: 20 * SECTOR };

/** A way to make a VMDK image. */
export function vmdkWay(title: string, more: Partial<Way> = {}): Way {
  return { title, format: FORMAT, variant: [], diff: false, ...more };
}

export interface VmdkSuiteOptions extends Mutation {
  readonly seed: number;
  readonly sessions: CrashSuite['sessions'];
}

/** An image that is made, and whatever the sessions do with it. */
export function vmdkSuite(way: Way, options: VmdkSuiteOptions): CrashSuite {
  const { seed, sessions } = options;
  return { ...crashSuite(way, seed, sessions, options), check: brokenRules };
}

/** The same for an image that is there from the start, made otherwise. */
function madeSuite(options: VmdkSuiteOptions, make: (provider: StorageProvider) => Promise<void>): CrashSuite {
  return { ...vmdkSuite(vmdkWay('made'), options), prepare: make, build: async () => {} };
}

/** Three sparse extents. */
export function splitSuite(options: VmdkSuiteOptions): CrashSuite {
  return madeSuite(options, makeSplit);
}

async function makeSplit(provider: StorageProvider): Promise<void> {
  const lines: string[] = [];
  for (const [index, sectors] of EXTENTS.entries()) {
    const how = { format: 'vmdk', variant: ['split'], size: sectors * SECTOR, config: unitsOf('vmdk', 4096) };
    await createImage({ provider, name: `/part${index}.vmdk` }, how);
    const name = `disk-s00${index + 1}.vmdk`;
    await provider.rename(`/part${index}-s001.vmdk`, `/${name}`, { replace: false });
    lines.push(`RW ${sectors} SPARSE "${name}"`);
  }
  const text = new TextDecoder().decode(await fileBytes({ provider, name: '/part0.vmdk' }));
  const main = await provider.create('/disk.vmdk');
  await main.write(0, new TextEncoder().encode(text.replace(/^RW .*$/m, lines.join('\n'))));
  await main.flush();
  await main.close();
  for (const index of EXTENTS.keys()) await provider.remove(`/part${index}.vmdk`);
}

/** An extent without grain tables: they get their places among the grains. */
export function tablelessSuite(options: VmdkSuiteOptions): CrashSuite {
  return madeSuite(options, async (provider) => {
    await createWay(provider, vmdkWay('dynamic'));
    const storage = await provider.open('/disk.vmdk', 'write');
    const header = new Uint8Array(SECTOR);
    await storage.read(0, header);
    for (const field of ['directoryOffset', 'redundantOffset'] as const) {
      await storage.write(Number(SPARSE_HEADER.get(header, field)) * SECTOR, new Uint8Array(SECTOR));
    }
    await storage.flush();
    await storage.close();
  });
}

const COMMENTS = ['one', 'two '.repeat(200), 'three '.repeat(90), ''];

/** Comments of several lengths, so that the text moves over the sectors of its room. */
const commented: Workload = async (session) => {
  const { disk } = session;
  if (!(disk instanceof ChainDisk)) throw new Error('a workload of a whole disk');
  for (const [number, comment] of COMMENTS.entries()) {
    await session.structural('comment', () => disk.set('last', { comment }));
    await session.write(20 * number, 3);
    await session.flush();
  }
};

/** An image whose descriptor is rewritten. */
export function commentedSuite(options: Omit<VmdkSuiteOptions, 'sessions'>): CrashSuite {
  const suite = vmdkSuite(vmdkWay('dynamic'), { ...options, sessions: [commented] });
  return {
    ...suite,
    async check({ provider, image }) {
      const storage = await provider.open(image, 'read');
      const { text } = await DescriptorStore.open({ storage, ...EMBEDDED });
      await storage.close();
      const comment = commentOf(text) ?? '';
      return COMMENTS.includes(comment) ? [] : [`The comment became ${JSON.stringify(comment)}`];
    },
  };
}

/** Holes are made and filled. Ends with writes that only the closing makes durable. */
export const compacted: Workload = async (session) => {
  await traffic(25, { discards: 0.3, unit: GRAIN })(session);
  await session.compact();
  await scattered(6)(session);
  await session.discard(0, 20 * GRAIN);
  await session.compact();
  await session.write(3, 2);
};

/** Violations of the write order, read from the bytes independently of the code under test. */
async function brokenRules(context: CrashCheck): Promise<string[]> {
  const { provider, image, stage, session } = context;
  const problems: string[] = [];
  for await (const name of provider.list('/')) {
    if (name.startsWith('/disk')) problems.push(...brokenExtent(await fileBytes({ provider, name })));
  }
  if (stage === 'found' && session !== null) {
    const [before, now] = await Promise.all([contentIdOf(context.atOpen(), image), contentIdOf(provider, image)]);
    if (before === now && context.contentChanged) problems.push('Data changed under the old content ID');
  }
  return problems;
}

async function contentIdOf(provider: StorageProvider, name: string): Promise<string> {
  const text = new TextDecoder('latin1').decode((await fileBytes({ provider, name })).subarray(0, 21 * SECTOR));
  return /^CID=(.*)$/m.exec(text)?.[1] ?? '';
}

function brokenExtent(bytes: Uint8Array): string[] {
  if (bytes.length < SECTOR || SPARSE_HEADER.get(bytes, 'magic') !== KDMV) return [];
  const header = SPARSE_HEADER.decode(bytes);
  const { flags, overhead, grainSize, unclean } = header;
  const first = entriesOf(bytes, Number(header.directoryOffset), header);
  const copy = entriesOf(bytes, Number(header.redundantOffset), header);
  const problems: string[] = [];
  const differ = first.some((entry, index) => entry !== copy[index]);
  if (unclean === 0 && differ) problems.push('The copies of the grain tables differ in an extent that is clean');
  const places = first.filter((entry) => entry > ((flags & 4) === 0 ? 0 : 1));
  if (new Set(places).size < places.length) problems.push('Two grains lie in one place');
  const isWrong = (place: number): boolean => place < overhead || (place - overhead) % grainSize !== 0;
  if (places.some((place) => isWrong(place) || place * SECTOR >= bytes.length))
    problems.push('A grain lies where none can be');
  return problems;
}

function entriesOf(
  bytes: Uint8Array,
  directory: number,
  { capacity, grainSize, entriesPerTable }: { capacity: number; grainSize: number; entriesPerTable: number },
): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries: number[] = [];
  for (let index = 0; index * entriesPerTable * grainSize < capacity; index++) {
    const table = view.getUint32(directory * SECTOR + index * 4, true) * SECTOR;
    for (let n = 0; n < entriesPerTable; n++) entries.push(table === 0 ? 0 : view.getUint32(table + n * 4, true));
  }
  return entries;
}
