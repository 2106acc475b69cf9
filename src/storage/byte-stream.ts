/** Bytes that come in order, once: a pipe, or what a server sends. */
import { throwIfAborted } from '../errors.ts';
import { isPromise, type MaybePromise, type OperationOptions } from './contract.ts';

/** Options for reading a stream. */
export interface ByteStreamOptions extends OperationOptions {
  /** Called with the bytes that came so far. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** A stream that is read in pieces of any length. Calls follow each other. Holds what was looked at and not taken. */
export class ByteStream {
  /** Name for messages. */
  readonly label: string;
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #options: ByteStreamOptions;
  /** Chunks that came, from the next byte on. */
  readonly #held: Uint8Array[] = [];
  #heldBytes = 0;
  #position = 0;
  #came = 0;
  #ended = false;

  constructor(chunks: AsyncIterable<Uint8Array>, label: string, options: ByteStreamOptions = {}) {
    this.label = label;
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#options = options;
  }

  /** Offset of the next byte. */
  get position(): number {
    return this.#position;
  }

  /** The next bytes, which stay to be taken; fewer than `length` only at the end. */
  peek(length: number): MaybePromise<Uint8Array> {
    const waiting = this.#hold(length);
    return isPromise(waiting) ? waiting.then(() => this.#front(length)) : this.#front(length);
  }

  /** The next bytes; fewer than `length` only at the end. They must not be changed. */
  take(length: number): MaybePromise<Uint8Array> {
    const waiting = this.#hold(length);
    return isPromise(waiting) ? waiting.then(() => this.#taken(length)) : this.#taken(length);
  }

  /** Drops the next bytes. Resolves with their number, less than `length` only at the end. */
  async skip(length: number): Promise<number> {
    const start = this.#position;
    while (this.#position - start < length && (this.#heldBytes > 0 || (await this.#pull()))) {
      this.#drop(Math.min(length - (this.#position - start), this.#heldBytes));
    }
    return this.#position - start;
  }

  /** Everything that was not taken. */
  async *rest(): AsyncGenerator<Uint8Array> {
    while (this.#heldBytes > 0 || (await this.#pull())) {
      const [chunk] = this.#held;
      if (chunk === undefined) continue;
      this.#drop(chunk.length);
      yield chunk;
    }
  }

  #hold(length: number): Promise<void> | undefined {
    return this.#heldBytes >= length || this.#ended ? undefined : this.#wait(length);
  }

  async #wait(length: number): Promise<void> {
    while (this.#heldBytes < length && (await this.#pull()));
  }

  /** Waits for a chunk. False: there are no more. */
  async #pull(): Promise<boolean> {
    const { signal, onBytes } = this.#options;
    if (this.#ended) return false;
    throwIfAborted(signal, `Reading ${this.label}`);
    const { done, value } = await this.#chunks.next();
    throwIfAborted(signal, `Reading ${this.label}`);
    if (done === true) {
      this.#ended = true;
      return false;
    }
    this.#held.push(value);
    this.#heldBytes += value.length;
    this.#came += value.length;
    onBytes?.(this.#came);
    return true;
  }

  /** A view where one chunk has them all, a copy otherwise. */
  #front(length: number): Uint8Array {
    const size = Math.min(length, this.#heldBytes);
    const [first = new Uint8Array(0)] = this.#held;
    if (first.length >= size) return first.subarray(0, size);
    const bytes = new Uint8Array(size);
    let filled = 0;
    for (const chunk of this.#held) {
      if (filled === size) break;
      bytes.set(chunk.subarray(0, size - filled), filled);
      filled = Math.min(filled + chunk.length, size);
    }
    return bytes;
  }

  #taken(length: number): Uint8Array {
    const bytes = this.#front(length);
    this.#drop(bytes.length);
    return bytes;
  }

  #drop(length: number): void {
    let rest = length;
    for (let [chunk] = this.#held; chunk !== undefined && rest > 0; [chunk] = this.#held) {
      if (chunk.length > rest) this.#held[0] = chunk.subarray(rest);
      else this.#held.shift();
      rest -= Math.min(rest, chunk.length);
    }
    this.#position += length;
    this.#heldBytes -= length;
  }
}
