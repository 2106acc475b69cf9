/**
 * One seed of the queue model: several queues with priorities over one disk, random submissions, cancels, purges, failures
 * of the device and detaching, against a plain array.
 *
 * What the device is asked for passes through `Watched`, which knows the array: it applies changes in the order in which
 * they are started (overlapping requests of a disk are kept in it), compares every read with what the array was when it
 * began, and looks whether the scheduler was allowed to start what it started.
 */
import { ImageError } from '../../src/errors.ts';
import { type BlockDevice, createImage, Disk, IoIterator, IoQueue, type IoRequest } from '../../src/index.ts';
import type { OperationOptions, ReadTarget, WriteSource } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { queueLayers } from './queue-layers.ts';
import { RestlessProvider } from './restless.ts';

type Type = 'read' | 'write' | 'zero' | 'discard' | 'flush';

/** A request to a device. */
interface Call {
  readonly type: Type;
  readonly offset: number;
  readonly length: number;
}
/** Called before every request; returns true to make it fail. */
type Starting = (what: Call, memory: readonly Uint8Array[] | null) => boolean;

/** One submission, as the model sees it. */
interface Submission {
  readonly lane: ModelQueue;
  readonly type: Type;
  /** Of the disk, in order; of a flush, none. */
  readonly pieces: readonly { readonly offset: number; readonly length: number }[];
  readonly memory: Uint8Array | null;
  readonly request: IoRequest<Submission> | null;
  readonly number: number;
  started: number;
  cancelled: boolean;
  /** Of the end of a promise the model hears some turns later: it may have been too late. */
  maybeCancelled: boolean;
  failed: boolean;
  completions: number;
}

/** A queue, and what the model knows of it. */
interface ModelQueue {
  readonly queue: IoQueue<Submission>;
  readonly active: Set<Submission>;
  readonly idle: IoRequest<Submission>[];
  isLeaving: boolean;
}

const SECTOR = 512;
const CANCELED = 'VERR_PDM_MEDIAEX_IOREQ_CANCELED';
const PRIORITIES: readonly [number, ...number[]] = [0, 1, 1, 5, 4_294_967_295];

/** Number of events of each kind, over seeds: a suite that never does a thing proves nothing about it. */
export type QueueTally = Map<string, number>;

/** Runs a seed; throws what is wrong. */
export async function runQueueSeed(
  seed: number,
  format: string,
  tally: QueueTally,
  wrap: (disk: BlockDevice) => BlockDevice = (disk) => disk,
): Promise<void> {
  const random = new Random(seed);
  const provider = new RestlessProvider(new MemoryProvider(), new Random(seed + 1));
  const source = { provider, name: `/disk.${format}` };
  const size = SECTOR * (100 + random.below(200));
  await createImage(source, { format, size, ...(format === 'vdi' ? { config: { AllocationBlockSize: 4096 } } : {}) });
  const layers = queueLayers(random, provider);
  for (const layer of layers.names) tally.set(layer, (tally.get(layer) ?? 0) + 1);
  const open = async () => {
    const opened = await Disk.open(source, { mode: 'write', format, flushAfterMs: 0 });
    await layers.put(opened);
    return opened;
  };
  let disk = await open();
  // What a raw image holds from the start is read through a filter, too.
  if (layers.names.includes('filter')) await disk.zero(0, size);
  const model = new QueueModel(wrap(disk), random, tally);
  await model.run(40 + random.below(80));
  await compare(disk, model.device);
  await disk.close();
  disk = await open();
  await compare(disk, model.device);
  await disk.close();
}

async function compare(disk: BlockDevice, device: Watched): Promise<void> {
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  device.expectRead(0, bytes, device.snapshot(0, bytes.length), 'the end');
}

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

