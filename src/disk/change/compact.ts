/**
 * Compaction: makes an image smaller without changing its disk. Units that are zero, equal to the parent, or unused by
 * a file system are freed; units at the end move into the holes; the end is cut off.
 *
 * Every step preserves the content: a unit is freed by its map entry alone, a moved unit is copied, durable, before its
 * entry changes, and space is cut off only when no entry on the medium refers to it. So it can be interrupted anywhere
 * and repeated. Nothing else may run at the same time: the caller holds the whole disk.
 */
import { alignDown, alignUp } from '../../binary/numbers.ts';
import { equalBytes, isZero } from '../../codec/bytes.ts';
import { assert, ImageError, throwIfAborted } from '../../errors.ts';
import type { Image, Progress } from '../../image/contract.ts';
import { LIMITS } from '../../limits.ts';
import { allDone, markHandled } from '../../storage/all-done.ts';
import { isPromise, type OperationOptions, type Storage } from '../../storage/contract.ts';
import { orAborted } from '../../storage/or-aborted.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Turns } from '../../storage/turns.ts';
import { type LockingOptions, requireSystemLocks } from '../open/locking.ts';
import { ActiveImage } from '../path/active-image.ts';
import type { Chain } from '../path/chain.ts';
import { isStored } from '../path/stored.ts';
import { type Reader, readUntilAborted } from './abortable-read.ts';
import type { DiskHost } from './host.ts';
import { expectChange } from './links.ts';
import { imageNumber, reopen } from './stack.ts';

/** Bytes moved per flush to fill holes; the rest waits for the next one. */
const TIDY_BYTES = 64 * 1024 * 1024;
const PIECE = 1024 * 1024;
/** The first bytes of a unit mostly show that it is not zero; the rest is not read then. */
const FIRST_PIECE = 64 * 1024;
/** Concurrent units. */
const PARALLEL = 4;

/** Options for compaction. */
export interface CompactOptions extends OperationOptions {
  /** Number of the image, 0 = base. Default `last`. */
  readonly image?: number | 'last' | undefined;
  /** Returns true if a file system inside uses any byte of a guest range; unused units read as zero afterwards. */
  readonly inUse?: ((offset: number, length: number) => boolean | Promise<boolean>) | undefined;
  /**
   * Reads the data below the image: vd.h's PARENTSTATE. For an image opened without its parents; otherwise the chain is
   * read.
   */
  readonly parentState?: ((offset: number, target: Uint8Array) => Promise<unknown>) | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Parameters of a compaction. */
export interface CompactJob {
  readonly chain: Chain;
  readonly image: Image;
  readonly size: number;
  readonly unit: number;
  /** True when the disk will read differently, too. */
  readonly changesContent: boolean;
  readonly flush: () => Promise<void>;
  readonly options: CompactOptions;
}

/** Parameters for the last image of a chain. */
function compactJob(head: ActiveImage, options: CompactOptions): CompactJob {
  const { chain, last, flusher } = head;
  const changesContent = options.inUse !== undefined;
  return {
    chain,
    image: last.image,
    size: chain.size,
    unit: last.image.info.blockSize ?? 0,
    changesContent,
    flush: async () => {
      if (changesContent) head.noteChange();
      else flusher.noteChange();
      await flusher.flush();
    },
    options,
  };
}

/** Compacts an image of the disk, for `disk.compact`. */
export async function compactDisk(host: DiskHost, options: CompactOptions): Promise<void> {
  const { chain } = host.head;
  const number = imageNumber(chain, options.image ?? 'last');
  const { image, name, format } = chain.at(number);
  if (number === chain.top && !image.can.compact) throw unsupported(name, format, image);
  chain.filters.checkSymmetric(name, COMPACTING);
  await host.exclusive(async () => {
    if (number === chain.top) {
      await host.head.pushOut();
      return compactLast(host.head, host.options, options);
    }
    await host.quiesce();
    await reopen(host.tools, chain, number, 'write');
    try {
      const own = chain.at(number);
      if (!own.image.can.compact) throw unsupported(name, format, own.image);
      if (options.inUse !== undefined) await expectChange(host.tools, chain, number);
      const { ignoreFlush = false } = own.settings;
      const lower = chain.with(chain.images.slice(0, number + 1));
      const head = new ActiveImage(lower, { flushAfterMs: 0, settings: { mode: 'write', ignoreFlush } });
      try {
        await compactLast(head, host.options, options);
      } finally {
        await head.quiesce();
        await head.end();
      }
    } finally {
      await reopen(host.tools, chain, number, 'read');
    }
  });
}

async function compactLast(head: ActiveImage, locking: LockingOptions, options: CompactOptions): Promise<void> {
  await requireSystemLocks(head.last.image.storages(), locking);
  if (options.inUse === undefined) await head.beginMoving();
  else await head.begin();
  await compactImage(compactJob(head, options));
}

function unsupported(path: string, format: string, image: Image): ImageError {
  const fixed = image.info.allocation === 'fixed';
  return new ImageError('unsupported', `This ${format} image cannot be compacted`, {
    path,
    ...(fixed ? { hint: 'Convert it to a dynamic image.' } : {}),
  });
}

/** Subject of messages. */
const COMPACTING = 'Compacting';

/** Buffers of one compaction, reused: fresh memory costs more than reading into it. */
class Buffers {
  readonly #size: number;
  readonly #free: Uint8Array[] = [];

