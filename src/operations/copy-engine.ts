/**
 * The copy engine: copies the data of one device to another. It reads extents first, so that holes cost nothing; then
 * large aligned runs, several in flight. Reads run ahead, writes follow each other in guest order, so that a target
 * that allocates stays in order. A source or a target that goes forwards only gets one request at a time, each behind
 * the last. Memory is bounded: one reusable buffer for each run in flight.
 */
import { alignDown, alignUp } from '../binary/numbers.ts';
import { dataRuns } from '../codec/bytes.ts';
import type { BlockDevice, CompressedWrite, Extent, WriteOptions } from '../disk/device.ts';
import type { UnreadableRange } from '../disk/options.ts';
import { assert, ImageError, isDamage, isImageError, reasonOf, throwIfAborted } from '../errors.ts';
import type { Progress } from '../image/contract.ts';
import { afterEvents } from '../storage/after-events.ts';
import { allDone, markHandled } from '../storage/all-done.ts';
import { nowMs } from '../storage/clock.ts';
import { isPromise, type StorageHints } from '../storage/contract.ts';
import { Turns } from '../storage/turns.ts';
import { DataCount } from './data-count.ts';

/** Bytes of a run. Smaller ones spend their time on waking threads; larger ones only cost memory. */
export const RUN_BYTES = 4 * 1024 * 1024;
/** Runs in flight: one being written, one waiting for that, one being read ahead. */
export const PARALLEL_RUNS = 3;
/** Runs whose writes have begun: the second one is allocated and ready when the first one ends. */
const WRITES_BEGUN = 2;
/**
 * Faster reads come from memory: then they run one at a time, since a second one would only take the processor from the
 * writer. A slower medium gets as many as there are buffers.
 */
const QUICK_READ_MS = 5;
/** Runs read by `read` after the preceding ones were not available. */
const NOW_PAUSE_MOST = 64;
/** Size of compressed runs: units of 2 MiB, the largest of any format, come whole. */
const COMPRESSED_RUN_BYTES = 2 * 1024 * 1024;
/** Size of runs with a limited rate. */
const MIN_RUN_BYTES = 64 * 1024;
/** Concurrent zeroed ranges. */
const MAX_ZEROES = 64;
const SECTOR = 512;
/** Reason of damage that a device does not explain. */
const DAMAGED = 'The source is damaged here';
/** Bounds of what hints may ask for: buffers stay in memory. */
const MAX_RUN_BYTES = 16 * 1024 * 1024;
const MAX_PARALLEL = 16;