class QueueModel {
  readonly device: Watched;
  readonly #queues: ModelQueue[];
  readonly #random: Random;
  readonly #tally: QueueTally;
  readonly #all: Submission[] = [];
  readonly #background: Promise<void>[] = [];
  readonly #depth: number;
  constructor(disk: BlockDevice, random: Random, tally: QueueTally) {
    this.#random = random;
    this.#tally = tally;
    this.#depth = random.pick([1, 2, 4, 64]);
    this.device = new Watched(disk, random, (what, memory) => this.#starting(what, memory));
    this.#queues = Array.from({ length: 1 + random.below(4) }, () => this.#makeQueue());
  }

  async run(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      for (let count = 1 + this.#random.below(6); count > 0; count--)
        this.#act(this.#queues[this.#random.below(this.#queues.length)]);
      for (let turns = this.#random.below(12); turns > 0; turns--) await null;
      if (this.device.wrong !== null) throw this.device.wrong;
    }
    await Promise.all(this.#background);
    for (const lane of this.#queues) {
      if (lane.queue.device === null) lane.queue.attach(this.device, { atOnce: this.#depth });
      lane.isLeaving = true;
      await lane.queue.detach({ purge: this.#random.chance(0.2) && this.#cancelAll(lane) });
      check(lane.active.size === 0 && lane.queue.activeCount === 0, 'a queue that has left has active requests');
      for (const request of lane.idle) request.free();
      check(lane.queue.requestCount === 0, 'a queue counts requests that were freed');
      lane.queue.destroy();
    }
    await Promise.all(this.#background);
    if (this.device.wrong !== null) throw this.device.wrong;
    for (const { completions, number } of this.#all) {
      check(completions === 1, `submission ${number} was told of ${completions} times`);
    }
    check(this.device.running === 0, 'the device is still busy');
  }

  #makeQueue(): ModelQueue {
    const onComplete = (request: IoRequest<Submission>, error: ImageError | null): void => {
      this.device.noting(() => {
        const submission = request.userData;
        check(submission !== undefined, 'a request completes that was not submitted');
        lane.idle.push(request);
        this.#completed(submission, error);
        if (this.#random.chance(0.2)) this.#submit(lane, lane.idle.pop() ?? null);
      });
    };
    const queue = new IoQueue<Submission>({ priority: this.#random.pick(PRIORITIES), onComplete });
    queue.attach(this.device, { atOnce: this.#depth });
    const lane: ModelQueue = { queue, active: new Set(), idle: [], isLeaving: false };
    return lane;
  }

  #count(what: string): void {
    this.#tally.set(what, (this.#tally.get(what) ?? 0) + 1);
  }

  /** One random thing with one queue. */
  #act(lane: ModelQueue | undefined): void {
    check(lane !== undefined, 'there is a queue');
    const dice = this.#random.below(100);
    if (dice < 70) this.#submit(lane, this.#aRequest(lane));
    else if (dice < 80) this.#cancelById(lane);
    else if (dice < 92) this.#cancelByHandle(lane);
    else if (dice < 94) this.#purge(lane);
    else if (dice < 96) this.#detach(lane);
    else this.#promised(lane);
  }

  #aRequest(lane: ModelQueue): IoRequest<Submission> | null {
    const old = this.#random.chance(0.7) ? lane.idle.pop() : undefined;
    if (old !== undefined) return old;
    const id = this.#random.chance(0.8) ? this.#random.below(30) : null;
    const conflict = id !== null && [...lane.active].some(({ request }) => request?.id === id);
    try {
      const request = lane.queue.allocate(id === null ? {} : { id: this.#random.chance(0.5) ? id : BigInt(id) });
      check(!conflict, 'an id was given twice');
      return request;
    } catch (error) {
      check(conflict && statusOf(error) === 'VERR_PDM_MEDIAEX_IOREQID_CONFLICT', `allocating failed: ${error}`);
      this.#count('conflict');
      return null;
    }
  }

  #submit(lane: ModelQueue, request: IoRequest<Submission> | null): void {
    if (request === null) return;
    const conflict = request.id !== null && [...lane.active].some((other) => other.request?.id === request.id);
    const submission = this.#plan(lane, request);
    const { type, pieces, memory } = submission;
    const before = request.userData;
    request.userData = submission;
    try {
      const [piece] = pieces;
      if (pieces.length > 1 || (piece !== undefined && this.#random.chance(0.3))) {
        const segments = pieces.map(({ offset, length }) => ({ start: offset / SECTOR, size: length / SECTOR }));
        request.submit(type, new IoIterator(this.device, segments, { unit: 'blocks' }), memory);
      } else if (piece === undefined) request.flush();
      else if (memory === null) request[type as 'zero' | 'discard'](piece.offset, piece.length);
      else request[type as 'read' | 'write'](piece.offset, memory);
      check(!conflict && !lane.isLeaving, 'a request was taken that must not be');
      lane.active.add(submission);
      this.#all.push(submission);
      this.#count(type);
    } catch (error) {
      request.userData = before;
      lane.idle.push(request);
      const expected = lane.isLeaving ? 'VERR_INVALID_STATE' : 'VERR_PDM_MEDIAEX_IOREQID_CONFLICT';
      check((conflict || lane.isLeaving) && statusOf(error) === expected, `submitting failed: ${error}`);
      this.#count('refused');
    }
  }

  #plan(lane: ModelQueue, request: IoRequest<Submission> | null, type = this.#aType()): Submission {
    const several = this.#random.chance(0.15) && request !== null;
    const count = type === 'flush' ? 0 : several ? 2 + this.#random.below(4) : 1;
    const pieces = joined(Array.from({ length: count }, () => this.#aPiece()));
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const memory =
      type === 'read' ? new Uint8Array(length) : type === 'write' ? marked(this.#random.next(), length) : null;
    const number = this.#all.length;
    const state = { started: 0, cancelled: false, maybeCancelled: false, failed: false, completions: 0 };
    return { lane, type, pieces, memory, request, number, ...state };
  }

  #aType(): Type {
    return this.#random.pick(['read', 'read', 'read', 'write', 'write', 'write', 'zero', 'discard', 'flush']);
  }

  #aPiece(): { offset: number; length: number } {
    const sectors = this.device.size / SECTOR;
    const first = this.#random.below(sectors);
    const count = 1 + this.#random.below(Math.min(sectors - first, 20));
    return { offset: first * SECTOR, length: count * SECTOR };
  }

  #cancelById(lane: ModelQueue): void {
    const id = this.#random.below(30);
    const submission = [...lane.active].find(({ request }) => request?.id === id);
    try {
      lane.queue.cancel(id);
      check(submission !== undefined, 'a request was cancelled that is not active');
      submission.cancelled = true;
      this.#count('cancel by id');
    } catch (error) {
      check(submission === undefined, `cancelling failed: ${error}`);
      check(statusOf(error) === 'VERR_PDM_MEDIAEX_IOREQID_NOT_FOUND', `cancelling failed: ${error}`);
    }
  }

  #cancelByHandle(lane: ModelQueue): void {
    const active = [...lane.active].filter(({ request }) => request !== null);
    const submission = active[this.#random.below(active.length || 1)];
    if (submission?.request) {
      this.#count(`cancel ${submission.request.state}`);
      submission.request.cancel();
      submission.cancelled = true;
    }
    const idle = lane.idle.at(-1);
    if (idle === undefined) return;
    try {
      idle.cancel();
      check(false, 'a request was cancelled that is idle');
    } catch (error) {
      check(statusOf(error) === 'VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE', `cancelling failed: ${error}`);
    }
  }

  #cancelAll(lane: ModelQueue): true {
    for (const submission of lane.active) {
      if (submission.request !== null) submission.cancelled = true;
      else submission.maybeCancelled = true;
    }
    return true;
  }

  #purge(lane: ModelQueue): void {
    if (lane.queue.device === null) return;
    const those = [...lane.active];
    this.#cancelAll(lane);
    this.#count('purge');
    const purging = lane.queue.purge().then(() => {
      for (const { completions, number } of those)
        check(completions === 1, `a purge leaves submission ${number} behind`);
    });
    this.#background.push(purging);
  }

  #detach(lane: ModelQueue): void {
    if (lane.isLeaving) return;
    const purge = this.#random.chance(0.5);
    if (purge) this.#cancelAll(lane);
    lane.isLeaving = true;
    this.#count(purge ? 'detach with a purge' : 'detach');
    const leaving = lane.queue.detach({ purge }).then(() => {
      check(lane.active.size === 0, 'a queue left with active requests');
      lane.queue.attach(this.device, { atOnce: this.#depth });
      lane.isLeaving = false;
    });
    this.#background.push(leaving);
  }

  #promised(lane: ModelQueue): void {
    const submission = this.#plan(lane, null, this.#random.pick(['read', 'write']));
    const [piece] = submission.pieces;
    const { memory } = submission;
    if (lane.isLeaving || piece === undefined || memory === null) return;
    const abort = new AbortController();
    lane.active.add(submission);
    this.#all.push(submission);
    this.#count('promised');
    const running = lane.queue[submission.type as 'read' | 'write'](piece.offset, memory, { signal: abort.signal });
    const ended = running.then(
      () => this.#completed(submission, null),
      (error: ImageError) => this.#completed(submission, error),
    );
    this.#background.push(ended);
    if (!this.#random.chance(0.2)) return;
    abort.abort();
    submission.cancelled = true;
  }

  #completed(submission: Submission, error: ImageError | null): void {
    const { lane, failed, number, pieces, started, type } = submission;
    const cancelled = submission.cancelled || (submission.maybeCancelled && error?.status === CANCELED);
    submission.completions++;
    lane.active.delete(submission);
    const expected = cancelled ? CANCELED : failed ? 'VERR_GENERAL_FAILURE' : null;
    check((error?.status ?? null) === expected, `submission ${number} ended with ${error}, not with ${expected}`);
    check(cancelled || failed || started >= pieces.length, `submission ${number} (${type}) was not done whole`);
  }

  /** Called for everything that the device is asked for: whose is it, and may it begin? Returns whether it fails. */
  #starting(what: Call, memory: readonly Uint8Array[] | null): boolean {
    check(this.#depth > 1 || this.device.running === 0 || this.#isPiece(), 'more requests run than were allowed');
    const submission = this.#find(what, memory);
    const first = submission.started === 0;
    submission.started += what.type === 'discard' ? submission.pieces.length : 1;
    if (first) this.#checkTurn(submission);
    if (!this.#random.chance(0.02)) return false;
    submission.failed = true;
    this.#count('failure');
    return true;
  }

  /** Pieces of one request run together, whatever the number of requests. */
  #isPiece(): boolean {
    const running = this.#all.filter(({ started, completions }) => started > 0 && completions === 0);
    return running.filter(({ request }) => request !== null).length <= 1;
  }

  #find(what: Call, memory: readonly Uint8Array[] | null): Submission {
    const [part] = memory ?? [];
    for (const { active } of this.#queues) {
      for (const submission of active) {
        if (submission.type !== what.type) continue;
        if (part !== undefined && submission.memory?.buffer !== part.buffer) continue;
        if (part === undefined && submission.request?.state !== 'running') continue;
        const piece = submission.pieces[submission.started];
        const fits = what.type === 'flush' ? submission.started === 0 : piece?.offset === what.offset;
        if (!fits || (what.type !== 'discard' && (piece?.length ?? 0) !== what.length)) continue;
        if (part === undefined) return submission;
        // The right bytes of the memory, too.
        const at = submission.pieces.slice(0, submission.started).reduce((sum, { length }) => sum + length, 0);
        check(
          part.byteOffset === (submission.memory?.byteOffset ?? 0) + at,
          'a piece has the wrong part of the memory',
        );
        return submission;
      }
    }
    throw new Error(`nobody asked for ${what.type} ${what.length} at ${what.offset}`);
  }

  #checkTurn(submission: Submission): void {
    const { lane, number, type, request } = submission;
    check(!submission.cancelled, `submission ${number} began although it was cancelled`);
    const waiting = this.#queues.flatMap(({ active }) =>
      [...active].filter((other) => isWaiting(other) && other !== submission),
    );
    const earlier = waiting.filter((other) => other.lane === lane && other.number < number);
    check(earlier.length === 0, `submission ${number} overtook ${earlier[0]?.number} of its queue`);
    if (type === 'flush') {
      // Of a promise the model hears some turns later.
      const those = [...lane.active].filter((other) => other.request !== null && other.number < number);
      const unfinished = those.find(({ started }) => started > 0);
      check(unfinished === undefined, `flush ${number} began before ${unfinished?.number} had ended`);
    }
    if (request === null) return;
    const isOldest = waiting.every((other) => other.number > number);
    if (isOldest) return;
    const urgent = waiting.find((other) => other.lane.queue.priority < lane.queue.priority && isReady(other));
    check(urgent === undefined, `submission ${number} went before ${urgent?.number}, which is more urgent`);
  }
}

function isWaiting({ started, cancelled, maybeCancelled }: Submission): boolean {
  return started === 0 && !cancelled && !maybeCancelled;
}

/** A flush waits for its own queue. */
function isReady({ lane, number, type }: Submission): boolean {
  if ([...lane.active].some((other) => isWaiting(other) && other.number < number)) return false;
  return type !== 'flush' || ![...lane.active].some(({ started }) => started > 0);
}

/** Bytes that differ from sector to sector and from any other write; much cheaper than random ones. */
function marked(mark: number, length: number): Uint8Array {
  const words = new Uint32Array(length / 4).fill(mark);
  for (let at = 0; at < words.length; at += SECTOR / 4) words[at] = at;
  return new Uint8Array(words.buffer);
}

/** Neighbours as one, as an iterator has them. */
function joined(pieces: readonly { offset: number; length: number }[]): { offset: number; length: number }[] {
  const list: { offset: number; length: number }[] = [];
  for (const { offset, length } of pieces) {
    const last = list.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else list.push({ offset, length });
  }
  return list;
}

function statusOf(error: unknown): string | null {
  return error instanceof ImageError ? error.status : null;
}

/** Content of a range, and its sectors that may read as zero instead because they were discarded. */
interface Snapshot {
  readonly bytes: Uint8Array;
  readonly loose: Uint8Array;
}

/** A disk, and the array that it should be like. */
class Watched implements BlockDevice {
  readonly label = 'watched';
  readonly blockSize = 0;
  readonly size: number;
  /** Calls that have not ended. */
  running = 0;
  /** First failure, here or in a callback. */
  wrong: unknown = null;
  readonly #disk: BlockDevice;
  readonly #random: Random;
  readonly #starting: Starting;
  readonly #bytes: Uint8Array;
  readonly #loose: Uint8Array;
  /** Discards that run over a sector. */
  readonly #discarding: Uint8Array;

  constructor(disk: BlockDevice, random: Random, starting: Starting) {
    this.#disk = disk;
    this.#random = random;
    this.#starting = starting;
    this.size = disk.size;
    this.#bytes = new Uint8Array(disk.size);
    this.#loose = new Uint8Array(disk.size / SECTOR);
    this.#discarding = new Uint8Array(disk.size / SECTOR);
  }

  get can() {
    return this.#disk.can;
  }

  /** Keeps what is wrong for the end of the step: a queue takes what is thrown here for a failure of the device. */
  noting<T>(run: () => T): T | null {
    try {
      return run();
    } catch (error) {
      this.wrong ??= error;
      return null;
    }
  }

  snapshot(offset: number, length: number): Snapshot {
    const [first, last] = [offset / SECTOR, (offset + length) / SECTOR];
    return { bytes: this.#bytes.slice(offset, offset + length), loose: this.#loose.slice(first, last) };
  }

  expectRead(offset: number, found: Uint8Array, { bytes, loose }: Snapshot, when: string): void {
    for (let at = 0; at < found.length; at += SECTOR) {
      const sector = found.subarray(at, at + SECTOR);
      const same = Buffer.compare(sector, bytes.subarray(at, at + SECTOR)) === 0;
      const gone = loose[at / SECTOR] === 1 && sector.every((byte) => byte === 0);
      check(same || gone, `sector ${(offset + at) / SECTOR} holds something else, ${when}`);
    }
  }

  readNow(offset: number, target: Uint8Array): boolean {
    // By chance, and otherwise the read comes again.
    if (this.#random.chance(0.3)) return false;
    const snapshot = this.snapshot(offset, target.length);
    if (this.#disk.readNow?.(offset, target) !== true) return false;
    this.#expectTurn({ type: 'read', offset, length: target.length }, [target]);
    this.noting(() => this.expectRead(offset, target, snapshot, 'read at once'));
    return true;
  }

  async read(offset: number, target: ReadTarget) {
    const list = target instanceof Uint8Array ? [target] : target;
    const length = list.reduce((sum, part) => sum + part.length, 0);
    const snapshot = this.snapshot(offset, length);
    return this.#run({ type: 'read', offset, length }, list, async () => {
      const result = await this.#disk.read(offset, target);
      this.noting(() => this.expectRead(offset, new Uint8Array(Buffer.concat(list)), snapshot, 'read'));
      return result;
    });
  }

  async write(offset: number, source: WriteSource): Promise<void> {
    const list = source instanceof Uint8Array ? [source] : source;
    const length = list.reduce((sum, part) => sum + part.length, 0);
    await this.#run({ type: 'write', offset, length }, list, () => {
      this.#put(offset, new Uint8Array(Buffer.concat(list)));
      return this.#disk.write(offset, source);
    });
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#run({ type: 'zero', offset, length }, null, () => {
      this.#put(offset, new Uint8Array(length));
      return this.#disk.zero(offset, length);
    });
  }

  async discard(ranges: readonly { offset: number; length: number }[], options: OperationOptions = {}): Promise<void> {
    const length = ranges.reduce((sum, range) => sum + range.length, 0);
    await this.#run({ type: 'discard', offset: ranges[0]?.offset ?? 0, length }, null, async () => {
      this.#mark(ranges, 1);
      try {
        await this.#disk.discard?.(ranges, options);
      } finally {
        this.#mark(ranges, -1);
      }
    });
  }