  constructor(unit: number) {
    this.#size = Math.min(PIECE, unit);
  }

  /** Lends a buffer to some work. */
  async lend<T>(work: (buffer: Uint8Array) => Promise<T>): Promise<T> {
    const buffer = this.#free.pop() ?? new Uint8Array(this.#size);
    const result = await work(buffer);
    // Not after a failure: a read that was abandoned may still deliver.
    this.#free.push(buffer);
    return result;
  }
}

/** Frees units that need not be stored and packs the rest. */
async function compactImage(job: CompactJob): Promise<void> {
  await sweep(job);
  await freeIdle(job);
  await job.flush();
  await pack(job, Number.POSITIVE_INFINITY);
}

/** Fills holes left by discards, so that other programs find the file as they expect it. */
export async function tidy(head: ActiveImage, signal?: AbortSignal): Promise<void> {
  if ((head.last.image.reclaimable ?? 0) === 0) return;
  await pack(compactJob(head, { signal }), TIDY_BYTES);
  head.flusher.noteChange();
}

/** Cuts off the free end, moving some units after holes. */
export async function packAfterCut(head: ActiveImage, signal: AbortSignal | undefined): Promise<void> {
  // A file without units ends with its disk.
  if (head.last.image.can.compact) await pack(compactJob(head, { signal }), TIDY_BYTES);
}

/** Moves units from the end into holes, about `maxBytes` of them, and cuts the end off. */
async function pack(job: CompactJob, maxBytes: number): Promise<void> {
  const { image, options } = job;
  assert(image.movable !== undefined && image.trim !== undefined, 'an image that compacts can move and trim');
  let moved = 0;
  const total = image.reclaimable ?? 0;
  const window = new Window();
  const buffers = new Buffers(job.unit);
  try {
    for await (const guestOffset of image.movable({ signal: options.signal })) {
      throwIfAborted(options.signal, COMPACTING);
      if (moved >= maxBytes) break;
      await flushWhenDue(job);
      moved += job.unit;
      await window.add(buffers.lend((buffer) => move(job, guestOffset, buffer)));
      options.onProgress?.({ operation: 'move', done: Math.min(moved, total), total });
    }
  } finally {
    await window.settle();
  }
  window.check();
  await job.flush();
  await image.trim({ signal: options.signal });
}

async function move(job: CompactJob, guestOffset: number, buffer: Uint8Array): Promise<void> {
  const { image } = job;
  const options = { signal: job.options.signal };
  assert(image.relocate !== undefined, 'an image that compacts can move');
  const answer = image.relocate(guestOffset);
  const slot = isPromise(answer) ? await answer : answer;
  if (slot === null) return;
  try {
    const from = slot.from ?? (await placeOf(image, guestOffset));
    for (let at = 0; at < slot.length; at += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, slot.length - at));
      await orAborted(readPadded(from.storage, from.fileOffset + at, piece), options, COMPACTING);
      await store(slot.storage, slot.fileOffset + at, piece, options);
    }
  } catch (error) {
    slot.abort();
    throw error;
  }
  slot.commit();
  if (job.changesContent) image.noteChange();
}

async function placeOf(image: Image, guestOffset: number): Promise<{ storage: Storage; fileOffset: number }> {
  const found = image.map(guestOffset, 1);
  const mapping = isPromise(found) ? await found : found;
  assert(mapping.kind === 'data', 'a moved unit holds data');
  return mapping;
}

/** Writes data to its new place. A hole stays one: an image without a mark for zero hides its parent with it. */
async function store(
  storage: Storage,
  fileOffset: number,
  bytes: Uint8Array,
  options: OperationOptions,
): Promise<void> {
  if (storage.can.punch && isZero(bytes)) await storage.zero(fileOffset, bytes.length, { punch: true }, options);
  else await storage.write(fileOffset, bytes, options);
}