/** Options for the copy engine. */
export interface CopyOptions {
  /** Bytes of the source to copy. */
  readonly length: number;
  /** The target reads as zero wherever nothing is written. */
  readonly targetIsZero: boolean;
  /** Leave ranges unallocated in the source to the target's parent. Otherwise they are zero like any other. */
  readonly skipAbsent?: boolean | undefined;
  /** The target compresses data in units of this many bytes; 0: no compression. */
  readonly compress?: number | undefined;
  /** Smallest run of zeroes to skip, in bytes; 0: none. */
  readonly sparseSize: number;
  readonly parallel: number;
  /** Maximum bytes per second; 0: unlimited. */
  readonly rateLimit: number;
  readonly salvage: boolean;
  readonly signal: AbortSignal | undefined;
  readonly operation: string;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

/** Result of a copy. */
export interface CopyResult {
  /** Guest bytes that the target stored. */
  readonly written: number;
  /** In guest order. */
  readonly unreadable: readonly UnreadableRange[];
}

/** A stretch of the source handled at once. */
interface Run {
  readonly offset: number;
  readonly length: number;
  readonly data: boolean;
  /** Unallocated in the source. */
  readonly absent: boolean;
  /** Reason why it cannot be read. */
  readonly damage: string | null;
}

/** Copies `[0, length)`. Does not flush. Throws the first failure, with nothing still running. */
export function copyContent(source: BlockDevice, target: BlockDevice, options: CopyOptions): Promise<CopyResult> {
  return startCopy(source, options).into(target);
}

/** A copy whose target need not exist yet. */
export interface StartedCopy {
  /** Copies; called once. Throws the first failure, with nothing still running. */
  into(target: BlockDevice): Promise<CopyResult>;
  /** Cancels: resolves when no read is running. */
  cancel(): Promise<void>;
}

/** Starts reading for a later `into`, as far as there are buffers. One of its two methods must be called. */
export function startCopy(source: BlockDevice, options: CopyOptions): StartedCopy {
  const job = new CopyJob(source, options);
  const taken = markHandled(takeAll(job, source, options));
  const end = async (): Promise<void> => {
    try {
      await taken;
    } finally {
      await job.settle();
      job.stopCounting();
    }
  };
  return {
    async into(target) {
      job.begin(target);
      await end();
      return job.finish();
    },
    async cancel() {
      job.cancel();
      // What failed meanwhile no longer matters.
      await end().catch(() => {});
    },
  };
}

async function takeAll(job: CopyJob, source: BlockDevice, options: CopyOptions): Promise<void> {
  // A unit is compressed whole. But what the target's parent supplies is not ours to write.
  const unit = options.skipAbsent === true ? 1 : Math.max(options.compress ?? 0, 1);
  const turns = new Turns(options.signal, `The ${options.operation}`);
  const { length, salvage } = options;
  // What a parent that was not opened holds is damage, unless the target has that parent as well.
  const damaged = options.skipAbsent !== true;
  const how = { length, runBytes: runBytesFor(source, options), unit, salvage, damaged, turns };
  // What goes forwards only is not looked at ahead.
  if (options.onProgress !== undefined && source.can.random)
    job.count(runsOf(source, { ...how, turns: new Turns(options.signal, `The ${options.operation}`) }));
  for await (const run of runsOf(source, how)) await job.take(run);
}

/** A slow copy uses short steps, a quarter of a second each, so that its rate is even and it can be cancelled. */
function runBytesFor({ hints }: BlockDevice, { rateLimit, compress = 0 }: CopyOptions): number {
  const usual = compress > 0 ? COMPRESSED_RUN_BYTES : hintedBytes(hints);
  if (rateLimit === 0) return usual;
  return Math.min(Math.max(alignDown(rateLimit / 4, MIN_RUN_BYTES), MIN_RUN_BYTES, compress), usual);
}

/** The transfer size that suits the source, whole multiples of its alignment. */
function hintedBytes(hints: StorageHints | undefined): number {
  if (hints === undefined) return RUN_BYTES;
  const wanted = Math.min(Math.max(hints.transfer, MIN_RUN_BYTES), MAX_RUN_BYTES);
  return hints.align > 1 && hints.align <= MAX_RUN_BYTES
    ? Math.max(alignDown(wanted, hints.align), hints.align)
    : wanted;
}

/** Runs in flight, unless the caller asks for a number: as many as the source asks for. */
export function parallelFor({ hints }: Pick<BlockDevice, 'hints'>): number {
  return hints === undefined ? PARALLEL_RUNS : Math.min(Math.max(hints.parallel, PARALLEL_RUNS), MAX_PARALLEL);
}

/**
 * Cuts the source's data at run borders, independent of its extents: scattered data is moved in large pieces. Stretches
 * without data come whole, as far as they are whole units: the rest belongs to the neighbouring data.
 */
async function* runsOf(
  source: BlockDevice,
  how: {
    readonly length: number;
    readonly runBytes: number;
    readonly unit: number;
    readonly salvage: boolean;
    readonly damaged: boolean;
    readonly turns: Turns;
  },
): AsyncGenerator<Run> {
  const { length, runBytes, unit, salvage, damaged, turns } = how;
  const data = (from: number, to: number): Run => ({
    offset: from,
    length: to - from,
    data: true,
    absent: false,
    damage: null,
  });
  /** Start of the data not yet returned; `at` when there is none. */
  let start = 0;
  for (let at = 0; at < length; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const answer = salvage ? knownExtent(source, at, length) : source.extentAt(at, length, { damaged });
    const extent: Extent = isPromise(answer) ? await answer : answer;
    const end = at + extent.length;
    const [holeStart, holeEnd] = [alignUp(at, unit), end === length ? end : alignDown(end, unit)];
    // Reading damage says what is wrong.
    const read = extent.state === 'data' || (extent.state === 'damaged' && !salvage);
    if (read || holeStart >= holeEnd) {
      for (let stop = nextBorder(start, runBytes); stop <= end; stop = nextBorder(start, runBytes)) {
        yield data(start, stop);
        start = stop;
      }
    } else {
      if (start < holeStart) yield data(start, holeStart);
      const { state, reason } = extent;
      yield {
        offset: holeStart,
        length: holeEnd - holeStart,
        data: false,
        absent: state === 'absent',
        damage: state === 'damaged' ? (reason ?? DAMAGED) : null,
      };
      start = holeEnd;
    }
    at = end;
  }
  if (start < length) yield data(start, length);
}

/** The extent at `at`, damage included; data where the source cannot tell: then reading does. */
async function knownExtent(source: BlockDevice, at: number, end: number): Promise<Extent> {
  try {
    return await source.extentAt(at, end, { damaged: true });
  } catch (error) {
    if (!isDamage(error)) throw error;
    const length = Math.min(nextBorder(at, SECTOR), end) - at;
    const place = { image: null, depth: null, compressed: false, file: null, fileOffset: null };
    return { offset: at, length, state: 'data', ...place };
  }
}

function nextBorder(offset: number, runBytes: number): number {
  return alignDown(offset, runBytes) + runBytes;
}

class CopyJob {
  readonly #source: BlockDevice;
  readonly #target: Promise<BlockDevice>;
  readonly #options: CopyOptions;
  readonly #free: Uint8Array[] = [];
  readonly #unreadable: UnreadableRange[] = [];
  readonly #pace: Pace;
  readonly #runBytes: number;
  #buffers = 0;
  #waiting: ((buffer: Uint8Array) => void) | null = null;
  /** Ends with the last read started; never fails. */
  #lastRead: Promise<void> = Promise.resolve();
  #quickReads = true;
  /** Pending and running writes, the last one last. */
  readonly #writes: QueuedWrite[] = [];
  /** Until there is a target, reads leave this thread to its creation. */
  #begun = false;
  #nowPause = 0;
  #nextNowPause = 1;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | null = null;
  #written = 0;
  #done = 0;
  #data: DataCount | null = null;
  readonly #writing: WriteOptions = {
    onStored: (bytes) => {
      this.#written += bytes;
    },
  };

