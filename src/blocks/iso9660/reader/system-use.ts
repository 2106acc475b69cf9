/** Rock Ridge of a directory record: names, modes, times, links and moved directories. Bounded, whatever the bytes say. */
import type { ImageError } from '../../../errors.ts';
import { longTime, shortTime } from '../dates.ts';
import { BLOCK, CE, CL, KIND, PX, TARGET, TIMES } from '../layout.ts';
import type { IsoAttributes } from '../tree.ts';

/** Continuation areas of a record, and bytes of one. */
const MOST_AREAS = 32;
const AREA_BYTES = BLOCK;
/** Bytes of a name and of a target together. */
const TEXT_BYTES = 8192;

/** Facts in the entries of a record. Null: they tell none. */
export interface SystemUse {
  readonly name: Uint8Array | null;
  readonly attributes: IsoAttributes | null;
  /** Bits of `KIND`. */
  readonly kind: number | null;
  readonly modifiedMs: number | null;
  readonly target: Uint8Array | null;
  /** Block of the directory that the record stands for. */
  readonly child: number | null;
  /** The directory was moved here: its record elsewhere counts. */
  readonly isMoved: boolean;
}

/** Reads bytes of the image. */
export type ReadBytes = (offset: number, length: number) => Promise<Uint8Array>;

/** Reads the entries of a record and their continuations. `corrupt`: makes the error. */
export async function systemUseOf(
  area: Uint8Array,
  read: ReadBytes,
  corrupt: (found: string) => ImageError,
): Promise<SystemUse> {
  const parser = new Parser(corrupt);
  let next = parser.take(area);
  for (let areas = 1; next !== null; areas++) {
    const { block, offset, length } = next;
    if (areas > MOST_AREAS || length > AREA_BYTES) throw corrupt('continuation areas without an end');
    next = parser.take(await read(block * BLOCK + offset, length));
  }
  return parser.found();
}

class Parser {
  readonly #corrupt: (found: string) => ImageError;
  readonly #name: number[] = [];
  readonly #target: number[] = [];
  /** A part of the target goes on. */
  #joins = true;
  #hasTarget = false;
  #attributes: IsoAttributes | null = null;
  #kind: number | null = null;
  #modifiedMs: number | null = null;
  #child: number | null = null;
  #isMoved = false;

  constructor(corrupt: (found: string) => ImageError) {
    this.#corrupt = corrupt;
  }

  /** The place of the area that follows; null: none does. */
  take(area: Uint8Array): { block: number; offset: number; length: number } | null {
    let next: { block: number; offset: number; length: number } | null = null;
    for (let at = 0; at + 4 <= area.length; ) {
      const length = area[at + 2] ?? 0;
      const tag = String.fromCharCode(area[at] ?? 0, area[at + 1] ?? 0);
      // Padding, or the end.
      if (length < 4 || tag === 'ST') break;
      if (at + length > area.length) throw this.#corrupt(`an entry ${JSON.stringify(tag)} beyond its area`);
      const bytes = area.subarray(at + 4, at + length);
      if (tag === 'CE' && bytes.length >= CE.size) next = CE.decode(bytes);
      else this.#entry(tag, bytes);
      at += length;
    }
    return next;
  }

  found(): SystemUse {
    return {
      name: this.#name.length === 0 ? null : Uint8Array.from(this.#name),
      attributes: this.#attributes,
      kind: this.#kind,
      modifiedMs: this.#modifiedMs,
      target: this.#hasTarget ? Uint8Array.from(this.#target) : null,
      child: this.#child,
      isMoved: this.#isMoved,
    };
  }

  #entry(tag: string, bytes: Uint8Array): void {
    if (tag === 'NM') this.#append(this.#name, bytes.subarray(1));
    else if (tag === 'RE') this.#isMoved = true;
    else if (tag === 'CL' && bytes.length >= CL.size) this.#child = CL.get(bytes, 'block');
    else if (tag === 'TF') this.#times(bytes);
    else if (tag === 'SL') this.#link(bytes.subarray(1));
    else if (tag === 'PX' && bytes.length >= PX.size) {
      const { mode, user, group } = PX.decode(bytes);
      this.#kind = mode & KIND.mask;
      this.#attributes = { mode: mode & 0o7777, user, group };
    }
  }

  #append(to: number[], bytes: Uint8Array): void {
    if (to.length + bytes.length > TEXT_BYTES) throw this.#corrupt('a name without an end');
    for (const byte of bytes) to.push(byte);
  }

  #times(bytes: Uint8Array): void {
    const flags = bytes[0] ?? 0;
    if ((flags & TIMES.modification) === 0) return;
    const size = flags & TIMES.long ? 17 : 7;
    const at = 1 + (flags & TIMES.creation ? size : 0);
    if (at + size > bytes.length) throw this.#corrupt('times beyond their entry');
    const time = bytes.subarray(at, at + size);
    this.#modifiedMs = size === 7 ? shortTime(time) : longTime(time);
  }

  #link(bytes: Uint8Array): void {
    this.#hasTarget = true;
    for (let at = 0; at + 2 <= bytes.length; ) {
      const [flags = 0, length = 0] = bytes.subarray(at, at + 2);
      if (at + 2 + length > bytes.length) throw this.#corrupt('a target beyond its entry');
      const text = bytes.subarray(at + 2, at + 2 + length);
      // Every part but the first has a slash before it, and the root is one.
      if (!this.#joins) this.#append(this.#target, SLASH);
      if (flags & TARGET.self) this.#append(this.#target, DOT);
      else if (flags & TARGET.parent) this.#append(this.#target, DOTS);
      else if (flags & TARGET.root) this.#append(this.#target, SLASH);
      else this.#append(this.#target, text);
      this.#joins = (flags & (TARGET.continues | TARGET.root)) !== 0;
      at += 2 + length;
    }
  }
}

const SLASH = Uint8Array.of(0x2f);
const DOT = Uint8Array.of(0x2e);
const DOTS = Uint8Array.of(0x2e, 0x2e);
