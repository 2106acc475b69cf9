/** Bytes that come in chunks, of which some may be given back: members of a compressed file end anywhere in a chunk. */

/** A reader of chunks. Calls follow each other. */
export class Chunks {
  readonly #source: AsyncIterator<Uint8Array>;
  #held: Uint8Array | null = null;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The next bytes, at least one; null at the end. */
  async pull(): Promise<Uint8Array | null> {
    const held = this.#held;
    this.#held = null;
    if (held !== null) return held;
    for (;;) {
      const { done, value } = await this.#source.next();
      if (done === true) return null;
      if (value.length > 0) return value;
    }
  }

  /** Gives back the last bytes that came: they come again. */
  unread(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#held = this.#held === null ? bytes : together(bytes, this.#held);
  }

  /** The next bytes; fewer than `length` only at the end. */
  async take(length: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for (let rest = length; rest > 0; ) {
      const chunk = await this.pull();
      if (chunk === null) break;
      parts.push(chunk.subarray(0, rest));
      this.unread(chunk.subarray(rest));
      rest -= Math.min(rest, chunk.length);
    }
    return parts.length === 1 ? (parts[0] ?? new Uint8Array(0)) : joined(parts);
  }

  /** The next bytes, which come again; fewer than `length` only at the end. */
  async peek(length: number): Promise<Uint8Array> {
    const bytes = await this.take(length);
    this.unread(bytes);
    return bytes;
  }

  /** Passes over zeroes. Resolves with their number. */
  async skipZeroes(): Promise<number> {
    for (let count = 0; ; ) {
      const chunk = await this.pull();
      if (chunk === null) return count;
      const end = chunk.findIndex((byte) => byte !== 0);
      if (end === -1) {
        count += chunk.length;
        continue;
      }
      this.unread(chunk.subarray(end));
      return count + end;
    }
  }
}

/** Two parts as one: what was cut apart only gets another view. */
function together(first: Uint8Array, second: Uint8Array): Uint8Array {
  const adjacent = first.buffer === second.buffer && first.byteOffset + first.length === second.byteOffset;
  return adjacent
    ? new Uint8Array(first.buffer, first.byteOffset, first.length + second.length)
    : joined([first, second]);
}

/** A copy of all parts, one behind the other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
