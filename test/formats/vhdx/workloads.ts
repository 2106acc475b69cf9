/** Requests of a guest that meet what only VHDX has: partly stored blocks, bitmaps, and a log that names lengths. */
import type { CrashSession } from '../../../src/testing/index.ts';
import { scattered, traffic, type Workload } from '../../faults/workloads.ts';
import { BLOCK, SECTORS } from './crash-images.ts';

export const small: Workload = traffic(40, { discards: 0.15 });

/** Whole blocks of a child that are given up and written in part again before a flush. */
export async function again(session: CrashSession): Promise<void> {
  for (let round = 0; round < 4; round++) {
    await session.write(round * 7, 3);
    await session.write(BLOCK + round * 11, 2);
    await session.flush();
    await session.zero(0, BLOCK);
    await session.write(100 + round, 2);
    await session.discard(BLOCK, BLOCK);
    await session.write(BLOCK + 200, 1);
    if (round % 2 === 0) await session.flush();
  }
}

/** Longer inside of the last block and behind it, shorter, and again. */
export async function resized(session: CrashSession): Promise<void> {
  await session.write(session.sectors - 9, 9);
  await session.resize(SECTORS + 2);
  await session.write(SECTORS - 2, 4);
  await session.flush();
  await session.resize(BLOCK + 701);
  await small(session);
  await session.resize(9 * BLOCK - 5);
  await session.write(9 * BLOCK - 15, 10);
  await session.flush();
  await session.resize(2 * BLOCK);
  await session.resize(SECTORS);
  await session.write(1, 2);
}

/** Holes are made and filled, bitmaps stay. */
export async function compacted(session: CrashSession): Promise<void> {
  await scattered(2)(session);
  await session.discard(0, 2 * BLOCK);
  await session.compact();
  await session.write(3, 4);
  await session.zero(2 * BLOCK, BLOCK);
  await session.compact();
  await session.write(BLOCK + 43, 2);
}

/** Blocks that were durable are discarded, and others written in the same flush, and in the next one. */
export async function freed(session: CrashSession): Promise<void> {
  await session.write(0, 2 * BLOCK);
  await session.flush();
  await session.discard(0, BLOCK);
  await session.write(2 * BLOCK, BLOCK);
  await session.flush();
  await session.write(3 * BLOCK, BLOCK - 3);
  await session.flush();
}

/** The file gets shorter. */
export async function packedOnce(session: CrashSession): Promise<void> {
  await session.write(0, 2 * BLOCK);
  await session.flush();
  await session.discard(0, BLOCK);
  await session.compact();
}
