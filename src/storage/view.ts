/**
 * Views: a storage over part of another one, its bytes in another form where a codec says so. A mapping or a slot of a
 * format may name a view as its storage, so encryption by offset, payloads of larger sectors and swapped bytes need
 * nothing above this folder.
 *
 * `#size` is what is seen, `#limit` where the room ends. A view without a limit reaches to the end of the storage and
 * grows with it. A codec works on whole units: a write that covers part of one reads the rest first, with no other
 * request of the view beside it, since two writes into one unit would undo each other.
 */
import { checkArguments, OBJECT } from '../arguments.ts';
import { alignDown, alignUp } from '../binary/numbers.ts';
import { ImageError } from '../errors.ts';
import {
  allOf,
  checkRange,
  checkSize,
  checkWriteRange,
  closedStorage,
  lengthOf,
  readOnlyStorage,
  STORAGE,
} from './checks.ts';
import {
  isPromise,
  type MaybePromise,
  type OpenMode,
  type OperationOptions,
  type ReadTarget,
  type Storage,
  type StorageCapabilities,
  type StorageExtent,
  type WriteSource,
} from './contract.ts';
import { ForwardingStorage, type OptionalKeys } from './forwarding.ts';

/** Bytes that go through a codec at a time. */
const PIECE = 1024 * 1024;

/** Another form of bytes, by their offset in the view. Both directions get whole units, one or several. */
export interface ViewCodec {
  /** Bytes of the view that have a form together; 1 where each byte stands for itself. */
  readonly unit: number;
  /** Bytes that a unit takes in the storage. */
  readonly storedUnit: number;
  /** Makes the view's bytes. Where both units are equal, `stored` and `plain` may be the same memory. */
  decode(stored: Uint8Array, plain: Uint8Array, offset: number): MaybePromise<void>;
  /** Makes the stored bytes; `plain` may be overwritten. The same memory as in `decode`. */
  encode(plain: Uint8Array, stored: Uint8Array, offset: number): MaybePromise<void>;
}

/** Part and form of a view. */
export interface ViewOptions {
  /** First byte in the storage. Default 0. */
  readonly offset?: number | undefined;
  /** Room, bytes of the view. Left out: up to the end of the storage, growing with it where that can grow. */
  readonly limit?: number | undefined;
  /** Bytes that are seen at first. Default: all there are. */
  readonly size?: number | undefined;
  /** `read`: nothing can be changed through it. Default: as the storage. */
  readonly mode?: OpenMode | undefined;
  /** For messages. Default: the storage's. */
  readonly label?: string | undefined;
  /** Left out: bytes are what they are in the storage. */
  readonly codec?: ViewCodec | undefined;
}

/**
 * Part of a storage as a storage. Identity, locks and flushes are those of the storage behind it, which closing it
 * closes. Zeroes have a form, too: through a codec there are no holes, and a gap that a write leaves is written.
 */
export class StorageView extends ForwardingStorage {
  readonly #label: string;
  readonly #can: StorageCapabilities;
  readonly #offset: number;
  /** Null: it ends where the storage ends. */
  readonly #limit: number | null;
  readonly #codec: ViewCodec | null;
  readonly #turns = new UnitTurns();
  /** Null: as much as the storage holds, which others may change, and what running writes add. */
  #size: number | null;
  /** End of the writes that run. */
  #started = 0;
  #running = 0;
  #closing: Promise<void> | null = null;

  constructor(inner: Storage, options: ViewOptions = {}, absent: readonly OptionalKeys<Storage>[] = []) {
    checkArguments('StorageView', { inner: [inner, STORAGE], options: [options, OBJECT] });
    const { offset = 0, limit, size, mode, label = inner.label, codec = null } = options;
    // Room that the storage reserves would show bytes that were never encoded.
    super(inner, codec === null ? absent : [...absent, 'allocate']);
    this.#label = label;
    this.#offset = offset;
    this.#codec = codec;
    const there = storedToView(codec, Math.max(inner.size - offset, 0));
    this.#limit = limit ?? (inner.can.resize ? null : there);
    this.#size = size ?? (this.#limit === null ? null : (limit ?? there));
    this.#can = capabilities(inner, mode, this.#limit !== null, codec !== null);
  }

  override get label(): string {
    return this.#label;
  }

  override get can(): StorageCapabilities {
    return this.#can;
  }

  override get size(): number {
    return this.#size ?? Math.max(this.#stored, this.#started);
  }

