/** Requests of a guest for the power-cut suites, for images of any format. */
import { type CrashSession, randomTraffic, type TrafficOptions } from '../../src/testing/index.ts';

/** Sectors of the units that traffic likes to fill. */
export const UNIT = 2;

/** Operations on a disk between opening and closing. */
export type Workload = (session: CrashSession) => Promise<void>;

/** Anything, anywhere, all at once. */
export const traffic =
  (operations: number, more: Partial<TrafficOptions> = {}): Workload =>
  (session) =>
    randomTraffic(session, { operations, unit: UNIT, flushes: 0.15, ...more });

/** Each flush publishes all sectors of the map, while another writer goes on. */
export const scattered =
  (rounds: number, from = 0): Workload =>
  async (session) => {
    const { random, sectors } = session;
    const sixth = Math.floor((sectors - from) / 6);
    const touch = (part: number): Promise<void> => {
      const sector = from + part * sixth + random.below(sixth - 2 * UNIT);
      const unit = sector - (sector % UNIT);
      if (random.chance(0.15)) return session.zero(unit, UNIT);
      return random.chance(0.1) ? session.discard(unit, UNIT) : session.write(sector, 1 + random.below(3));
    };
    for (let round = 0; round < rounds; round++) {
      await Promise.all([0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0].map(touch));
      await Promise.all([session.flush(), touch(random.below(6))]);
    }
  };

/** Each flush has something to cover: fresh blocks, and one that was there when the session began. */
export const covered =
  (first: number): Workload =>
  async (session) => {
    for (let round = 0; round < 6; round++) {
      const fresh = (block: number): number => (first + 30 * round + block) * UNIT;
      await Promise.all([session.write(0, 1), session.write(fresh(1) + 1, 1), session.write(fresh(200), UNIT)]);
      await Promise.all([session.flush(), session.write(1, 1)]);
    }
    await session.write(2, 1);
  };
