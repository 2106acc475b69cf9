/**
 * What a workload of a crash suite works with: a disk whose requests are written down in the log and in the model, and
 * traffic made by chance.
 */
import { checkArguments, POSITIVE, withFields } from '../arguments.ts';
import { SECTOR } from '../binary/numbers.ts';
import type { BlockDevice } from '../disk/device.ts';
import { ImageError } from '../errors.ts';
import { PARTS, SESSION } from './kinds.ts';
import type { OperationLog } from './operation-log.ts';
import { type GuestOperationKind, type SectorModel, writeBytes } from './oracle.ts';
import { Random } from './random.ts';

/** A disk that may also give room back, change its size and move its blocks together. */
export interface CrashDevice extends BlockDevice {
  /** The content of the ranges is not needed any more. Never shows what it had replaced. */
  discard?(ranges: readonly { readonly offset: number; readonly length: number }[]): Promise<void>;
  /** Bytes. `shrink`: what lies beyond the new end may be lost. New sectors read zero. */
  resize?(size: number, how?: { readonly shrink?: boolean }): Promise<void>;
  /** Makes the files as short as they can be. Changes nothing that can be read. */
  compact?(): Promise<unknown>;
  /** Merges two images of a chain, 0 = base, while requests go on. Changes nothing that can be read. */
  merge?(from: number, to: number): Promise<unknown>;
}

/** What a session is made of. */
export interface SessionParts {
  readonly disk: CrashDevice;
  readonly model: SectorModel;
  readonly log: OperationLog;
  readonly seed: number;
}

/** One writable session with a disk. Do everything through it: what goes past it is a violation later. */
export class CrashSession {
  readonly disk: CrashDevice;
  /** For workloads that want chance: the same numbers every time. */
  readonly random: Random;
  readonly #model: SectorModel;
  readonly #log: OperationLog;

  constructor(parts: SessionParts) {
    checkArguments('CrashSession', { parts: [parts, PARTS] });
    this.disk = parts.disk;
    this.random = new Random(parts.seed);
    this.#model = parts.model;
    this.#log = parts.log;
  }

  /** Sectors of the disk. */
  get sectors(): number {
    return this.#model.sectors;
  }

  /** Writes content that nothing else wrote. */
  write(sector: number, count: number): Promise<void> {
    return this.#issue('write', sector, count, (bytes) => this.disk.write(sector * SECTOR, bytes));
  }

  zero(sector: number, count: number): Promise<void> {
    return this.#issue('zero', sector, count, () => this.disk.zero(sector * SECTOR, count * SECTOR));
  }

  /** From now on the sectors may read as they do, or zero. */
  discard(sector: number, count: number): Promise<void> {
    const range = { offset: sector * SECTOR, length: count * SECTOR };
    return this.#issue('discard', sector, count, () => wanted(this.disk, 'discard').call(this.disk, [range]));
  }

  /** Gives the disk another size. Nothing else may run meanwhile. Durable after the next flush. */
  async resize(sectors: number): Promise<void> {
    const run = wanted(this.disk, 'resize');
    const resize = this.#model.beginResize(sectors, this.#log.mark('resize begins'));
    const shrink = sectors < this.sectors;
    await this.#noted('resize', () => run.call(this.disk, sectors * SECTOR, { shrink }));
    this.#model.endResize(resize, this.#log.mark('resized'));
  }

  /** Compacts the image. Nothing else may run meanwhile. */
  async compact(): Promise<void> {
    this.#log.mark('compact begins');
    await this.#noted('compact', () => wanted(this.disk, 'compact').call(this.disk));
    this.#log.mark('compacted');
  }

  /** Merges images of the chain; requests may run meanwhile. */
  merge(from: number, to: number): Promise<void> {
    return this.structural('merge', () => wanted(this.disk, 'merge').call(this.disk, from, to));
  }

  /** Runs something of the workload's own that changes files, but nothing that can be read, between two marks. */
  async structural(what: string, run: () => Promise<unknown>): Promise<void> {
    this.#log.mark(`${what} begins`);
    await this.#noted(what, run);
    this.#log.mark('changed');
  }

  /** Waits for everything that was issued before, as far as it has ended. */
  async flush(): Promise<void> {
    const flush = this.#model.beginFlush(this.#log.mark('flush begins'));
    await this.#noted('flush', () => this.disk.flush());
    this.#model.endFlush(flush, this.#log.mark('flushed'));
  }

  async #issue(
    kind: GuestOperationKind,
    sector: number,
    count: number,
    run: (bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const what = { kind, sector, count };
    const operation = this.#model.begin(what, this.#log.mark(`${kind} begins`, what));
    await this.#noted(kind, () => run(writeBytes(operation)), what);
    this.#model.end(operation, this.#log.mark(`${kind} ended`, what));
  }

  /** A request that fails is written down too; it may have done all, some or nothing. */
  async #noted(what: string, run: () => Promise<unknown>, payload?: unknown): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#log.mark(`${what} failed`, payload);
      throw error;
    }
  }
}

function wanted<K extends 'discard' | 'resize' | 'compact' | 'merge'>(
  disk: CrashDevice,
  what: K,
): NonNullable<CrashDevice[K]> {
  const method = disk[what];
  if (method !== undefined) return method as NonNullable<CrashDevice[K]>;
  throw new ImageError('unsupported', `This disk has no ${what}`, { path: disk.label });
}

/** How busy the traffic is. */
export interface TrafficOptions {
  /** Writes, zeroes and discards in all. */
  readonly operations: number;
  /** Writers at the same time. Default 3. */
  readonly writers?: number;
  /** Sectors of an allocation unit: requests cover whole units now and then. Default 8. */
  readonly unit?: number;
  /** First sector that is touched. Default 0. */
  readonly from?: number;
  /** Longest request in units. Default 3. */
  readonly maxUnits?: number;
  /** Share of requests that zero. Default 0.2. */
  readonly zeroes?: number;
  /** Share of requests that discard. Default 0. */
  readonly discards?: number;
  /** Share of requests after which a flush is started, beside the writers. Default 0.2. */
  readonly flushes?: number;
}

const TRAFFIC = withFields('an object with operations', { operations: POSITIVE });

/** Writers and flushes that overlap: what a guest does on a busy day. Ends with a flush. */
export async function randomTraffic(session: CrashSession, options: TrafficOptions): Promise<void> {
  checkArguments('randomTraffic', { session: [session, SESSION], options: [options, TRAFFIC] });
  const { random } = session;
  const flushes: Promise<void>[] = [];
  let left = options.operations;
  const writer = async (): Promise<void> => {
    while (left > 0) {
      left--;
      const { sector, count } = randomRange(session, options);
      if (random.chance(options.zeroes ?? 0.2)) await session.zero(sector, count);
      else if ((options.discards ?? 0) > 0 && random.chance(options.discards ?? 0))
        await session.discard(sector, count);
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
  const from = options.from ?? 0;
  const unit = options.unit ?? 8;
  const most = unit * (options.maxUnits ?? 3);
  const limit = random.chance(0.5) ? sectors : Math.max(Math.floor(sectors / 10), 1);
  let sector = from + random.below(Math.max(limit - from, 1));
  let count = 1 + random.below(most);
  if (random.chance(0.5)) {
    sector = Math.max(sector - (sector % unit), from);
    count = unit * (1 + random.below(options.maxUnits ?? 3));
  }
  return { sector, count: Math.min(count, sectors - sector) };
}
