/**
 * Discarding parts of units. Requests rarely cover whole units, so a partly discarded unit is recorded with a bit for
 * each sector: 1 = data in use. When no bit is left the whole unit is freed; when too many bytes are pending, the
 * longest untouched unit is pushed out: its discarded sectors are zeroed in place.
 *
 * Until then a discarded sector may read as before. It never shows the parent: only whole units are freed, and they
 * read as zero then.
 */
import { alignDown, alignUp, SECTOR } from '../../binary/numbers.ts';
import { isZero } from '../../codec/bytes.ts';
import { assert } from '../../errors.ts';
import type { Image } from '../../image/contract.ts';
import { isPromise, type Storage } from '../../storage/contract.ts';
import type { FilterStack } from './filter-stack.ts';
import { isStored, readStored } from './stored.ts';

/** Limit of pending units in bytes. */
const PENDING_BYTES = 10 * 1024 * 1024;
const PIECE = 1024 * 1024;

interface PendingUnit {
  /** One byte per sector: 1 = in use. */
  readonly sectors: Uint8Array;
  /** Number of sectors in use. */
  left: number;
}

/** The partly discarded units of one image, least recently discarded first. The caller holds the units' range locks. */
export class PendingDiscards {
  readonly #image: Image;
  readonly #unit: number;
  readonly #size: () => number;
  readonly #filters: FilterStack;
  readonly #pending = new Map<number, PendingUnit>();

  constructor(image: Image, unit: number, size: () => number, filters: FilterStack) {
    this.#image = image;
    this.#unit = unit;
    this.#size = size;
    this.#filters = filters;
  }

  /** The next unit to push out: while too much is pending, or until nothing is. */
  next(all: boolean): number | null {
    const over = this.#pending.size * this.#unit > PENDING_BYTES;
    if (!all && !over) return null;
    return this.#pending.keys().next().value ?? null;
  }

  /** A write or zero is about to touch the range: its sectors are in use again. */
  noteChange(offset: number, length: number): void {
    if (this.#pending.size === 0) return;
    const end = offset + length;
    for (let start = alignDown(offset, this.#unit); start < end; start += this.#unit) {
      const unit = this.#pending.get(start);
      if (unit !== undefined) mark(unit, Math.max(offset - start, 0), Math.min(end - start, this.#unit), 1);
    }
  }

  /** Frees whole units: `[start, end)` consists of them. */
  async whole(start: number, end: number): Promise<void> {
    for (let at = start; at < end; ) {
      const answer = this.#image.map(at, end - at);
      const mapping = isPromise(answer) ? await answer : answer;
      const next = at + mapping.length;
      // What holds nothing keeps showing what it shows. A unit that holds data in parts of it only goes as a whole.
      if (isStored(mapping)) {
        const first = alignDown(at, this.#unit);
        const stop = Math.min(alignUp(next, this.#unit), end);
        await this.#giveUp(first, stop - first);
        at = stop;
      } else {
        at = next;
      }
    }
    for (let unit = start; unit < end; unit += this.#unit) this.#pending.delete(unit);
  }

  /** Discards `[start, end)`, whole sectors inside one unit. */
  async part(start: number, end: number): Promise<void> {
    const first = alignDown(start, this.#unit);
    const answer = this.#image.map(first, 1);
    const mapping = isPromise(answer) ? await answer : answer;
    if (mapping.kind !== 'data') return;
    const unit = this.#pending.get(first) ?? (await this.#survey(first, start, end));
    this.#pending.delete(first);
    mark(unit, start - first, end - first, 0);
    if (unit.left === 0) await this.#giveUp(first, this.#lengthOf(first));
    else this.#pending.set(first, unit);
  }

  /** Zeroes the discarded sectors of one unit and drops the record. */
  async pushOut(first: number): Promise<void> {
    const unit = this.#pending.get(first);
    if (unit === undefined) return;
    this.#pending.delete(first);
    const { sectors } = unit;
    for (let from = sectors.indexOf(0); from !== -1; ) {
      const end = sectors.indexOf(1, from);
      const to = end === -1 ? sectors.length : end;
      await this.#zero(first + from * SECTOR, Math.min(first + to * SECTOR, this.#size()));
      from = sectors.indexOf(0, to);
    }
  }

  #lengthOf(first: number): number {
    return Math.min(this.#unit, this.#size() - first);
  }

  async #giveUp(start: number, length: number): Promise<void> {
    assert(this.#image.unmap !== undefined, 'an image that discards has unmap');
    await this.#image.unmap(start, length, 'zero');
  }

  /** Sectors outside the discarded range that are not zero. */
  async #survey(first: number, start: number, end: number): Promise<PendingUnit> {
    const length = this.#lengthOf(first);
    const unit: PendingUnit = { sectors: new Uint8Array(length / SECTOR), left: 0 };
    const buffer = new Uint8Array(Math.min(PIECE, length));
    for (let at = 0; at < length; at += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, length - at));
      await this.#read(first + at, piece);
      for (let sector = 0; sector < piece.length; sector += SECTOR) {
        const offset = first + at + sector;
        const inside = offset >= start && offset < end;
        // Through filters zeroes cannot be told: every sector counts.
        if (inside || (!this.#filters.active && isZero(piece.subarray(sector, sector + SECTOR)))) continue;
        mark(unit, at + sector, at + sector + SECTOR, 1);
      }
    }
    return unit;
  }

  async #read(offset: number, target: Uint8Array): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const answer = this.#image.map(offset + at, target.length - at);
      const mapping = isPromise(answer) ? await answer : answer;
      const part = target.subarray(at, at + mapping.length);
      if (isStored(mapping)) await readStored(this.#image, mapping, offset + at, part);
      // What this image does not hold shows the parent, and counts.
      else part.fill(mapping.kind === 'absent' ? 1 : 0);
      at += mapping.length;
    }
  }

  async #zero(start: number, end: number): Promise<void> {
    for (let at = start; at < end; ) {
      const answer = this.#image.map(at, end - at);
      const mapping = isPromise(answer) ? await answer : answer;
      if (mapping.kind === 'data' && mapping.writable) {
        await this.#zeroRun(mapping.storage, mapping.fileOffset, at, mapping.length);
      }
      at += mapping.length;
    }
  }

  /** Writes zeroes, or their stored form. */
  async #zeroRun(storage: Storage, offset: number, guestOffset: number, length: number): Promise<void> {
    if (!this.#filters.active) return storage.zero(offset, length, { punch: storage.can.punch });
    for (let at = 0; at < length; at += PIECE) {
      await storage.write(offset + at, await this.#filters.zeroes(guestOffset + at, Math.min(PIECE, length - at)));
    }
  }
}

/** Marks the sectors of `[start, end)`; partly touched sectors count as touched. */
function mark(unit: PendingUnit, start: number, end: number, value: 0 | 1): void {
  const last = Math.min(Math.ceil(end / SECTOR), unit.sectors.length);
  for (let sector = Math.floor(start / SECTOR); sector < last; sector++) {
    if (unit.sectors[sector] === value) continue;
    unit.sectors[sector] = value;
    unit.left += value === 1 ? 1 : -1;
  }
}
