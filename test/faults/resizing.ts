/** Images of the ways in `ways.ts` that are resized and compacted between power cuts. */
import { SECTORS } from './ways.ts';
import { scattered, traffic, type Workload } from './workloads.ts';

/** Shorter and longer, within a table and with a new one; holes are filled. */
export const resized: readonly Workload[] = [
  async (session) => {
    await traffic(12, { discards: 0.2 })(session);
    await session.write(session.sectors - 9, 9);
    await session.resize(SECTORS + 90);
    await session.write(SECTORS - 2, 50);
    await session.flush();
    await session.resize(701);
    await scattered(9)(session);
    await session.resize(5000);
    await session.write(4990, 10);
  },
  async (session) => {
    await session.write(4090, 9);
    await session.resize(3 * SECTORS);
    await session.write(702, 3);
    await session.flush();
    await session.resize(SECTORS);
    await scattered(9)(session);
    await session.resize(SECTORS + 3);
    await session.write(1, 2);
  },
];

/** Holes are made and filled. */
export const compacted: Workload = async (session) => {
  await session.compact();
  await scattered(9)(session);
  await session.discard(40, 40);
  await session.compact();
  await session.write(43, 2);
};
