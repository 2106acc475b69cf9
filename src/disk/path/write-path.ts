/**
 * The write side of the last image of a chain: overwriting in place, allocating space, padding from the chain, and
 * leaving out zeroes and data equal to the chain.
 *
 * An allocated, writable range is overwritten. Everything else is done unit by unit (block, cluster, grain) under a
 * *claim*: one writer at a time allocates a unit; a second one waits, maps again and mostly finds it allocated. The
 * slot's bytes are complete before `commit` makes the map point at them.
 *
 * Nothing here waits as long as tables are in memory, up to the moment when data moves. So writes that begin in guest
 * order are allocated in guest order.
 */
import { alignDown, alignUp, largest } from '../../binary/numbers.ts';
import { equalBytes, isZero, isZeroIn } from '../../codec/bytes.ts';
import { assert, ImageError } from '../../errors.ts';
import type { EncodedUnit, Image, Mapping, WriteSlot } from '../../image/contract.ts';
import { allDone, markHandled } from '../../storage/all-done.ts';
import { isPromise, type MaybePromise, type OperationOptions, type Storage } from '../../storage/contract.ts';
import { orAborted } from '../../storage/or-aborted.ts';
import type { WriteOptions } from '../device.ts';
import { bufferList, sliceBuffers, zeroSource } from './buffers.ts';
import type { Chain } from './chain.ts';
import { encoderOf, type WritePiece } from './compressed-writes.ts';
import { RangeLocks } from './range-locks.ts';
import { isStored } from './stored.ts';

/** Data that is stored although the chain reads the same without it. */
export interface WriteRules {
  readonly honourZeroes: boolean;
  readonly honourSame: boolean;
}

/** Bytes compared or padded at a time. */
const PIECE = 1024 * 1024;
/** Bytes of small units that are read at once to be compared: each sector of a VHD image is a unit. */
const AHEAD = 64 * 1024;
const NOTHING = new Uint8Array(0);
/** Concurrent in-place writes of one request. */
const PARALLEL_RUNS = 64;
/** Zero bytes written at the end of a partly filled slot to extend the file. */
const TAIL = 512;

/** Data of one request: the bytes of `[offset, offset + length)`, in stored form. */
interface Request {
  readonly offset: number;
  readonly length: number;
  readonly buffers: readonly Uint8Array[];
  /** The guest's form, if different. */
  readonly plain?: readonly Uint8Array[] | undefined;
  /** All bytes are known to be zero. */
  readonly zero: boolean;
  /** Of the caller. */
  readonly options?: WriteOptions | undefined;
}

/** Content of a unit before the write: the chain from `level` down, or zeroes. */
interface Backdrop {
  readonly level: number | null;
  /** True when the image has the unit, but it must not be overwritten. */
  readonly placed: boolean;
}

/** Part of the content before the write, for units that follow one another up to `end`. */
interface Behind {
  readonly end: number;
  start: number;
  bytes: Uint8Array;
}

/** Writes to the last image of one chain. The caller holds the range lock of the request. */
export class WritePath {
  readonly #chain: Chain;
  readonly #image: Image;
  #rules: WriteRules;
  /** Bytes that are given space at a time, and those of a block, which can be marked as zero. */
  readonly #blockSize: number;
  readonly #wholeBlock: number;
  readonly #claims = new RangeLocks();

  constructor(chain: Chain, image: Image, rules: WriteRules) {
    this.#chain = chain;
    this.#image = image;
    this.#rules = rules;
    this.#wholeBlock = image.info.blockSize ?? 0;
    this.#blockSize = image.writeUnit ?? this.#wholeBlock;
  }

