/**
 * The promise about guest data, as a model to compare with. After a cut a sector has its content at the last completed
 * flush, or that of any write, zero or discard issued since: 512 bytes of exactly one of them.
 *
 * A discard may leave the content or zeroes: never older content, of this image or of a parent. A disk may have any
 * size that it was given since the last flush; sectors that a smaller size cut off are gone, and sectors that a larger
 * one adds read zero, whatever a longer parent holds there.
 *
 * A flush covers the operations that had ended when it started. Operations that ran at the same time have no order, so
 * either may have won; one that ended before another started is replaced by it.
 *
 * Every write stores unique content: records of 16 bytes with the number of the write and of the sector, so that
 * misplaced bytes can be traced to their write and sector.
 */
import { BYTES, CALLBACK, checkArguments, LIST, NUMBER, optional, WHOLE } from '../arguments.ts';
import { largest, SECTOR } from '../binary/numbers.ts';
import { equalBytes } from '../codec/bytes.ts';
import { WRITE } from './kinds.ts';

/** Marks content made here. */
const TAG = 0x7664_6b21;
/** Number of the content before the first write. */
const INITIAL = 0xffff_ffff;
const WORDS = SECTOR / 4;
/** In place of a number: the sector holds none of the contents made here. */
const NOTHING = -1;
/** Bytes that are compared at once with those of the last disk. */
const STRETCH = 16 * 1024;

/** Type of a guest operation. */
export type GuestOperationKind = 'write' | 'zero' | 'discard';

/** One operation of the guest on whole sectors. */
export interface GuestOperation {
  /** From 1, in order of the starts. */
  readonly number: number;
  readonly kind: GuestOperationKind;
  readonly sector: number;
  readonly count: number;
  readonly startedAt: number;
  /** `Infinity` while it runs, and when it failed. */
  endedAt: number;
}

/** A change of the size of the disk. */
export interface GuestResize {
  /** New size in sectors. */
  readonly sectors: number;
  readonly startedAt: number;
  /** `Infinity` while it runs, and when it failed. */
  endedAt: number;
  /** Effect on the sectors added or cut off; null for none. */
  readonly cleared: GuestOperation | null;
}

/** A flush of the guest. */
export interface GuestFlush {
  readonly startedAt: number;
  endedAt: number;
}

/** Possible content of a sector: zeroes, the initial content, or that of a write. */
export type SectorContent = { readonly kind: 'zero' | 'initial' } | { readonly kind: 'write'; readonly number: number };

/** A sector with other content than permitted. */
export interface SectorViolation {
  readonly sector: number;
  /** For people: `write 12, sector 7`. */
  readonly found: string;
  readonly allowed: string;
}

/**
 * Records the guest's operations and derives the states that a cut may leave. Positions are those of an operation log.
 */
export class SectorModel {
  readonly #firstSectors: number;
  readonly #hasInitial: (sector: number) => boolean;
  readonly #operations: GuestOperation[] = [];
  readonly #resizes: GuestResize[] = [];
  readonly #flushes: GuestFlush[] = [];
  #sectors: number;

  /**
   * `hasInitial` is true for sectors with {@link initialBytes} before the first write; the others are zero.
   */
  constructor(sectors: number, hasInitial: (sector: number) => boolean = () => false) {
    checkArguments('SectorModel', { sectors: [sectors, WHOLE], hasInitial: [hasInitial, CALLBACK] });
    this.#firstSectors = sectors;
    this.#sectors = sectors;
    this.#hasInitial = hasInitial;
  }

  /** Current size of the disk. */
  get sectors(): number {
    return this.#sectors;
  }

  /** The operation is about to be issued: from now on a cut may leave its content. */
  begin(what: { kind: GuestOperationKind; sector: number; count: number }, position: number): GuestOperation {
    const operation: GuestOperation = {
      ...what,
      number: this.#operations.length + 1,
      startedAt: position,
      endedAt: Number.POSITIVE_INFINITY,
    };
    this.#operations.push(operation);
    return operation;
  }

  /** The operation resolved: the next flush covers it. */
  end(operation: GuestOperation, position: number): void {
    operation.endedAt = position;
  }

