/** Differencing images that get another parent between power cuts: one with a long name, the first one again, and none. */
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import type { CrashSession, CrashSuite } from '../../src/testing/index.ts';
import type { Values } from '../conformance/place.ts';
import { REGISTRY } from './ways.ts';
import type { Workload } from './workloads.ts';

/** More than a new image has room for. */
const OTHER = `/${'another parent, whose name is long, '.repeat(24)}`;

/** Parents of an image, and how they are made. */
export interface Parents {
  readonly format: string;
  readonly config: Values;
  /** Name of the parent that the suite makes. */
  readonly first: string;
  /** What a guest does between two changes. */
  readonly between: Workload;
}

/** The suite of an image over a parent, whose sessions give it other parents. The disk reads the same. */
export function relinked(suite: CrashSuite, { format, config, first, between }: Parents): CrashSuite {
  let current: StorageProvider = suite.provider;
  const rebase = (session: CrashSession, name: string | null): Promise<void> => {
    const disk = session.disk as Awaited<ReturnType<typeof openDisk>>;
    const parent = name === null ? null : { provider: current, name };
    return session.structural('rebase', () => disk.rebase(parent, { parentFormat: format }));
  };
  return {
    ...suite,
    async prepare(provider) {
      await suite.prepare?.(provider);
      await createImage({ provider, name: OTHER }, { format, size: suite.size, config });
    },
    async open(provider) {
      current = provider;
      const options = { registry: REGISTRY, mode: 'write', format, flushAfterMs: 0, allow: ['/'] } as const;
      return openDisk({ provider, name: suite.image }, options);
    },
    sessions: [
      async (session) => {
        await between(session);
        await rebase(session, OTHER);
        await between(session);
      },
      async (session) => {
        await rebase(session, first);
        await between(session);
        await rebase(session, null);
        await between(session);
      },
    ],
  };
}
