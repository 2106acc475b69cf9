/** Directories as images, for the test suites. */
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { CrashSuite } from '../../../src/testing/index.ts';
import { missingDirectoryFlush, storages } from '../../faults/mutations.ts';
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

/** A new directory, and traffic over all its parts. */
function crashSuite(seed: number, { registry = withToys(), wrap = (provider) => provider }: Mutation = {}): CrashSuite {
  const name = '/disk.toybundle';
  const options = { registry, mode: 'write', flushAfterMs: 0 } as const;
  const busy = traffic(50, { discards: 0 });
  return {
    provider: new MemoryProvider(),
    image: name,
    size: SIZE,
    seed,
    async build(provider) {
      await createImage({ provider: wrap(provider), name }, { registry, size: SIZE });
    },
    open: (provider) => openDisk({ provider: wrap(provider), name }, options),
    sessions: [busy, busy],
  };
}

function textOf(parts: readonly Part[]): Uint8Array {
  return new TextEncoder().encode(parts.map(([name]) => `${name}\n`).join(''));
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
  golden: { without: 'no program has the format' },
  hostile: { samples: async () => [sample()], hollow, files: 100 },
  async crash() {
    return {
      rows: [{ title: 'traffic', suite: crashSuite, options: {} }],
      seeds: [1, 11],
      states: [300, 1000],
      atLeast: [170, 5000],
      needed: [],
      mutants: [
        { name: 'flushes that do nothing', mutate: unflushed, suite: (mutation) => crashSuite(21, mutation) },
        {
          name: 'missing directory flush',
          mutate: missingDirectoryFlush,
          suite: (mutation) => crashSuite(21, mutation),
        },
      ],
      options: {},
    };
  },
};
