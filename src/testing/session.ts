/**
 * What a workload of a crash suite works with: a disk whose writes, zeroes and flushes are written down in the log and
 * in the model, and traffic made by chance.
 */
import { SECTOR } from '../binary/numbers.ts';
import type { BlockDevice } from '../disk/device.ts';
import type { OperationLog } from './operation-log.ts';
import { type GuestOperationKind, type SectorModel, writeBytes } from './oracle.ts';
import { Random } from './random.ts';

/** What a session is made of. */
export interface SessionParts {
  readonly disk: BlockDevice;
  readonly model: SectorModel;
  readonly log: OperationLog;
  readonly seed: number;
}

/** One writable session with a disk. Do everything through it: what goes past it is a violation later. */
export class CrashSession {
  readonly disk: BlockDevice;
  /** Sectors of the disk. */
  readonly sectors: number;
  /** For workloads that want chance: the same numbers every time. */
  readonly random: Random;
  readonly #model: SectorModel;
  readonly #log: OperationLog;

  constructor(parts: SessionParts) {
    this.disk = parts.disk;
    this.sectors = parts.model.sectors;
    this.random = new Random(parts.seed);
    this.#model = parts.model;
    this.#log = parts.log;
  }

  /** Writes content that nothing else wrote. */
  write(sector: number, count: number): Promise<void> {
    return this.#issue('write', sector, count, (bytes) => this.disk.write(sector * SECTOR, bytes));
  }

  zero(sector: number, count: number): Promise<void> {
    return this.#issue('zero', sector, count, () => this.disk.zero(sector * SECTOR, count * SECTOR));
  }

  /** Waits for everything that was issued before, as far as it has ended. */
  async flush(): Promise<void> {
    const flush = this.#model.beginFlush(this.#log.mark('flush begins'));
    await this.disk.flush();
    this.#model.endFlush(flush, this.#log.mark('flushed'));
  }

  async #issue(
    kind: GuestOperationKind,
    sector: number,
    count: number,
    run: (bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const operation = this.#model.begin({ kind, sector, count }, this.#log.mark(`${kind} begins`));
    await run(writeBytes(operation));
    this.#model.end(operation, this.#log.mark(`${kind} ended`));
  }
}

/** How busy the traffic is. */
export interface TrafficOptions {
  /** Writes and zeroes in all. */
  readonly operations: number;
  /** Writers at the same time. Default 3. */
  readonly writers?: number;
  /** Sectors of an allocation unit: requests cover whole units now and then. Default 8. */
  readonly unit?: number;
  /** Longest request in units. Default 3. */
  readonly maxUnits?: number;
  /** Share of requests that zero. Default 0.2. */
  readonly zeroes?: number;
  /** Share of requests after which a flush is started, beside the writers. Default 0.2. */
  readonly flushes?: number;
}

/** Writers and flushes that overlap: what a guest does on a busy day. Ends with a flush. */
export async function randomTraffic(session: CrashSession, options: TrafficOptions): Promise<void> {
  const { random } = session;
  const flushes: Promise<void>[] = [];
  let left = options.operations;
  const writer = async (): Promise<void> => {
    while (left > 0) {
      left--;
      const { sector, count } = randomRange(session, options);
      if (random.chance(options.zeroes ?? 0.2)) await session.zero(sector, count);
      else await session.write(sector, count);
      // Nobody waits for it, so that writes begin and end while it runs.
      if (random.chance(options.flushes ?? 0.2)) flushes.push(session.flush());
    }
  };
  await Promise.all(Array.from({ length: options.writers ?? 3 }, writer));
  await Promise.all(flushes);
  await session.flush();
}

/** Whole units half of the time, else anything; a tenth of the disk gets half of the requests. */
function randomRange(session: CrashSession, options: TrafficOptions): { sector: number; count: number } {
  const { random, sectors } = session;
  const unit = options.unit ?? 8;
  const most = unit * (options.maxUnits ?? 3);
  const limit = random.chance(0.5) ? sectors : Math.max(Math.floor(sectors / 10), 1);
  let sector = random.below(limit);
  let count = 1 + random.below(most);
  if (random.chance(0.5)) {
    sector -= sector % unit;
    count = unit * (1 + random.below(options.maxUnits ?? 3));
  }
  return { sector, count: Math.min(count, sectors - sector) };
}
