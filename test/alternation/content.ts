/** Content of a disk as pages of which many are zero: never changed, so that states before and after a step share them. */

const PAGE = 64 * 1024;
const SECTOR = 512;
const ZERO_PAGE = new Uint8Array(PAGE);

/** See the head of this file. */
export class Content {
  readonly size: number;
  readonly #pages: ReadonlyMap<number, Uint8Array>;

  constructor(size: number, pages: ReadonlyMap<number, Uint8Array> = new Map()) {
    this.size = size;
    this.#pages = pages;
  }

  /** The page that begins at `number` times 64 KiB, zeroes behind the end. Not to be changed. */
  page(number: number): Uint8Array {
    return this.#pages.get(number) ?? ZERO_PAGE;
  }

  get pageCount(): number {
    return Math.ceil(this.size / PAGE);
  }

  with(offset: number, bytes: Uint8Array): Content {
    const pages = new Map(this.#pages);
    for (let at = 0; at < bytes.length; ) {
      const number = Math.floor((offset + at) / PAGE);
      const within = (offset + at) % PAGE;
      const length = Math.min(PAGE - within, bytes.length - at);
      const page = this.page(number).slice();
      page.set(bytes.subarray(at, at + length), within);
      pages.set(number, page);
      at += length;
    }
    return new Content(this.size, pages);
  }

  filled(offset: number, length: number, byte: number): Content {
    return this.with(offset, new Uint8Array(length).fill(byte));
  }

  resized(size: number): Content {
    const pages = new Map([...this.#pages].filter(([number]) => number * PAGE < size));
    const last = pages.get(Math.floor(size / PAGE));
    if (last !== undefined) pages.set(Math.floor(size / PAGE), last.slice().fill(0, size % PAGE));
    return new Content(size, pages);
  }

  /** Content of `other`, continued past its end with this one. */
  overlaid(other: Content): Content {
    if (other.size >= this.size) return other;
    const pages = new Map(other.#pages);
    const edge = Math.floor(other.size / PAGE);
    for (const [number, page] of this.#pages) if (number > edge) pages.set(number, page);
    const mixed = this.page(edge).slice();
    mixed.set(other.page(edge).subarray(0, other.size % PAGE));
    if (edge * PAGE < this.size) pages.set(edge, mixed);
    return new Content(this.size, pages);
  }

  /** Offsets of sectors in the range that the two hold differently. */
  *differences(other: Content, offset = 0, length = this.size): Generator<number> {
    const end = offset + length;
    for (let at = offset - (offset % SECTOR); at < end; ) {
      const number = Math.floor(at / PAGE);
      const [mine, its] = [this.page(number), other.page(number)];
      if (at % PAGE === 0 && (mine === its || Buffer.compare(mine, its) === 0)) {
        at += PAGE;
        continue;
      }
      const within = at % PAGE;
      if (!sameSector(mine, its, within)) yield at;
      at += SECTOR;
    }
  }

  equals(other: Content): boolean {
    return this.size === other.size && this.differences(other).next().done === true;
  }

  /** Nothing but zeroes from there to the end. */
  isZeroFrom(offset: number): boolean {
    return (
      offset >= this.size || this.differences(new Content(this.size), offset, this.size - offset).next().done === true
    );
  }
}

function sameSector(a: Uint8Array, b: Uint8Array, within: number): boolean {
  return Buffer.compare(a.subarray(within, within + SECTOR), b.subarray(within, within + SECTOR)) === 0;
}

/** The bytes that were found as content, when each sector is as one of `wanted` has it; else where it is not. */
export function recognise(found: Uint8Array, wanted: readonly Content[]): Content | { readonly wrongAt: number } {
  const [first] = wanted;
  if (first === undefined || first.size !== found.length) return { wrongAt: Math.min(found.length, first?.size ?? 0) };
  const changed = new Map<number, Uint8Array>();
  for (let number = 0; number < first.pageCount; number++) {
    const bytes = found.subarray(number * PAGE, (number + 1) * PAGE);
    if (Buffer.compare(bytes, first.page(number).subarray(0, bytes.length)) === 0) continue;
    for (let within = 0; within < bytes.length; within += SECTOR) {
      const sector = bytes.subarray(within, within + SECTOR);
      const fits = wanted.some((one) =>
        sameSector(sector, one.page(number).subarray(within, within + sector.length), 0),
      );
      if (!fits) return { wrongAt: number * PAGE + within };
    }
    changed.set(number, bytes.slice());
  }
  return [...changed].reduce((content, [number, bytes]) => content.with(number * PAGE, bytes), first);
}