  async flush(): Promise<void> {
    await this.#run({ type: 'flush', offset: 0, length: 0 }, null, () => this.#disk.flush());
  }

  extentAt(offset: number, end: number) {
    return this.#disk.extentAt(offset, end);
  }

  async close(): Promise<void> {}

  async #run<T>(what: Call, memory: readonly Uint8Array[] | null, work: () => Promise<T>): Promise<T> {
    this.#expectTurn(what, memory);
    this.running++;
    try {
      return await work();
    } finally {
      this.running--;
    }
  }

  /** Fails by chance. */
  #expectTurn(what: Call, memory: readonly Uint8Array[] | null): void {
    if (this.noting(() => this.#starting(what, memory)) !== true) return;
    throw new ImageError('io', 'The device fails by chance');
  }

  #put(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
    for (let sector = offset / SECTOR; sector < (offset + bytes.length) / SECTOR; sector++) {
      // A discard that runs may come after it.
      this.#loose[sector] = this.#discarding[sector] === 0 ? 0 : 1;
    }
  }

  #mark(ranges: readonly { offset: number; length: number }[], by: number): void {
    for (const { offset, length } of ranges) {
      for (let sector = offset / SECTOR; sector < (offset + length) / SECTOR; sector++) {
        this.#loose[sector] = 1;
        this.#discarding[sector] = (this.#discarding[sector] ?? 0) + by;
      }
    }
  }
}