  /** The disk is about to be resized. Nothing else may run at the same time. */
  beginResize(sectors: number, position: number): GuestResize {
    const [first, end] = [Math.min(sectors, this.#sectors), Math.max(sectors, this.#sectors)];
    const cleared = first === end ? null : this.begin({ kind: 'zero', sector: first, count: end - first }, position);
    const resize: GuestResize = { sectors, startedAt: position, endedAt: Number.POSITIVE_INFINITY, cleared };
    this.#resizes.push(resize);
    return resize;
  }

  /** The resize is complete. */
  endResize(resize: GuestResize, position: number): void {
    resize.endedAt = position;
    if (resize.cleared !== null) this.end(resize.cleared, position);
    this.#sectors = resize.sectors;
  }

  beginFlush(position: number): GuestFlush {
    const flush: GuestFlush = { startedAt: position, endedAt: Number.POSITIVE_INFINITY };
    this.#flushes.push(flush);
    return flush;
  }

  /** The flush resolved: everything it covers must survive. */
  endFlush(flush: GuestFlush, position: number): void {
    flush.endedAt = position;
  }

  /** The contents that the promise permits after a cut at this position. */
  at(position: number): AllowedContents {
    let covered = -1;
    for (const flush of this.#flushes) if (flush.endedAt < position) covered = Math.max(covered, flush.startedAt);
    const sizes = this.#sizes(position, covered);
    const most = largest(sizes, 0);
    const lists: (GuestOperation[] | undefined)[] = new Array<undefined>(most);
    for (const operation of this.#operations) {
      if (operation.startedAt >= position) break;
      const end = Math.min(operation.sector + operation.count, most);
      for (let sector = operation.sector; sector < end; sector++) {
        const list = lists[sector];
        if (list === undefined) lists[sector] = [operation];
        else list.push(operation);
      }
    }
    const contents = lists.map((list, sector) => this.#allowed(list, sector, covered));
    for (let sector = 0; sector < most; sector++) contents[sector] ??= [this.#first(sector)];
    return new AllowedContents(contents, sizes);
  }

  /** The size made final by a flush, and every later one. */
  #sizes(position: number, covered: number): number[] {
    let sizes = [this.#firstSectors];
    for (const resize of this.#resizes) {
      if (resize.startedAt >= position) break;
      if (resize.endedAt < covered) sizes = [];
      sizes.push(resize.sectors);
    }
    return [...new Set(sizes)];
  }

  #allowed(operations: readonly GuestOperation[] | undefined, sector: number, covered: number): number[] {
    // The latest start among the operations that a flush made final: whatever ended before it is gone.
    let replacedUpTo = -1;
    for (const operation of operations ?? []) {
      // A discard may leave the old content, so it replaces nothing.
      if (operation.kind !== 'discard' && operation.endedAt < covered) {
        replacedUpTo = Math.max(replacedUpTo, operation.startedAt);
      }
    }
    const contents = new Set<number>(replacedUpTo < 0 ? [this.#first(sector)] : []);
    for (const operation of operations ?? []) {
      if (operation.endedAt < replacedUpTo) continue;
      contents.add(operation.kind === 'write' ? operation.number : 0);
    }
    return [...contents];
  }

  #first(sector: number): number {
    return sector < this.#firstSectors && this.#hasInitial(sector) ? INITIAL : 0;
  }
}

/** Permitted contents of each sector after one cut. */
export class AllowedContents {
  /** Numbers of writes; 0 means zeroes, {@link INITIAL} the initial content. */
  readonly #contents: readonly (readonly number[])[];
  /** Permitted disk sizes in sectors. */
  readonly sizes: readonly number[];

  constructor(contents: readonly (readonly number[])[], sizes?: readonly number[]) {
    checkArguments('AllowedContents', { contents: [contents, LIST], sizes: [sizes, optional(LIST)] });
    this.#contents = contents;
    this.sizes = sizes ?? [contents.length];
  }

  /** Permitted contents of one sector. */
  allowed(sector: number): SectorContent[] {
    return (this.#contents[sector] ?? []).map((number) => {
      if (number === 0) return { kind: 'zero' };
      return number === INITIAL ? { kind: 'initial' } : { kind: 'write', number };
    });
  }

  /** Compares a whole disk. Reports at most `limit` sectors. `reader` makes it faster for disks that differ little. */
  verify(bytes: Uint8Array, limit = 8, reader = new SectorReader()): SectorViolation[] {
    const violations: SectorViolation[] = [];
    const sectors = Math.ceil(bytes.length / SECTOR);
    if (!this.sizes.includes(bytes.length / SECTOR)) {
      const allowed = this.sizes.map((size) => `${size} sectors`).join(' or ');
      return [{ sector: sectors, found: `the end of a disk of ${bytes.length} bytes`, allowed }];
    }
    const numbers = reader.numbersOf(bytes);
    for (let sector = 0; sector < sectors && violations.length < limit; sector++) {
      const allowed = this.#contents[sector] ?? [];
      const found = numbers[sector] ?? NOTHING;
      if (found !== NOTHING && (found === allowed[0] || allowed.includes(found))) continue;
      violations.push({
        sector,
        found: describeSector(bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR)),
        allowed: allowed.map((number) => describeNumber(number)).join(' or '),
      });
    }
    return violations;
  }
}

/** Numbers of the contents of a disk's sectors. What did not change since the last disk is compared, not read again. */
export class SectorReader {
  #last: Uint8Array = new Uint8Array(0);
  #numbers: Float64Array = new Float64Array(0);

  /** For each sector the number of its content, or `NOTHING`; valid until the next call. */
  numbersOf(bytes: Uint8Array): Float64Array {
    const isFirst = this.#last.length !== bytes.length;
    if (isFirst) {
      this.#last = new Uint8Array(bytes.length);
      this.#numbers = new Float64Array(Math.ceil(bytes.length / SECTOR));
    }
    for (let start = 0; start < bytes.length; start += STRETCH) {
      const now = bytes.subarray(start, start + STRETCH);
      const before = this.#last.subarray(start, start + STRETCH);
      if (!isFirst && equalBytes(now, before)) continue;
      before.set(now);
      const words = wordsOf(now);
      const first = start / SECTOR;
      const count = Math.ceil(now.length / SECTOR);
      for (let n = 0; n < count; n++) this.#numbers[first + n] = numberAt(words, n, first + n) ?? NOTHING;
    }
    return this.#numbers;
  }
}

/** The bytes of a write, all sectors. */
export function writeBytes(operation: Pick<GuestOperation, 'number' | 'sector' | 'count'>): Uint8Array {
  checkArguments('writeBytes', { operation: [operation, WRITE] });
  const words = new Uint32Array(operation.count * WORDS);
  for (let n = 0; n < operation.count; n++) fillSector(words, n, operation.number, operation.sector + n);
  return new Uint8Array(words.buffer);
}

/** Content of sectors before the first write, e.g. in the parent of a differencing image. */
export function initialBytes(sector: number, count: number): Uint8Array {
  checkArguments('initialBytes', { sector: [sector, NUMBER], count: [count, WHOLE] });
  return writeBytes({ number: INITIAL, sector, count });
}

/** Describes 512 bytes: `zeroes`, `write 12, sector 7`, `initial content of sector 3`, or their mixture. */
export function describeSector(bytes: Uint8Array): string {
  checkArguments('describeSector', { bytes: [bytes, BYTES] });
  const words = wordsOf(bytes);
  const parts: string[] = [];
  for (let word = 0; word < words.length; word += 4) {
    const text = describeRecord(words, word);
    if (parts.at(-1) !== text) parts.push(text);
  }
  return parts.length > 4 ? `${parts.slice(0, 4).join(' | ')} | …` : parts.join(' | ');
}

function describeRecord(words: Uint32Array, at: number): string {
  const [tag = 0, number = 0, sector = 0, check = 0] = words.subarray(at, at + 4);
  if (tag === TAG && check === checkWord(number, sector)) {
    return number === INITIAL ? `initial content of sector ${sector}` : `write ${number}, sector ${sector}`;
  }
  if ((tag | number | sector | check) === 0) return 'zeroes';
  return `unknown bytes ${[tag, number, sector, check].map((word) => word.toString(16).padStart(8, '0')).join(' ')}`;
}

function describeNumber(number: number): string {
  if (number === 0) return 'zeroes';
  return number === INITIAL ? 'initial content' : `write ${number}`;
}

function fillSector(words: Uint32Array, index: number, number: number, sector: number): void {
  for (let at = index * WORDS; at < (index + 1) * WORDS; at += 4) {
    words[at] = TAG;
    words[at + 1] = number;
    words[at + 2] = sector;
    words[at + 3] = checkWord(number, sector);
  }
}

function checkWord(number: number, sector: number): number {
  return Math.imul(number ^ 0x5bd1_e995, sector + 0x1b87_3593) >>> 0;
}

/**
 * The number of the content of sector `sector`, the one of this index in `words`, if the whole sector has that content
 * and it belongs there; null otherwise.
 */
function numberAt(words: Uint32Array, index: number, sector: number): number | null {
  const start = index * WORDS;
  const tag = words[start];
  const number = words[start + 1] ?? 0;
  if (tag === 0) {
    let any = 0;
    for (let at = start; at < start + WORDS; at++) any |= words[at] ?? 1;
    return any === 0 ? 0 : null;
  }
  const check = checkWord(number, sector);
  for (let at = start; at < start + WORDS; at += 4) {
    if (words[at] !== TAG || words[at + 1] !== number || words[at + 2] !== sector || words[at + 3] !== check)
      return null;
  }
  return number;
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, Math.floor(aligned.length / 4));
}
