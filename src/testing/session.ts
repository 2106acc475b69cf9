/**
 * The workload's side of a crash test: a disk whose requests are recorded in the log and in the model, and random
 * traffic.
 */
import { checkArguments, POSITIVE, withFields } from '../arguments.ts';
import { SECTOR } from '../binary/numbers.ts';
import type { BlockDevice } from '../disk/device.ts';
import { ImageError } from '../errors.ts';
import { PARTS, SESSION } from './kinds.ts';
import type { OperationLog } from './operation-log.ts';
import { type GuestOperationKind, type SectorModel, writeBytes } from './oracle.ts';
import { Random } from './random.ts';

/** A disk that can also free space, be resized, compacted and merged. */
export interface CrashDevice extends BlockDevice {
  /** Marks the ranges as unneeded. Never exposes the content that they had replaced. */
  discard?(ranges: readonly { readonly offset: number; readonly length: number }[]): Promise<void>;
  /** Size in bytes. `shrink`: data past the new end may be lost. New sectors read as zero. */
  resize?(size: number, how?: { readonly shrink?: boolean | undefined }): Promise<void>;
  /** Shortens the files as far as possible. The disk reads the same. */
  compact?(): Promise<unknown>;
  /** Merges two images of a chain, 0 = base, while requests go on. The disk reads the same. */
  merge?(from: number, to: number): Promise<unknown>;
}

/** Parts of a session. */
export interface SessionParts {
  readonly disk: CrashDevice;
  readonly model: SectorModel;
  readonly log: OperationLog;
  readonly seed: number;
}

/** A writable session with a disk. All changes must go through it: others count as violations. */
export class CrashSession {
  readonly disk: CrashDevice;
  /** Random numbers for workloads: the same every time. */
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

  /** Writes unique content. */
  write(sector: number, count: number): Promise<void> {
    return this.#issue('write', sector, count, (bytes) => this.disk.write(sector * SECTOR, bytes));
  }

  zero(sector: number, count: number): Promise<void> {
    return this.#issue('zero', sector, count, () => this.disk.zero(sector * SECTOR, count * SECTOR));
  }

  /** The sectors may keep their content or become zero. */
  discard(sector: number, count: number): Promise<void> {
    const range = { offset: sector * SECTOR, length: count * SECTOR };
    return this.#issue('discard', sector, count, () => wanted(this.disk, 'discard').call(this.disk, [range]));
  }

  /** Resizes the disk. Nothing else may run at the same time. Durable after the next flush. */
  async resize(sectors: number): Promise<void> {
    const run = wanted(this.disk, 'resize');
    const resize = this.#model.beginResize(sectors, this.#log.mark('resize begins'));
    const shrink = sectors < this.sectors;
    await this.#noted('resize', () => run.call(this.disk, sectors * SECTOR, { shrink }));
    this.#model.endResize(resize, this.#log.mark('resized'));
  }

  /** Compacts the image. Nothing else may run at the same time. */
  async compact(): Promise<void> {
    this.#log.mark('compact begins');
    await this.#noted('compact', () => wanted(this.disk, 'compact').call(this.disk));
    this.#log.mark('compacted');
  }

  /** Merges images of the chain; requests may run at the same time. */
  merge(from: number, to: number): Promise<void> {
    return this.structural('merge', () => wanted(this.disk, 'merge').call(this.disk, from, to));
  }

  /** Runs an operation of the workload that changes files but not the disk, between two marks. */
  async structural(what: string, run: () => Promise<unknown>): Promise<void> {
    this.#log.mark(`${what} begins`);
    await this.#noted(what, run);
    this.#log.mark('changed');
  }

  /** Flushes everything issued before, as far as it has ended. */
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

  /** Failed requests are recorded too; they may have had full, partial or no effect. */
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

/** Intensity of the traffic. */
export interface TrafficOptions {
  /** Total number of writes, zeroes and discards. */
  readonly operations: number;
  /** Number of concurrent writers. Default 3. */
  readonly writers?: number | undefined;
  /** Sectors of an allocation unit: some requests cover whole units. Default 8. */
  readonly unit?: number | undefined;
  /** First sector to touch. Default 0. */
  readonly from?: number | undefined;
  /** Longest request in units. Default 3. */
  readonly maxUnits?: number | undefined;
  /** Share of requests that zero. Default 0.2. */
  readonly zeroes?: number | undefined;
  /** Share of requests that discard. Default 0. */
  readonly discards?: number | undefined;
  /** Share of requests after which a concurrent flush starts. Default 0.2. */
  readonly flushes?: number | undefined;
}

const TRAFFIC = withFields('an object with operations', { operations: POSITIVE });

/** Overlapping writers and flushes, like a busy guest. Ends with a flush. */
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
      // It is not awaited, so that writes begin and end while it runs.
      if (random.chance(options.flushes ?? 0.2)) flushes.push(session.flush());
    }
  };
  await Promise.all(Array.from({ length: options.writers ?? 3 }, writer));
  await Promise.all(flushes);
  await session.flush();
}

/** Whole units half of the time, otherwise any range; a tenth of the disk gets half of the requests. */
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