  override readNow(offset: number, target: Uint8Array): boolean {
    this.checkOpen();
    checkRange(this, offset, target.length);
    if (this.#codec !== null) return false;
    return this.inner.readNow?.(this.#offset + offset, target) ?? false;
  }

  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    this.checkOpen();
    checkRange(this, offset, lengthOf(target));
    const codec = this.#codec;
    if (codec === null) return this.inner.read(this.#offset + offset, target, options);
    let at = offset;
    for (const buffer of allOf(target)) {
      const from = at;
      await this.#turns.shared(() => this.#readDecoded(codec, from, buffer, options));
      at += buffer.length;
    }
  }

  override async write(offset: number, source: WriteSource, options?: OperationOptions): Promise<void> {
    this.checkWritable();
    const length = lengthOf(source);
    checkWriteRange(this.label, offset, length);
    this.#checkLimit(offset + length);
    if (length === 0) return;
    const start = Math.min(this.size, offset);
    const end = offset + length;
    if (this.#size !== null) this.#size = Math.max(this.#size, end);
    if (this.#codec === null) return this.inner.write(this.#offset + offset, source, options);
    this.#started = Math.max(this.#started, end);
    this.#running++;
    try {
      await this.#writeEncoded(this.#codec, start, offset, allOf(source), options);
    } finally {
      if (--this.#running === 0) this.#started = 0;
    }
  }

  override extentAt(offset: number, options?: OperationOptions): MaybePromise<StorageExtent> {
    this.checkOpen();
    checkRange(this, offset, 1);
    const { size } = this;
    if (this.#codec !== null) return { start: 0, end: size, data: true };
    const from = this.#offset;
    const inside = ({ start, end, data }: StorageExtent): StorageExtent => ({
      start: Math.max(start - from, 0),
      end: Math.min(end - from, size),
      data,
    });
    const answer = this.inner.extentAt(from + offset, options);
    return isPromise(answer) ? answer.then(inside) : inside(answer);
  }

  override async zero(
    offset: number,
    length: number,
    how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    this.checkWritable();
    checkRange(this, offset, length);
    if (length > 0) await this.#zero(offset, length, how, options);
  }

  override async allocate(offset: number, length: number, options?: OperationOptions): Promise<void> {
    this.checkWritable();
    checkWriteRange(this.label, offset, length);
    this.#checkLimit(offset + length);
    if (this.#size !== null && length > 0) this.#size = Math.max(this.#size, offset + length);
    await super.allocate?.(this.#offset + offset, length, options);
  }

  override async resize(size: number, options?: OperationOptions): Promise<void> {
    this.checkWritable();
    checkSize(this.label, size);
    this.#checkLimit(size);
    const before = this.size;
    if (size < before) return this.#shrink(size, before, options);
    if (this.#size !== null) this.#size = size;
    if (this.#codec !== null) await this.#zero(before, size - before, { punch: false }, options);
    else if (this.#limit === null) await this.inner.resize(this.#offset + size, options);
  }

  override async flush(options?: OperationOptions): Promise<void> {
    this.checkOpen();
    await this.inner.flush(options);
  }

  override close(): Promise<void> {
    this.#closing ??= this.closeInner();
    return this.#closing;
  }

  /** Completes closing. */
  protected closeInner(): Promise<void> {
    return this.inner.close();
  }

  protected checkOpen(): void {
    if (this.#closing !== null) throw closedStorage(this.label);
  }

  protected checkWritable(): void {
    this.checkOpen();
    if (!this.can.write) throw readOnlyStorage(this.label);
  }

  #checkLimit(end: number): void {
    if (this.#limit === null || end <= this.#limit) return;
    throw new ImageError('no-space', 'The image no longer fits into its partition or range', {
      path: this.label,
      found: `${end} bytes`,
      expected: `at most ${this.#limit}`,
      hint: 'Make the range larger, or convert the image into a separate file.',
    });
  }

  /** Bytes of the view that the storage holds. */
  get #stored(): number {
    return storedToView(this.#codec, Math.max(this.inner.size - this.#offset, 0));
  }

  /** In a room that stays, what is cut off is zeroed, so that a later growth reads zero. */
  async #shrink(size: number, before: number, options?: OperationOptions): Promise<void> {
    if (this.#size !== null) this.#size = size;
    this.#started = 0;
    const codec = this.#codec;
    if (this.#limit !== null) return this.#zero(size, before - size, { punch: true }, options);
    const end = alignUp(size, codec?.unit ?? 1);
    if (end > size) await this.#zero(size, end - size, { punch: false }, options);
    await this.inner.resize(this.#offset + viewToStored(codec, end), options);
  }

  async #zero(
    offset: number,
    length: number,
    how: { readonly punch: boolean },
    options?: OperationOptions,
  ): Promise<void> {
    const codec = this.#codec;
    if (codec === null) return this.inner.zero(this.#offset + offset, length, how, options);
    await this.#writeEncoded(codec, offset, offset + length, [], options);
  }

  async #readDecoded(codec: ViewCodec, offset: number, target: Uint8Array, options?: OperationOptions): Promise<void> {
    if (inPlace(codec, offset, target.length)) {
      await this.inner.read(this.#offset + offset, target, options);
      return codec.decode(target, target, offset);
    }
    for (const [start, end] of pieces(codec, offset, offset + target.length)) {
      const plain = await this.#units(codec, start, end, options);
      const from = Math.max(offset, start);
      target.set(plain.subarray(from - start, Math.min(offset + target.length, end) - start), from - offset);
    }
  }

  /** Whole units, decoded. */
  async #units(codec: ViewCodec, start: number, end: number, options?: OperationOptions): Promise<Uint8Array> {
    const stored = new Uint8Array(viewToStored(codec, end - start));
    await this.inner.read(this.#offset + viewToStored(codec, start), stored, options);
    const plain = codec.storedUnit === codec.unit ? stored : new Uint8Array(end - start);
    await codec.decode(stored, plain, start);
    return plain;
  }

  /** Writes the source at `offset`, with zeroes from `start` up to there. */
  #writeEncoded(
    codec: ViewCodec,
    start: number,
    offset: number,
    source: readonly Uint8Array[],
    options?: OperationOptions,
  ): Promise<void> {
    const end = offset + lengthOf(source);
    const run = async (): Promise<void> => {
      for (const [from, to] of pieces(codec, start, end)) {
        const plain = await this.#under(codec, from, to, Math.max(from, start), Math.min(to, end), options);
        copyInto(plain, from, source, offset);
        const stored = codec.storedUnit === codec.unit ? plain : new Uint8Array(viewToStored(codec, to - from));
        await codec.encode(plain, stored, from);
        await this.inner.write(this.#offset + viewToStored(codec, from), stored, options);
      }
    };
    // What is written into a gap meanwhile must not be undone by its zeroes.
    const whole = start === offset && start % codec.unit === 0 && end % codec.unit === 0;
    return whole ? this.#turns.shared(run) : this.#turns.alone(run);
  }

  /** Room for the units of a write: what it leaves of them as it is there, zeroes elsewhere. */
  async #under(
    codec: ViewCodec,
    from: number,
    to: number,
    start: number,
    end: number,
    options?: OperationOptions,
  ): Promise<Uint8Array> {
    const plain = new Uint8Array(to - from);
    const stored = this.#stored;
    for (const unit of new Set([start > from ? from : to, end < to ? to - codec.unit : to])) {
      if (unit >= Math.min(to, stored)) continue;
      plain.set(await this.#units(codec, unit, unit + codec.unit, options), unit - from);
    }
    return plain.fill(0, start - from, end - from);
  }
}

function capabilities(
  inner: Storage,
  mode: OpenMode | undefined,
  bounded: boolean,
  coded: boolean,
): StorageCapabilities {
  const write = inner.can.write && mode !== 'read';
  return {
    write,
    resize: write,
    random: inner.can.random,
    punch: write && !coded && inner.can.punch,
    // Behind a view with a separate range lies what was there before.
    growsZeroed: !bounded && !coded && inner.can.growsZeroed,
  };
}

function viewToStored(codec: ViewCodec | null, length: number): number {
  return codec === null ? length : (length / codec.unit) * codec.storedUnit;
}

function storedToView(codec: ViewCodec | null, length: number): number {
  return codec === null ? length : Math.floor(length / codec.storedUnit) * codec.unit;
}

function inPlace({ unit, storedUnit }: ViewCodec, offset: number, length: number): boolean {
  return unit === storedUnit && offset % unit === 0 && length % unit === 0;
}

/** The units that hold a range, a bounded number of them at a time. */
function* pieces({ unit }: ViewCodec, offset: number, end: number): Generator<readonly [number, number], void, void> {
  const last = alignUp(end, unit);
  const step = Math.max(alignDown(PIECE, unit), unit);
  for (let at = alignDown(offset, unit); at < last; at += step) yield [at, Math.min(at + step, last)];
}

/** Copies what of the source, which begins at `offset`, falls into the piece, which begins at `start`. */
function copyInto(piece: Uint8Array, start: number, source: readonly Uint8Array[], offset: number): void {
  let at = offset - start;
  for (const buffer of source) {
    if (at < piece.length && at + buffer.length > 0) {
      const from = Math.max(-at, 0);
      piece.set(buffer.subarray(from, Math.min(buffer.length, piece.length - at)), at + from);
    }
    at += buffer.length;
  }
}

/** Lets requests for whole units run together, and those for parts of units alone. */
class UnitTurns {
  #running = new Set<Promise<void>>();
  #last: Promise<unknown> | null = null;

  shared(run: () => Promise<void>): Promise<void> {
    return this.#track(this.#last === null ? run() : this.#last.then(run));
  }

  alone(run: () => Promise<void>): Promise<void> {
    const before = Promise.allSettled(this.#running);
    const mine = this.#track(before.then(run));
    const last = mine.catch(() => {});
    this.#last = last;
    void last.then(() => {
      if (this.#last === last) this.#last = null;
    });
    return mine;
  }

  #track(request: Promise<void>): Promise<void> {
    this.#running.add(request);
    const end = (): void => void this.#running.delete(request);
    request.then(end, end);
    return request;
  }
}
