/**
 * Mutants of the QCOW2 code: each breaks one rule of the order of writes, and the power-cut suite must see it under a
 * workload that the code as it is survives.
 */
import { vi } from 'vitest';
import { SECTOR } from '../../../src/binary/numbers.ts';
import { MetadataPages } from '../../../src/blocks/metadata-pages.ts';
import { RefcountStore } from '../../../src/formats/qcow2/clusters/refcount-store.ts';
import type { Encoder, MetaWrite } from '../../../src/image/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashSession, type CrashSuite, FaultProvider } from '../../../src/testing/index.ts';
import { overriding } from '../../../src/testing/overriding.ts';
import {
  images,
  missingDirectoryFlush,
  publishBeforeData,
  retriedFlush,
  stageLast,
  storages,
} from '../../faults/mutations.ts';
import { scattered, traffic } from '../../faults/workloads.ts';
import type { Mutant, Mutation } from '../crash-kit.ts';
import { compressedSuite } from './crash-compressed.ts';
import { qcow2Suite } from './crash-images.ts';

const SMALL = { clusterSize: 512, clusters: 1200 };
const busy = (mutation: Mutation): CrashSuite =>
  qcow2Suite(SMALL, 21, [scattered(6), traffic(40, { discards: 0.3 })], mutation);

/** While one operation of images runs, no storage flush happens. */
function withoutFlushes(operation: 'resize' | 'trim'): Mutation {
  let running = false;
  const noted = async (run: () => Promise<void> | undefined): Promise<void> => {
    running = true;
    try {
      await run();
    } finally {
      running = false;
    }
  };
  return {
    ...storages((storage) => ({ flush: async () => (running ? undefined : storage.flush()) })),
    ...images((image) =>
      operation === 'trim'
        ? { trim: () => noted(() => image.trim?.()) }
        : { resize: (size, how) => noted(() => image.resize?.(size, how)) },
    ),
  };
}

/** Blocks of a few counts each, so that the refcount table changes. */
const wide = (mutation: Mutation): CrashSuite =>
  qcow2Suite({ ...SMALL, config: { refcount_bits: 64 } }, 25, [scattered(8), traffic(20)], mutation);

/** A flush fails in the middle; a retry must not be trusted. */
function failingSuite(mutation: Mutation): CrashSuite {
  const medium = new FaultProvider(new MemoryProvider());
  const session = async (disk: CrashSession): Promise<void> => {
    await disk.write(0, 20);
    await disk.flush();
    await disk.write(0, 60);
    medium.plan({ fail: { flush: 0 } });
    await disk.flush();
    await disk.write(3, 1);
  };
  return { ...qcow2Suite(SMALL, 22, [session], mutation), provider: medium, expectedFailure: 'io' };
}

/** Room is given up at the end of the file, which is cut off. */
async function packed(session: CrashSession): Promise<void> {
  await session.write(0, 200);
  await session.flush();
  await session.discard(20, 160);
  await session.compact();
  await session.write(300, 40);
  await session.flush();
}

/** The L1 table becomes longer than its cluster. */
async function grown(session: CrashSession): Promise<void> {
  await scattered(2)(session);
  await session.flush();
  await session.resize(4500);
  await session.write(4400, 8);
  await session.flush();
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'publish before data',
    mutate: publishBeforeData,
    suite: busy,
  },
  {
    name: 'entries before counts',
    mutate: stageLast,
    suite: busy,
  },
  {
    name: 'refcount table before its blocks',
    mutate: () =>
      images((image) => ({
        seal() {
          const { stage, root, publish } = image.seal();
          return { stage: root.flat(), root: [], publish: [stage, ...publish] };
        },
      })),
    suite: wide,
  },
  {
    name: 'entries before the refcount table',
    mutate: () =>
      images((image) => ({
        seal() {
          const { stage, root, publish } = image.seal();
          return { stage, root: publish, publish: root };
        },
      })),
    suite: wide,
  },
  {
    name: 'early reuse',
    mutate() {
      vi.spyOn(RefcountStore.prototype, 'release').mockImplementation(function (this: RefcountStore, cluster) {
        this.letGo(cluster);
        this.lower(cluster);
      });
      return {};
    },
    suite: busy,
  },
  {
    name: 'early truncate',
    mutate: () => withoutFlushes('trim'),
    suite: (mutation) => qcow2Suite(SMALL, 23, [packed, packed], mutation),
  },
  {
    name: 'unfrozen page',
    mutate() {
      const seal = MetadataPages.prototype.seal;
      vi.spyOn(MetadataPages.prototype, 'seal').mockImplementation(function (this: MetadataPages) {
        return seal.call(this).map((write) => liveWrite(this, write));
      });
      return {};
    },
    suite: busy,
  },
  {
    name: 'links before data',
    mutate: () => withoutFlushes('resize'),
    suite: (mutation) => qcow2Suite(SMALL, 24, [grown], mutation),
  },
  {
    name: 'missing directory flush',
    mutate: missingDirectoryFlush,
    suite: busy,
  },
  {
    name: 'retried flush',
    mutate: retriedFlush,
    suite: failingSuite,
  },
  {
    name: 'shared tail sector',
    mutate: () => images((image) => ({ encoder: tearing(image.encoder ?? null) })),
    suite: (mutation) => {
      const suite = compressedSuite(300, { cluster_size: 1024 }, { seed: 1, ...mutation });
      // There are no reads while it runs, so that only a cut shows it.
      return { ...suite, sessions: suite.sessions.slice(0, 1) };
    },
  },
];

/** The sector in which the last stream ends is written twice: at first without what it holds. */
function tearing(encoder: Encoder | null): Encoder | null {
  if (encoder === null) return null;
  return overriding<Encoder>(encoder, {
    async prepare(units) {
      const slot = await encoder.prepare(units);
      const hasHead = slot.buffers[0] !== units[0]?.bytes;
      if (hasHead) await slot.storage.write(slot.fileOffset, new Uint8Array(SECTOR));
      return slot;
    },
  });
}

/** The same sectors, with what the page holds when they are written. */
function liveWrite(pages: MetadataPages, { storage, fileOffset: offset, bytes }: MetaWrite): MetaWrite {
  const start = offset % pages.pageBytes;
  return {
    storage,
    fileOffset: offset,
    get bytes() {
      return pages.peek(Math.floor(offset / pages.pageBytes))?.bytes.slice(start, start + bytes.length) ?? bytes;
    },
  };
}
