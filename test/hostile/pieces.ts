/** Files as the pages that are not zero, so that large ones cost little to send, to hash and to compare. */
import { createHash } from 'node:crypto';
import { equalBytes, isZero } from '../../src/codec/bytes.ts';
import type { BaseFile, Piece, Range } from './protocol.ts';

/** Bytes of a page. */
export const PAGE = 64 * 1024;

/** The pages of a file that are not zero. */
export function piecesOf(name: string, bytes: Uint8Array): BaseFile {
  const pieces: Piece[] = [];
  for (let offset = 0; offset < bytes.length; offset += PAGE) {
    const page = bytes.subarray(offset, offset + PAGE);
    // A copy: what is sent to another process takes its whole buffer along.
    if (!isZero(page)) pieces.push({ offset, bytes: page.slice() });
  }
  return { name, size: bytes.length, pieces };
}

/** Content that is known, by pages. */
export class ContentView {
  readonly #pages = new Map<number, Uint8Array>();
  readonly #size: number;

  constructor(content: BaseFile) {
    for (const { offset, bytes } of content.pieces) this.#pages.set(offset, bytes);
    this.#size = content.size;
  }

  /** Offset at which `bytes`, read at `start`, first differ inside one of the ranges; null for none. */
  firstDifference(start: number, bytes: Uint8Array, ranges: readonly Range[]): number | null {
    for (const [from, to] of ranges) {
      const end = Math.min(to, start + bytes.length, this.#size);
      for (let at = Math.max(from, start); at < end; ) {
        const page = at - (at % PAGE);
        const stop = Math.min(page + PAGE, end);
        const found = bytes.subarray(at - start, stop - start);
        const wanted = this.#pages.get(page)?.subarray(at - page, stop - page);
        if (wanted === undefined ? !isZero(found) : !equalBytes(found, wanted)) {
          return at + found.findIndex((byte, index) => byte !== (wanted?.[index] ?? 0));
        }
        at = stop;
      }
    }
    return null;
  }
}

/** Tells files apart by SHA-256, hashing only the pages that were edited. */
export class FileHasher {
  readonly #bytes: Uint8Array;
  readonly #pages = new Map<number, string>();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Equal for two files with equal bytes. */
  hash(edits: readonly Piece[], size: number): string {
    const touched = new Set<number>();
    for (const { offset, bytes } of edits) {
      for (let page = offset - (offset % PAGE); page < offset + bytes.length; page += PAGE) touched.add(page);
    }
    const all = createHash('sha256').update(`${size}\n`);
    for (let page = 0; page < size; page += PAGE) {
      const whole = page + PAGE <= Math.min(size, this.#bytes.length) && !touched.has(page);
      all.update(whole ? this.#pageHash(page) : hashOf(this.#edited(page, edits, size)));
    }
    return all.digest('hex');
  }

  #pageHash(page: number): string {
    const known = this.#pages.get(page);
    if (known !== undefined) return known;
    const made = hashOf(this.#bytes.subarray(page, page + PAGE));
    this.#pages.set(page, made);
    return made;
  }

  #edited(page: number, edits: readonly Piece[], size: number): Uint8Array {
    const length = Math.min(PAGE, size - page);
    const copy = new Uint8Array(length);
    copy.set(this.#bytes.subarray(page, Math.min(page + length, this.#bytes.length)));
    for (const { offset, bytes } of edits) {
      const start = Math.max(offset, page);
      const end = Math.min(offset + bytes.length, page + length);
      if (start < end) copy.set(bytes.subarray(start - offset, end - offset), start - page);
    }
    return copy;
  }
}

/** The file with its edits, whole. */
export function applyEdits(base: Uint8Array, edits: readonly Piece[], size: number): Uint8Array {
  const end = edits.reduce((most, { offset, bytes }) => Math.max(most, offset + bytes.length), base.length);
  const whole = new Uint8Array(Math.max(end, size));
  whole.set(base);
  for (const { offset, bytes } of edits) whole.set(bytes, offset);
  return whole.slice(0, size);
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