/** Examines every unit that holds data, reading it once. */
async function sweep(job: CompactJob): Promise<void> {
  const window = new Window();
  const buffers = new Buffers(job.unit);
  const turns = new Turns(job.options.signal, COMPACTING);
  try {
    for (let at = 0; at < job.size; ) {
      const turn = turns.take();
      if (turn !== undefined) await turn;
      const answer = job.image.map(at, job.size - at);
      const mapping = isPromise(answer) ? await answer : answer;
      // A unit may hold data in parts of it only; it is judged as a whole.
      const end = isStored(mapping) ? alignUp(at + mapping.length, job.unit) : at + mapping.length;
      if (isStored(mapping)) at = alignDown(at, job.unit);
      else at = end;
      while (at < Math.min(end, job.size)) {
        const next = turns.take();
        if (next !== undefined) await next;
        await flushWhenDue(job);
        const length = Math.min(job.unit, job.size - at);
        await window.add(judge(job, at, length, buffers));
        at += length;
        job.options.onProgress?.({ operation: 'compact', done: at, total: job.size });
      }
      job.options.onProgress?.({ operation: 'compact', done: at, total: job.size });
    }
  } finally {
    await window.settle();
  }
  window.check();
}

/** Frees the space of units that hold no data. */
async function freeIdle(job: CompactJob): Promise<void> {
  const { image, options } = job;
  if (image.idle === undefined) return;
  assert(image.unmap !== undefined, 'an image that compacts has unmap');
  for await (const guestOffset of image.idle({ signal: options.signal })) {
    throwIfAborted(options.signal, COMPACTING);
    await flushWhenDue(job);
    const length = Math.min(job.unit, job.size - guestOffset);
    const { kind } = await image.map(guestOffset, length);
    assert(kind === 'zero' || kind === 'absent', 'a unit without data reads as zero or as the parent');
    await image.unmap(guestOffset, length, kind);
  }
}

/** Flushes now and then, since freed units are remembered until a flush, however large the image is. */
async function flushWhenDue({ image, flush }: CompactJob): Promise<void> {
  if (image.dirtyBytes >= LIMITS.dirtyMetadataBytes) await flush();
}

async function judge(job: CompactJob, offset: number, length: number, buffers: Buffers): Promise<void> {
  const { image, options } = job;
  assert(image.unmap !== undefined, 'an image that compacts has unmap');
  // Without a mark for zero, what is given up would show the parent.
  const hides = image.can.zeroMarker || !job.chain.hasParent(job.chain.top);
  if (hides && options.inUse !== undefined && !(await options.inUse(offset, length))) {
    return void (await image.unmap(offset, length, 'zero'));
  }
  const kind = await buffers.lend((own) =>
    job.chain.top > 0 || options.parentState !== undefined
      ? buffers.lend((below) => kindOf(job, offset, length, { own, below }))
      : kindOf(job, offset, length, { own, below: null }),
  );
  if (kind === 'zero' && hides) await image.unmap(offset, length, 'zero');
  if (kind === 'same') await image.unmap(offset, length, 'absent');
}

/** Buffers for a piece of the unit, and for the data below it if there is a parent. */
interface Compared {
  readonly own: Uint8Array;
  readonly below: Uint8Array | null;
}

async function kindOf(
  job: CompactJob,
  offset: number,
  length: number,
  { own, below }: Compared,
): Promise<'zero' | 'same' | 'data'> {
  const { chain } = job;
  let zero = true;
  let same = below !== null;
  for (let at = 0; at < length && (zero || same); ) {
    const size = Math.min(at === 0 ? FIRST_PIECE : own.length, own.length, length - at);
    const piece = own.subarray(0, size);
    await readUntilAborted(chain, chain.top, offset + at, piece, readerOf(job));
    zero &&= await chain.filters.standForZeroes(offset + at, piece);
    if (same && below !== null) {
      const other = below.subarray(0, size);
      same = equalBytes(piece, await storedBelow(job, offset + at, other));
    }
    at += size;
  }
  if (same) return 'same';
  return zero ? 'zero' : 'data';
}

function readerOf({ options }: CompactJob): Reader {
  return { signal: options.signal, what: COMPACTING };
}

/** Data below the image, in stored form. */
async function storedBelow(job: CompactJob, offset: number, target: Uint8Array): Promise<Uint8Array> {
  const { chain, options } = job;
  if (options.parentState !== undefined) {
    await options.parentState(offset, target);
    return chain.filters.encodes ? chain.filters.encode(offset, target) : target;
  }
  await readUntilAborted(chain, chain.top - 1, offset, target, readerOf(job));
  return target;
}

/** Runs a few tasks at a time; the first failure ends it. */
class Window {
  #running: Promise<void>[] = [];
  #failure: { readonly error: unknown } | null = null;

  async add(work: Promise<void>): Promise<void> {
    const tracked: Promise<void> = markHandled(work)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .then(() => {
        this.#running = this.#running.filter((one) => one !== tracked);
      });
    this.#running.push(tracked);
    if (this.#running.length >= PARALLEL) await Promise.race(this.#running);
    this.check();
  }

  async settle(): Promise<void> {
    await allDone(this.#running);
  }

  check(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}