  /** Provides the target to those who wait for it. */
  begin!: (target: BlockDevice) => void;
  /** Releases those who wait for a target. */
  cancel!: () => void;

  constructor(source: BlockDevice, options: CopyOptions) {
    this.#source = source;
    this.#options = options;
    // Runs of units may reach past a border.
    this.#runBytes = Math.max(runBytesFor(source, options), RUN_BYTES);
    this.#pace = new Pace(options.rateLimit, options.signal);
    this.#target = markHandled(
      new Promise<BlockDevice>((resolve, reject) => {
        this.begin = (target) => {
          this.#begun = true;
          resolve(target);
        };
        this.cancel = () => {
          const error = new ImageError('aborted', 'The copy was cancelled before the target was created');
          this.#failure ??= { error };
          reject(error);
        };
      }),
    );
  }

  /** Starts a run; waits while enough are in flight. */
  async take(run: Run): Promise<void> {
    this.#check();
    if (!run.data) {
      if (run.damage !== null) this.#noteUnreadable(run.offset, run.length, run.damage);
      const leave = this.#options.targetIsZero || (run.absent && this.#options.skipAbsent === true);
      if (leave) return this.#progress(run);
      this.#enqueue(Promise.resolve(), (target) => target.zero(run.offset, run.length), run);
      // Many small holes must not pile up.
      if (this.#running.size > MAX_ZEROES) await this.settle();
      return;
    }
    await this.#pace.take(run.length);
    const buffer = await this.#buffer();
    this.#check();
    const bytes = buffer.subarray(0, run.length);
    const reading = (await this.#readNow(run, bytes)) ? Promise.resolve() : this.#startRead(run, bytes);
    if ((this.#options.compress ?? 0) === 0) {
      this.#enqueue(reading, (target) => this.#write(target, run, bytes), run, buffer);
      return;
    }
    // Compressed as soon as it is there, while others are written; stored in its turn.
    const compressing = markHandled(reading.then(() => this.#compress(run, bytes)));
    this.#enqueue(compressing, (_, compressed) => compressed.store(), run, buffer);
  }

  /** Counts the data of all runs, for the progress. */
  count(runs: AsyncIterable<Run>): void {
    this.#data = new DataCount(runs);
  }

  /** Waits until nothing runs any more. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  stopCounting(): void {
    this.#data?.stop();
  }

  finish(): CopyResult {
    this.#check();
    return { written: this.#written, unreadable: inOrder(this.#unreadable) };
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure.error;
    throwIfAborted(this.#options.signal, `The ${this.#options.operation}`);
  }

  /** Writes begin in guest order, so that an allocating target stays in order; a few of them may overlap. */
  #enqueue<T>(
    reading: Promise<T>,
    write: (target: BlockDevice, read: T) => Promise<void>,
    run: Run,
    buffer?: Uint8Array,
  ): void {
    const last = this.#writes.at(-1);
    const earlier = this.#writes.at(-WRITES_BEGUN);
    if (this.#writes.length >= WRITES_BEGUN) this.#writes.shift();
    const started = new Signal();
    const turn = this.#target.then(({ can }) =>
      Promise.all(can.random ? [last?.started, earlier?.ended] : [last?.ended]),
    );
    const ended = Promise.all([this.#target, reading, turn])
      .then(([target, read]) => {
        const writing = this.#failure === null ? write(target, read) : undefined;
        started.give();
        return writing;
      })
      .then(() => this.#progress(run))
      .finally(started.give);
    this.#writes.push({ started: started.given, ended: ended.catch(() => {}) });
    const tracked = ended
      .catch((error: unknown) => {
        this.#failure ??= { error };
        // Without a target it ends before its reading does.
        return reading.then(undefined, () => {});
      })
      .then(() => {
        this.#running.delete(tracked);
        if (buffer !== undefined) this.#giveBack(buffer);
      });
    this.#running.add(tracked);
  }

  #progress(run: Run): void {
    this.#done += run.length;
    this.#data?.add(run);
    const { operation, length, onProgress } = this.#options;
    onProgress?.({ operation, done: this.#done, total: length, data: this.#data?.progress });
  }

  async #compress(run: Run, bytes: Uint8Array): Promise<CompressedWrite> {
    const target = await this.#target;
    assert(target.compress !== undefined, 'who compresses chose a target that does');
    this.#noteWritten(target, bytes.length);
    return target.compress(run.offset, bytes, this.#writing);
  }

  async #write(target: BlockDevice, run: Run, bytes: Uint8Array): Promise<void> {
    const { targetIsZero, sparseSize } = this.#options;
    // A target that allocates leaves out its own zero units.
    const unit = targetIsZero && target.blockSize === 0 ? sparseSize : 0;
    if (unit === 0) {
      this.#noteWritten(target, bytes.length);
      return target.write(run.offset, bytes, this.#writing);
    }
    const work: Promise<void>[] = [];
    for (const { start, end } of dataRuns(bytes, unit)) {
      this.#noteWritten(target, end - start);
      const writing = target.write(run.offset + start, bytes.subarray(start, end), this.#writing);
      if (target.can.random) work.push(markHandled(writing));
      else await writing;
    }
    return allDone(work);
  }

  /** Counts a write to a device that does not do so itself. */
  #noteWritten(target: BlockDevice, length: number): void {
    if (target.countsStored !== true) this.#written += length;
  }

  /** True when all of the run was available. Lets completed work start its successors first. */
  async #readNow(run: Run, bytes: Uint8Array): Promise<boolean> {
    const { readNow, can } = this.#source;
    // What comes at once would overtake the reads that wait for each other.
    if (readNow === undefined || !this.#begun || !can.random) return false;
    if (this.#nowPause > 0) {
      this.#nowPause--;
      return false;
    }
    await new Promise<void>(afterEvents);
    this.#check();
    try {
      if (readNow.call(this.#source, run.offset, bytes)) {
        this.#nextNowPause = 1;
        return true;
      }
    } catch {
      // Reading it again says what is wrong, and saves what can be saved.
    }
    this.#nowPause = this.#nextNowPause;
    this.#nextNowPause = Math.min(this.#nextNowPause * 2, NOW_PAUSE_MOST);
    return false;
  }

  #startRead(run: Run, bytes: Uint8Array): Promise<void> {
    const read = (): Promise<void> => this.#timedRead(run, bytes);
    const inTurn = this.#quickReads || !this.#source.can.random;
    const reading = markHandled(inTurn ? this.#lastRead.then(read) : read());
    this.#lastRead = reading.catch(() => {});
    return reading;
  }

  async #timedRead(run: Run, bytes: Uint8Array): Promise<void> {
    const start = nowMs();
    await this.#read(run, bytes);
    this.#quickReads = nowMs() - start < QUICK_READ_MS;
  }

  async #read(run: Run, bytes: Uint8Array): Promise<void> {
    try {
      await this.#source.read(run.offset, bytes);
    } catch (error) {
      // What goes forwards only cannot be asked again, nor for what follows.
      if (!this.#options.salvage || !isSalvageable(error) || !this.#source.can.random) throw error;
      await this.#readPieces(run.offset, bytes);
    }
  }

  /** Saves the readable data of a run, extent by extent. */
  async #readPieces(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const { length, state, reason } = await knownExtent(this.#source, offset + at, offset + bytes.length);
      const piece = bytes.subarray(at, at + length);
      if (state === 'damaged') this.#giveUp(offset + at, piece, reason ?? DAMAGED);
      else await this.#readHalves(offset + at, piece);
      at += length;
    }
  }

  /** Saves the readable data around a bad spot: halves until single sectors are left. */
  async #readHalves(offset: number, bytes: Uint8Array): Promise<void> {
    throwIfAborted(this.#options.signal, `The ${this.#options.operation}`);
    try {
      await this.#source.read(offset, bytes);
      return;
    } catch (error) {
      if (!isSalvageable(error)) throw error;
      if (bytes.length <= SECTOR) return this.#giveUp(offset, bytes, reasonOf(error));
    }
    const middle = Math.max(alignDown(bytes.length / 2, SECTOR), SECTOR);
    await this.#readHalves(offset, bytes.subarray(0, middle));
    await this.#readHalves(offset + middle, bytes.subarray(middle));
  }

  #giveUp(offset: number, bytes: Uint8Array, reason: string): void {
    bytes.fill(0);
    this.#noteUnreadable(offset, bytes.length, reason);
  }

  #noteUnreadable(offset: number, length: number, reason: string): void {
    const last = this.#unreadable.at(-1);
    if (last === undefined || !continues(last, { offset, reason })) this.#unreadable.push({ offset, length, reason });
    else this.#unreadable.splice(-1, 1, { ...last, length: last.length + length });
  }

  #buffer(): Promise<Uint8Array> | Uint8Array {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#buffers < this.#options.parallel) {
      this.#buffers++;
      return new Uint8Array(this.#runBytes);
    }
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }

  #giveBack(buffer: Uint8Array): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting === null) this.#free.push(buffer);
    else waiting(buffer);
  }
}

/** A pending or running write. Neither promise fails. */
interface QueuedWrite {
  readonly started: Promise<void>;
  readonly ended: Promise<void>;
}

/** A condition that others wait for. */
class Signal {
  give!: () => void;
  readonly given = new Promise<void>((resolve) => {
    this.give = resolve;
  });
}

/** Damage, or data of a parent that was not opened. */
function isSalvageable(error: unknown): error is ImageError {
  return isDamage(error) || (isImageError(error) && error.kind === 'not-found');
}

/** Sorted, neighbours with one reason joined: runs end in any order. */
function inOrder(ranges: readonly UnreadableRange[]): UnreadableRange[] {
  const joined: UnreadableRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.offset - b.offset)) {
    const last = joined.at(-1);
    if (last === undefined || !continues(last, range)) joined.push(range);
    else joined.splice(-1, 1, { ...last, length: last.length + range.length });
  }
  return joined;
}

function continues(last: UnreadableRange, { offset, reason }: Omit<UnreadableRange, 'length'>): boolean {
  return last.offset + last.length === offset && last.reason === reason;
}

/** Keeps a long copy from taking all of a disk's bandwidth. */
class Pace {
  readonly #bytesPerSecond: number;
  readonly #signal: AbortSignal | undefined;
  #started: number | null = null;
  #taken = 0;

  constructor(bytesPerSecond: number, signal: AbortSignal | undefined) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#signal = signal;
  }

  async take(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    this.#started ??= nowMs();
    const due = this.#started + (this.#taken / this.#bytesPerSecond) * 1000;
    this.#taken += bytes;
    const waitMs = due - nowMs();
    if (waitMs > 0) await this.#sleep(waitMs);
  }

  #sleep(milliseconds: number): Promise<void> {
    const signal = this.#signal;
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        clearTimeout(timer);
        reject(new ImageError('aborted', 'The copy was cancelled', { cause: signal?.reason }));
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', stop);
        resolve();
      }, milliseconds);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }
}