  /**
   * Stores the bytes, which are in stored form; `plain` is the guest's form, if different. Resolves when the storage
   * has accepted them; durable after the next flush.
   */
  write(
    offset: number,
    length: number,
    buffers: readonly Uint8Array[],
    options?: WriteOptions,
    plain?: readonly Uint8Array[],
  ): Promise<void> {
    return this.#run({ offset, length, buffers, plain, zero: false, options }, (mapping, position) => {
      options?.onStored?.(mapping.length);
      const [only] = buffers;
      const isAll = buffers.length === 1 && mapping.length === length;
      const part = isAll && only !== undefined ? only : sliceBuffers(buffers, position, position + mapping.length);
      return mapping.storage.write(mapping.fileOffset, part, options);
    });
  }

  /** Stores the result of `compressUnits`. */
  async writePieces(pieces: readonly WritePiece[], options?: WriteOptions): Promise<void> {
    for (const { offset, bytes, units } of pieces) {
      if (units === null) await this.#writePlain(offset, bytes, options);
      else await this.#writeUnits({ offset, length: bytes.length, buffers: [bytes], zero: false, options }, units);
    }
  }

  /** Writes bytes as they are. An image that encodes everything skips zeroes of a base, and throws `unsupported` for the rest. */
  async #writePlain(offset: number, bytes: Uint8Array, options: WriteOptions | undefined): Promise<void> {
    if (this.#image.encoder?.must !== true) return this.write(offset, bytes.length, [bytes], options);
    if (isZero(bytes) && !this.#chain.hasParent(this.#chain.top)) return;
    throw new ImageError('unsupported', 'This image can only be written in whole units', {
      path: this.#chain.last.name,
      guestOffset: offset,
      found: `${bytes.length} bytes`,
      expected: `multiples of ${this.#image.encoder.unit}`,
    });
  }

  /** Makes the range read as zero, storing as little as the format permits. */
  async zero(offset: number, length: number, punch: boolean, options?: OperationOptions): Promise<void> {
    const inPlace = (mapping: DataMapping, position: number): Promise<void> =>
      this.#filtered
        ? this.#writeZeroes(mapping.storage, mapping.fileOffset, offset + position, mapping.length, options)
        : zeroInPlace(mapping, punch && !this.#rules.honourZeroes, options);
    await this.#run({ offset, length, buffers: [], zero: true, options }, inPlace);
  }

  /** Frees the space of allocated bytes where the storage can; otherwise nothing changes. */
  async punch(offset: number, length: number): Promise<void> {
    // A hole would be read through the filters.
    if (this.#filtered) return;
    for (let at = offset; at < offset + length; ) {
      const answer = this.#image.map(at, offset + length - at);
      const mapping = isPromise(answer) ? await answer : answer;
      const { can } = mapping.kind === 'data' ? mapping.storage : { can: null };
      if (mapping.kind === 'data' && mapping.writable && can?.punch === true) {
        await mapping.storage.zero(mapping.fileOffset, mapping.length, { punch: true });
      }
      at += mapping.length;
    }
  }

  /** Stores the content of a range in the last image itself, although the chain reads the same. */
  async materialize(offset: number, length: number): Promise<void> {
    const bytes = new Uint8Array(length);
    await this.#chain.read(this.#chain.top, offset, [bytes], length);
    const kept = this.#rules;
    this.#rules = { honourSame: true, honourZeroes: true };
    try {
      await this.write(offset, length, [bytes]);
    } finally {
      this.#rules = kept;
    }
  }

  /** The common case without a loop: one run, which is there, covers the request. */
  #run(request: Request, inPlace: InPlace): Promise<void> {
    let answer: MaybePromise<Mapping>;
    try {
      answer = this.#image.map(request.offset, request.length);
      if (!isPromise(answer) && answer.kind === 'data' && answer.writable && answer.length === request.length) {
        return inPlace(answer, 0);
      }
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#runAll(request, answer, inPlace);
  }

  /** `first`: the mapping of the whole request. */
  async #runAll(request: Request, first: MaybePromise<Mapping>, inPlace: InPlace): Promise<void> {
    let running: Promise<void>[] = [];
    let next: MaybePromise<Mapping> | null = first;
    try {
      for (let position = 0; position < request.length; ) {
        const answer = next ?? this.#image.map(request.offset + position, request.length - position);
        next = null;
        const mapping = isPromise(answer) ? await orAborted(answer, request.options, 'The write') : answer;
        if (mapping.kind === 'data' && mapping.writable) {
          running.push(markHandled(inPlace(mapping, position)));
          position += mapping.length;
        } else {
          position += await this.#place(request, position, mapping);
        }
        if (running.length >= PARALLEL_RUNS) {
          await allDone(running);
          running = [];
        }
      }
    } finally {
      await Promise.allSettled(running);
    }
    await allDone(running);
  }

  /** Encoded units always go to new space. */
  async #writeUnits(request: Request, units: readonly EncodedUnit[]): Promise<void> {
    const encoder = encoderOf(this.#image, this.#chain.last.name);
    const end = alignUp(request.offset + request.length, encoder.unit);
    const claim = this.#claims.acquire(request.offset, end, true);
    const held = isPromise(claim) ? await claim : claim;
    try {
      const wanted = this.#rules.honourSame ? units : await this.#differing(request, units, encoder.unit);
      for (let done = 0; done < wanted.length; ) {
        const slot = await encoder.prepare(wanted.slice(done));
        try {
          await slot.storage.write(slot.fileOffset, slot.buffers, request.options);
        } catch (error) {
          slot.abort();
          throw error;
        }
        slot.commit();
        this.#image.noteChange();
        const stored = wanted.slice(done, done + slot.count);
        for (const { guestOffset } of stored)
          request.options?.onStored?.(Math.min(encoder.unit, request.offset + request.length - guestOffset));
        done += slot.count;
      }
    } finally {
      held.release();
    }
  }

  /** Units that differ from the chain. */
  async #differing(request: Request, units: readonly EncodedUnit[], unit: number): Promise<readonly EncodedUnit[]> {
    const wanted: EncodedUnit[] = [];
    for (const one of units) {
      const start = one.guestOffset;
      const end = Math.min(start + unit, request.offset + request.length);
      const { level } = this.#backdrop(await this.#image.map(start, end - start));
      if (level === null || (await this.#readsSame(request, start, end, level)) === 'store') wanted.push(one);
    }
    return wanted;
  }

  /** Handles the unallocated run at `position`. Returns the bytes done; 0 when it was allocated in the meantime. */
  async #place(request: Request, position: number, mapping: Mapping): Promise<number> {
    if (this.#image.prepareWrite === undefined) {
      throw new ImageError('read-only', 'This part of the image cannot be written', {
        path: this.#chain.images[this.#chain.top]?.name ?? '',
        guestOffset: request.offset + position,
      });
    }
    const start = request.offset + position;
    const end = start + mapping.length;
    const unit = this.#blockSize;
    const claim = this.#claims.acquire(alignDown(start, unit), alignUp(end, unit), true);
    const held = isPromise(claim) ? await claim : claim;
    try {
      // Who waited looks again, and keeps the claim meanwhile: two that gave it back to look would wait for each other
      // for ever where the first one had nothing to store.
      const now = isPromise(claim) ? await this.#image.map(start, mapping.length) : mapping;
      if (now.kind === 'data' && now.writable) return 0;
      return await this.#placeUnits(request, start, start + now.length, this.#backdrop(now));
    } finally {
      held.release();
    }
  }

  /** Absent ranges show the parent, zero ranges nothing; encoded and protected data show themselves. */
  #backdrop(mapping: Mapping): Backdrop {
    const { top } = this.#chain;
    if (isStored(mapping)) return { level: top, placed: true };
    const level = mapping.kind === 'absent' && this.#chain.hasParent(top) ? top - 1 : null;
    return { level, placed: false };
  }

  /** Walks the units of `[start, end)`: leaves out, marks, or collects neighbours and stores them in one slot. */
  async #placeUnits(request: Request, start: number, end: number, backdrop: Backdrop): Promise<number> {
    let gathered = start;
    const behind: Behind = { end, start, bytes: NOTHING };
    for (let at = start; at < end; ) {
      const unitEnd = this.#unitEnd(at, end);
      const decision = this.#decide(request, at, unitEnd, { ...backdrop, behind });
      if ((isPromise(decision) ? await decision : decision) !== 'store') {
        if (gathered < at) await this.#store(request, gathered, at, backdrop.level);
        gathered = unitEnd;
      }
      at = unitEnd;
    }
    if (gathered < end) await this.#store(request, gathered, end, backdrop.level);
    return end - start;
  }

  /** Decides about one unit's part of the request; marks zero units on the way. */
  #decide(
    request: Request,
    start: number,
    end: number,
    backdrop: Backdrop & { readonly behind: Behind },
  ): 'store' | 'done' | Promise<'store' | 'done'> {
    const zero = request.zero || this.#isZero(request, start, end);
    if (zero) {
      if (this.#rules.honourZeroes) return 'store';
      if (backdrop.level === null) return this.#rules.honourSame && !request.zero ? 'store' : 'done';
      const whole = this.#coversUnit(start, end);
      if (whole && !backdrop.placed && this.#image.can.zeroMarker) {
        return this.#markZero(request, start, end, backdrop.level);
      }
    }
    const { level, behind } = backdrop;
    if (this.#rules.honourSame || level === null) return 'store';
    if (end - start >= AHEAD) return this.#readsSame(request, start, end, level);
    return this.#isBehind(request, start, end, level, behind);
  }

  /** A mark may cost a table, so none is made where the chain reads as zero anyway. */
  async #markZero(request: Request, start: number, end: number, level: number): Promise<'done'> {
    assert(this.#image.unmap !== undefined, 'zero markers come with unmap');
    if (!this.#rules.honourSame) {
      if (await this.#holdsNothing(start, end, level)) return 'done';
      // Who only asks for zeroes does not want all of the parent to be read.
      if (!request.zero && (await this.#readsSame(request, start, end, level)) === 'done') return 'done';
    }
    await this.#image.unmap(start, end - start, 'zero');
    return 'done';
  }

  async #holdsNothing(start: number, end: number, level: number): Promise<boolean> {
    for (let at = start; at < Math.min(end, this.#chain.size); ) {
      const answer = this.#chain.locate(level, at, end - at);
      const { mapping, image } = isPromise(answer) ? await answer : answer;
      if (isStored(mapping) || (image === -1 && this.#chain.incomplete !== null)) return false;
      at += mapping.length;
    }
    return true;
  }

  /** End of the unit at the start of a range; a block that is covered as a whole is one, whatever its parts. */
  #unitEnd(start: number, end: number): number {
    const block = Math.min(start + this.#wholeBlock, this.#chain.size);
    if (start % this.#wholeBlock === 0 && block <= end) return block;
    return Math.min(alignDown(start, this.#blockSize) + this.#blockSize, end);
  }

  #coversUnit(start: number, end: number): boolean {
    return start % this.#wholeBlock === 0 && (end % this.#wholeBlock === 0 || end === this.#chain.size);
  }

  #isZero(request: Request, start: number, end: number): boolean {
    // Zeroes in their stored form stand for something else.
    if (request.plain === undefined && this.#filtered) return false;
    const buffers = request.plain ?? request.buffers;
    const [only] = buffers;
    if (buffers.length === 1 && only !== undefined) {
      return isZeroIn(only, start - request.offset, end - request.offset);
    }
    return bufferList(sliceBuffers(buffers, start - request.offset, end - request.offset)).every(isZero);
  }

  /** As `#readsSame` for a small unit, which is read together with those after it. */
  async #isBehind(
    request: Request,
    start: number,
    end: number,
    level: number,
    behind: Behind,
  ): Promise<'store' | 'done'> {
    if (end > behind.start + behind.bytes.length) {
      const bytes = new Uint8Array(Math.min(AHEAD, behind.end - start));
      await this.#chain.read(level, start, [bytes], bytes.length, undefined, request.options);
      behind.start = start;
      behind.bytes = bytes;
    }
    return this.#hasSame(request, start, behind.bytes.subarray(start - behind.start, end - behind.start));
  }

  async #readsSame(request: Request, start: number, end: number, level: number): Promise<'store' | 'done'> {
    const present = new Uint8Array(Math.min(PIECE, end - start));
    for (let at = start; at < end; at += present.length) {
      const piece = present.subarray(0, Math.min(present.length, end - at));
      await this.#chain.read(level, at, [piece], piece.length, undefined, request.options);
      if ((await this.#hasSame(request, at, piece)) === 'store') return 'store';
    }
    return 'done';
  }

  /** `done` if the request has the bytes that are there already. */
  async #hasSame(request: Request, start: number, present: Uint8Array): Promise<'store' | 'done'> {
    let from = 0;
    for (const part of bufferList(await this.#dataOf(request, start, start + present.length))) {
      if (!equalBytes(part, present.subarray(from, from + part.length))) return 'store';
      from += part.length;
    }
    return 'done';
  }

  /** Stores `[start, end)`, whose units are unallocated and claimed, in one or more slots. */
  async #store(request: Request, start: number, end: number, level: number | null): Promise<void> {
    assert(this.#image.prepareWrite !== undefined, 'an image that allocates prepares writes');
    for (let at = start; at < end; ) {
      const answer = this.#image.prepareWrite(at, end - at);
      const slot = isPromise(answer) ? await answer : answer;
      const dataEnd = Math.min(end, slot.guestOffset + slot.length);
      try {
        await this.#fill(slot, request, at, dataEnd, level);
      } catch (error) {
        slot.abort();
        throw error;
      }
      slot.commit();
      this.#image.noteChange();
      request.options?.onStored?.(dataEnd - at);
      at = dataEnd;
    }
  }

  /** Writes a whole slot: the request's bytes, padded with the content of the chain. */
  async #fill(slot: WriteSlot, request: Request, start: number, end: number, level: number | null): Promise<void> {
    const slotEnd = slot.guestOffset + slot.length;
    // The usual case, which needs no further writes: nothing but the data has to be written.
    if (start === slot.guestOffset && end === slotEnd && !request.zero) {
      return slot.storage.write(slot.fileOffset, dataOf(request, start, end), request.options);
    }
    const work = [markHandled(this.#writeData(slot, request, start, end))];
    if (start > slot.guestOffset) work.push(markHandled(this.#pad(slot, request, slot.guestOffset, start, level)));
    if (end < slotEnd) work.push(markHandled(this.#pad(slot, request, end, slotEnd, level)));
    await allDone(work);
    // What was left out reads zero, but only inside the file. Its size does not tell: it counts writes of others behind
    // this slot, which may fail, or be lost though this one is flushed. Data may end inside the last sector: it stays.
    const fileEnd = slot.fileOffset + slot.length;
    const reached = largest(await Promise.all(work), 0);
    if (reached >= fileEnd) return;
    const tail = Math.max(fileEnd - TAIL, slot.fileOffset, reached);
    await slot.storage.write(tail, new Uint8Array(fileEnd - tail), request.options);
  }

  /** Returns the end of the write in the file; 0 when nothing was written. */
  async #writeData(slot: WriteSlot, request: Request, start: number, end: number): Promise<number> {
    const at = slot.fileOffset + (start - slot.guestOffset);
    if (request.zero && slot.readsZero && !this.#rules.honourZeroes && !this.#filtered) return 0;
    if (request.zero) await this.#writeZeroes(slot.storage, at, start, end - start, request.options);
    else await slot.storage.write(at, dataOf(request, start, end), request.options);
    return at + (end - start);
  }

  /** Returns the end of the write in the file; 0 when nothing was written. */
  async #pad(slot: WriteSlot, request: Request, start: number, end: number, level: number | null): Promise<number> {
    if (start >= end) return 0;
    const diskEnd = Math.min(end, this.#chain.size);
    const reached =
      level !== null && start < diskEnd ? await this.#padFromChain(slot, request, start, diskEnd, level) : 0;
    const rest = level === null ? start : Math.max(start, diskEnd);
    if ((slot.readsZero && !this.#filtered) || rest >= end) return reached;
    await this.#writeZeroes(
      slot.storage,
      slot.fileOffset + (rest - slot.guestOffset),
      rest,
      end - rest,
      request.options,
    );
    return slot.fileOffset + (end - slot.guestOffset);
  }

  async #padFromChain(
    slot: WriteSlot,
    { options }: Request,
    start: number,
    end: number,
    level: number,
  ): Promise<number> {
    let reached = 0;
    const buffer = new Uint8Array(Math.min(PIECE, end - start));
    for (let at = start; at < end; at += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, end - at));
      await this.#chain.read(level, at, [piece], piece.length, undefined, options);
      if (slot.readsZero && !this.#filtered && isZero(piece)) continue;
      await slot.storage.write(slot.fileOffset + (at - slot.guestOffset), piece, options);
      reached = slot.fileOffset + (at - slot.guestOffset) + piece.length;
    }
    return reached;
  }

  /** True when stored bytes differ from the guest's form. */
  get #filtered(): boolean {
    return this.#chain.filters.active;
  }

  /** The stored form of a part of the request. */
  #dataOf(request: Request, start: number, end: number): MaybePromise<Uint8Array | Uint8Array[]> {
    return request.zero && this.#filtered
      ? this.#chain.filters.zeroes(start, end - start)
      : dataOf(request, start, end);
  }

  /** Writes the stored form of zeroes; past the end of the disk, where filters do not apply, plain zeroes. */
  async #writeZeroes(
    storage: Storage,
    offset: number,
    guestOffset: number,
    length: number,
    options: OperationOptions | undefined,
  ): Promise<void> {
    const { filters, size } = this.#chain;
    const inside = filters.encodes ? Math.min(Math.max(size - guestOffset, 0), length) : 0;
    for (let at = 0; at < length; ) {
      const encoded = at < inside;
      const count = Math.min(PIECE, (encoded ? inside : length) - at);
      const zeroes = encoded ? await filters.zeroes(guestOffset + at, count) : zeroSource(count);
      await storage.write(offset + at, zeroes, options);
      at += count;
    }
  }
}

type DataMapping = Extract<Mapping, { kind: 'data' }>;
/** Changes a run that is there, at a position of the request. */
type InPlace = (mapping: DataMapping, position: number) => Promise<void>;

/** For a request that is not for zeroes, or a disk without filters. */
function dataOf(request: Request, start: number, end: number): Uint8Array | Uint8Array[] {
  if (request.zero) return zeroSource(end - start);
  return sliceBuffers(request.buffers, start - request.offset, end - request.offset);
}

async function zeroInPlace(
  { storage, fileOffset, length }: DataMapping,
  punch: boolean,
  options: OperationOptions | undefined,
): Promise<void> {
  await storage.zero(fileOffset, length, { punch: punch && storage.can.punch }, options);
}
