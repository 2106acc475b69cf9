/** Directories as images, for the test suites. They are put together by hand. */
import { ImageError } from '../../../src/errors.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { CrashSuite } from '../../../src/testing/index.ts';
import { overriding } from '../../../src/testing/overriding.ts';
import { storages } from '../../faults/mutations.ts';
import { traffic } from '../../faults/workloads.ts';
import type { Sample } from '../../hostile/descriptor.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import type { Mutation } from '../crash-kit.ts';
import type { FormatKit } from '../kit.ts';
import { DESCRIPTOR } from './formats.ts';
import { withToys } from './registry.ts';
import { dataParts, linesOf, NOTHING } from './sample-parts.ts';

const SECTOR = 512;
type Part = readonly [name: string, sectors: number];
/** The parts of the disk, the last one the longest. */
const PARTS: readonly Part[] = [
  ['one.bin', 31],
  ['two.bin', 8],
  ['three.bin', 60],
];
const SIZE = PARTS.reduce((sum, [, sectors]) => sum + sectors * SECTOR, 0);

/** Traffic over all parts. The directory is there before. */
function crashSuite(seed: number, { wrap = (provider) => provider }: Mutation = {}): CrashSuite {
  const name = '/disk.toybundle';
  const options = { registry: withToys(), mode: 'write', flushAfterMs: 0 } as const;
  const busy = traffic(50, { discards: 0 });
  return {
    provider: new MemoryProvider(),
    image: name,
    size: SIZE,
    seed,
    async prepare(provider) {
      await write(provider, `${name}/${DESCRIPTOR}`, textOf(PARTS));
      for (const [part, sectors] of PARTS) await write(provider, `${name}/${part}`, new Uint8Array(sectors * SECTOR));
    },
    build: async () => {},
    open: (provider) => openDisk({ provider: withDirectories(wrap(provider)), name }, options),
    sessions: [busy, busy],
  };
}

/** A provider that tells a directory from a missing file, as that of the states after a cut does not. */
function withDirectories(provider: StorageProvider): StorageProvider {
  return overriding(provider, {
    async open(name, mode) {
      const info = await provider.lookUp(name);
      if (info?.kind !== 'directory') return provider.open(name, mode);
      throw new ImageError('unsupported', 'This is a directory, not an image', { path: name });
    },
  });
}

function textOf(parts: readonly Part[]): Uint8Array {
  return new TextEncoder().encode(parts.map(([name]) => `${name}\n`).join(''));
}

async function write(provider: StorageProvider, name: string, bytes: Uint8Array): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, bytes);
  await storage.flush();
  await storage.close();
}

/** Flushes of the parts do nothing. */
const unflushed = (): Mutation => storages(() => ({ flush: async () => {} }));

/** A sound directory. */
function sample(): Sample {
  const { parts, content } = dataParts(new Map(PARTS.map(([name, sectors]) => [name, sectors * SECTOR])));
  const text = textOf(PARTS);
  return {
    name: 'three parts',
    format: 'toy-bundle',
    bytes: null,
    parts: [{ name: DESCRIPTOR, bytes: text, anatomy: linesOf(text, 'free') }, ...parts],
    beside: [{ name: 'beside.bin', bytes: new Uint8Array(SECTOR) }],
    anatomy: NOTHING,
    virtualSize: SIZE,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

/** A descriptor of 1 GiB that is a hole, and one of as many names as fit. */
function hollow(): BaseImage[] {
  const names = new TextEncoder().encode('one.bin\n'.repeat(512));
  const part = { name: 'one.bin', size: SECTOR, pieces: [] };
  const base = { image: null, beside: [], content: null, differencing: false };
  return [
    { ...base, name: 'a long descriptor', parts: [{ name: DESCRIPTOR, size: 2 ** 30, pieces: [] }, part] },
    {
      ...base,
      name: 'the same part often',
      parts: [{ name: DESCRIPTOR, size: names.length, pieces: [{ offset: 0, bytes: names }] }, part],
    },
  ];
}

export const kit: FormatKit = {
  format: 'toy-bundle',
  conformance: { without: 'a new image is staged as a file: directories are made by other programs' },
  golden: { without: 'no program has the format' },
  hostile: { samples: async () => [sample()], hollow, atLeast: 100 },
  async crash() {
    return {
      rows: [{ title: 'traffic', suite: crashSuite, options: {} }],
      seeds: [1, 11],
      states: [500, 1000],
      atLeast: [500, 5000],
      needed: [],
      mutants: [{ name: 'flushes that do nothing', mutate: unflushed, suite: (mutation) => crashSuite(21, mutation) }],
      options: {},
    };
  },
};
