/**
 * Bytes that are decoded in order, as a storage for a reader that goes through them once, from the start to the end. Their
 * length is the one that a container tells: at the end it is seen if that was right.
 */
import { ImageError, throwIfAborted } from '../errors.ts';
import { allOf, checkRange, lengthOf, readOnlyStorage } from './checks.ts';
import type {
  LockState,
  OperationOptions,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
} from './contract.ts';

/** Most that is kept for requests that were overtaken, bytes. */
const MOST_KEPT = 32 * 1024 * 1024;

/** The bytes, and what is known of them. */
export interface ReadOnceParts {
  readonly label: string;
  /** Each is valid until the next is asked for. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Bytes at the end that the judge gets. */
  readonly tail: number;
  /** Called when the bytes are not those that were expected, or are asked for twice: they must be read in another way. */
  readonly onSurprise: () => void;
}

/** False: the bytes are not those that were expected. */
export type JudgeEnd = (tail: Uint8Array) => boolean;

/** Bytes that were passed over. */
interface Kept {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * Storage over chunks. The first bytes may be looked at again and again, and the last ones, which read as zeroes, until
 * something between them is asked for. From then on a byte is read once.
 */
export class ReadOnceStorage implements Storage {
  readonly label: string;
  readonly can: StorageCapabilities = { write: false, resize: false, random: true, punch: false, growsZeroed: false };
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #tailBytes: number;
  readonly #onSurprise: () => void;
  #size = 0;
  #judge: JudgeEnd = () => true;
  #head = new Uint8Array(0);
  #tail = new Uint8Array(0);
  /** Bytes that came and were not taken, from `#position` on. */
  #front: Uint8Array | null = null;
  #position = 0;
  #started = false;
  #kept: Kept[] = [];
  #keptBytes = 0;
  #last: Promise<void> = Promise.resolve();

  constructor({ label, chunks, tail, onSurprise }: ReadOnceParts) {
    this.label = label;
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#tailBytes = tail;
    this.#onSurprise = onSurprise;
  }

  get size(): number {
    return this.#size;
  }

  /** Decodes the first bytes: `length` of them if there are that many. Called once, before anything else. */
  async readHead(length: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for (let missing = length; missing > 0; ) {
      const chunk = await this.#next();
      if (chunk === null) break;
      parts.push(chunk.slice());
      missing -= chunk.length;
    }
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    this.#front = bytes;
    this.#head = bytes.subarray(0, length);
    return this.#head;
  }

