/**
 * The disk of an image that comes through a stream. Requests go forwards, as those of the copy engine do: it asks for
 * extents first, for which units are held as they came, and reads a run once it knows where the run ends. So what is held
 * is bounded by the runs in flight.
 */
import type { BlockDevice, Extent, ReadResult } from '../disk/device.ts';
import type { Environment } from '../disk/open/environment.ts';
import { ImageError } from '../errors.ts';
import type { Format, ImageInfo } from '../image/contract.ts';
import type { ForwardImage, ForwardUnit } from '../image/forwards.ts';
import { LIMITS } from '../limits.ts';
import { allDone, markHandled } from '../storage/all-done.ts';
import type { ByteStream } from '../storage/byte-stream.ts';
import type { ReadTarget } from '../storage/contract.ts';

/** Options for opening the image in a stream. */
export interface ForwardOptions {
  readonly environment: Environment;
  /** Name of its format; undefined: by its first bytes. */
  readonly format?: string | undefined;
}

/** The disk in a stream; null, with nothing taken: it must be read at random. Throws as opening does. */
export async function openForwards(stream: ByteStream, options: ForwardOptions): Promise<ForwardDisk | null> {
  const { registry, signal } = options.environment;
  const head = await stream.peek(LIMITS.probeHead);
  const chosen = options.format === undefined ? registry.formats : [registry.find(options.format)];
  const format = chosen.find((one): one is Format => one?.readsForwards?.(head) === true);
  const image = await format?.openForwards?.(stream, { signal });
  return image === undefined || image === null ? null : new ForwardDisk(image, stream.label);
}

/** A unit that was not read yet, or not to its end. */
interface HeldUnit extends ForwardUnit {
  readonly end: number;
  /** Kept where a request takes a part of it. */
  decoded: Promise<Uint8Array> | null;
}

/** See the head of this file. */
export class ForwardDisk implements BlockDevice, AsyncDisposable {
  readonly label: string;
  readonly can = { write: false, zero: false, discard: false, random: false };
  readonly blockSize = 0;
  readonly info: ImageInfo;
  readonly #image: ForwardImage;
  readonly #held: HeldUnit[] = [];
  /** End of the last unit that came. */
  #known = 0;
  /** End of the last read. */
  #position = 0;
  #ended = false;
  #coming: Promise<void> = Promise.resolve();

  constructor(image: ForwardImage, label: string) {
    this.#image = image;
    this.label = label;
    this.info = image.info;
  }

  get size(): number {
    return this.info.virtualSize;
  }

  get warnings(): readonly string[] {
    return this.info.warnings;
  }

  async extentAt(offset: number, end: number): Promise<Extent> {
    this.#checkOrder(offset);
    await this.#fetchTo(offset + 1);
    const unit = this.#held.find((one) => one.end > offset);
    const isData = unit !== undefined && unit.guestOffset <= offset;
    const until = unit === undefined ? end : isData ? unit.end : unit.guestOffset;
    const place = { image: isData ? 0 : null, depth: isData ? 0 : null, file: null, fileOffset: null };
    const length = Math.min(until, end) - offset;
    return { offset, length, state: isData ? 'data' : 'absent', compressed: isData, ...place };
  }

  async read(offset: number, target: ReadTarget): Promise<ReadResult> {
    this.#checkOrder(offset);
    const buffers = target instanceof Uint8Array ? [target] : target;
    const length = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    // At the end of the disk it must be seen that the stream ends as well.
    await this.#fetchTo(offset + length === this.size ? Number.POSITIVE_INFINITY : offset + length);
    this.#position = offset + length;
    let at = offset;
    const work: Promise<void>[] = [];
    for (const buffer of buffers) {
      for (const part of this.#fill(at, buffer)) work.push(part);
      at += buffer.length;
    }
    while ((this.#held[0]?.end ?? Number.POSITIVE_INFINITY) <= at) this.#held.shift();
    await allDone(work);
    return { unallocated: work.length === 0 };
  }

  write(): Promise<never> {
    return Promise.reject(this.#readOnly());
  }

  zero(): Promise<never> {
    return Promise.reject(this.#readOnly());
  }

  async flush(): Promise<void> {}

  /** The stream stays open: it belongs to the caller. */
  async close(): Promise<void> {
    this.#held.length = 0;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The parts of a buffer that units fill; the rest is zeroed. */
  *#fill(offset: number, buffer: Uint8Array): Generator<Promise<void>> {
    const end = offset + buffer.length;
    let filled = offset;
    for (const unit of this.#held) {
      if (unit.end <= offset) continue;
      if (unit.guestOffset >= end) break;
      const [from, to] = [Math.max(unit.guestOffset, offset), Math.min(unit.end, end)];
      buffer.fill(0, filled - offset, from - offset);
      filled = to;
      yield markHandled(copyPart(unit, from, buffer.subarray(from - offset, to - offset)));
    }
    buffer.fill(0, filled - offset);
  }

  /** Waits until everything before `end` came. */
  async #fetchTo(end: number): Promise<void> {
    while (this.#known < end && !this.#ended) {
      const next = this.#coming.then(() => this.#fetch(end));
      this.#coming = next.catch(() => {});
      await next;
    }
  }

  async #fetch(end: number): Promise<void> {
    if (this.#known >= end || this.#ended) return;
    const unit = await this.#image.next();
    if (unit === null) {
      this.#ended = true;
      return;
    }
    this.#known = unit.guestOffset + unit.size;
    const { guestOffset, size } = unit;
    this.#held.push({ guestOffset, size, end: this.#known, decoded: null, decode: (room) => unit.decode(room) });
  }

  #checkOrder(offset: number): void {
    if (offset >= this.#position) return;
    throw new ImageError('unsupported', 'What came through a stream cannot be read again', {
      path: this.label,
      guestOffset: offset,
      hint: 'Read the image into a file or into memory first.',
    });
  }

  #readOnly(): ImageError {
    return new ImageError('read-only', 'An image in a stream cannot be written', { path: this.label });
  }
}

async function copyPart(unit: HeldUnit, from: number, target: Uint8Array): Promise<void> {
  const skip = from - unit.guestOffset;
  if (target.length === unit.size && unit.decoded === null) {
    const decoded = await unit.decode(target);
    if (decoded !== target) target.set(decoded);
    return;
  }
  unit.decoded ??= unit.decode();
  target.set((await unit.decoded).subarray(skip, skip + target.length));
}