  /** All the bytes, in order, for a reader that does without the storage. */
  async *all(): AsyncGenerator<Uint8Array> {
    for (let chunk = await this.#next(); chunk !== null; chunk = await this.#next()) yield chunk;
  }

  /** Takes the length that the bytes should have, and what judges their end. */
  expect(size: number, judge: JudgeEnd): void {
    this.#size = size;
    this.#judge = judge;
    this.#tail = new Uint8Array(Math.min(size, this.#tailBytes));
  }

  async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    throwIfAborted(options?.signal, 'The read');
    checkRange(this, offset, lengthOf(target));
    if (!this.#started && this.#readEnds(offset, target)) return;
    this.#started = true;
    const turn = this.#last.then(() => this.#take(offset, target, options));
    this.#last = turn.catch(() => {});
    await turn;
  }

  extentAt(offset: number): StorageExtent {
    checkRange(this, offset, 1);
    return { start: 0, end: this.#size, data: true };
  }

  write(): Promise<never> {
    return Promise.reject(readOnlyStorage(this.label));
  }

  zero(): Promise<never> {
    return Promise.reject(readOnlyStorage(this.label));
  }

  resize(): Promise<never> {
    return Promise.reject(readOnlyStorage(this.label));
  }

  async flush(): Promise<void> {}

  async identity(): Promise<StorageIdentity> {
    return { key: `once:${this.label}`, kind: 'other', allocatedSize: null, modifiedMs: null };
  }

  async lock(): Promise<void> {}

  async lockState(): Promise<LockState> {
    return { held: 'none', holders: [] };
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#chunks.return?.();
  }

  /** Serves the ends, which formats look at before they read. False: it is something else. */
  #readEnds(offset: number, target: ReadTarget): boolean {
    const end = offset + lengthOf(target);
    const isHead = end <= this.#head.length;
    if (!isHead && offset < this.#size - this.#tail.length) return false;
    let at = offset;
    for (const buffer of allOf(target)) {
      if (isHead) buffer.set(this.#head.subarray(at, at + buffer.length));
      else buffer.fill(0);
      at += buffer.length;
    }
    return true;
  }

  async #take(offset: number, target: ReadTarget, options: OperationOptions | undefined): Promise<void> {
    let at = offset;
    for (const buffer of allOf(target)) {
      await this.#fill(at, buffer, options);
      at += buffer.length;
    }
    if (this.#position === this.#size) await this.#judgeEnd();
  }

  async #fill(offset: number, buffer: Uint8Array, options: OperationOptions | undefined): Promise<void> {
    let filled = this.#takeKept(offset, buffer);
    if (filled < buffer.length && offset + filled < this.#position) throw this.#surprise('is asked for twice');
    while (filled < buffer.length) {
      const front = await this.#ready(options);
      const skip = Math.min(offset + filled - this.#position, front.length);
      if (skip > 0) this.#keep(front.subarray(0, skip));
      const bytes = front.subarray(skip, skip + buffer.length - filled);
      buffer.set(bytes, filled);
      filled += bytes.length;
      this.#pass(front, skip + bytes.length);
    }
  }

  /** Fills the start of the buffer with bytes that were passed over. Returns the number of them. */
  #takeKept(offset: number, buffer: Uint8Array): number {
    let filled = 0;
    for (const kept of [...this.#kept]) {
      const [at, end] = [offset + filled, kept.offset + kept.bytes.length];
      if (filled === buffer.length || at < kept.offset || at >= end) continue;
      const bytes = kept.bytes.subarray(at - kept.offset, at - kept.offset + buffer.length - filled);
      buffer.set(bytes, filled);
      filled += bytes.length;
      this.#keptBytes -= bytes.length;
      const rests = [
        { offset: kept.offset, bytes: kept.bytes.subarray(0, at - kept.offset) },
        { offset: at + bytes.length, bytes: kept.bytes.subarray(at - kept.offset + bytes.length) },
      ];
      this.#kept = this.#kept.flatMap((one) => (one === kept ? rests.filter((rest) => rest.bytes.length > 0) : [one]));
    }
    return filled;
  }

  #keep(bytes: Uint8Array): void {
    this.#kept.push({ offset: this.#position, bytes: bytes.slice() });
    this.#keptBytes += bytes.length;
    while (this.#keptBytes > MOST_KEPT) this.#keptBytes -= this.#kept.shift()?.bytes.length ?? 0;
  }

  /** The bytes at `#position`, at least one. */
  async #ready(options: OperationOptions | undefined): Promise<Uint8Array> {
    throwIfAborted(options?.signal, 'The read');
    this.#front ??= await this.#next();
    if (this.#front === null) throw this.#surprise('is missing at the end');
    return this.#front;
  }

  /** Goes on behind the first bytes of the front. */
  #pass(front: Uint8Array, length: number): void {
    const start = this.#size - this.#tail.length;
    const end = this.#position + length;
    if (end > start) {
      const from = Math.max(this.#position, start);
      this.#tail.set(front.subarray(from - this.#position, length), from - start);
    }
    this.#position = end;
    this.#front = length < front.length ? front.subarray(length) : null;
  }

  async #judgeEnd(): Promise<void> {
    if (this.#front !== null || (await this.#next()) !== null) throw this.#surprise('follows the end');
    if (!this.#judge(this.#tail)) throw this.#surprise('has another meaning');
  }

  #surprise(what: string): ImageError {
    this.#onSurprise();
    return new ImageError('io', `A part of what is unpacked ${what}`, { path: this.label, offset: this.#position });
  }

  async #next(): Promise<Uint8Array | null> {
    const front = this.#front;
    this.#front = null;
    if (front !== null && front.length > 0) return front;
    for (;;) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return null;
      if (value.length > 0) return value;
    }
  }
}
