/**
 * A stream that comes through a pipe: grains in the order of the disk, each behind a marker that names its place. The
 * tables are not needed for reading, but they tell whether every grain came: each table is compared with the grains that
 * it names, whether it follows them, as VMware writes it, or lies in front, as QEMU does.
 */
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { ChangeGuard } from '../../blocks/guarded.ts';
import { ImageError, isImageError, throwIfAborted, withContext } from '../../errors.ts';
import type { ImageInfo } from '../../image/contract.ts';
import type { ForwardImage, ForwardUnit } from '../../image/forwards.ts';
import { LIMITS } from '../../limits.ts';
import type { ByteStream } from '../../storage/byte-stream.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import { MemoryStorage } from '../../storage/memory.ts';
import { EXTENT_TYPES } from './descriptor/extents.ts';
import { GrainTally, type TableTally, tallyOf } from './extents/grain-tally.ts';
import type { SparseLayout } from './extents/header.ts';
import { decodeGrain, StreamExtent } from './extents/stream.ts';
import { NO_GRAINS, parseFooter } from './extents/stream-open.ts';
import { VmdkImage } from './image.ts';
import { GRAIN_MARKER, MARKER, METADATA_MARKER } from './layout.ts';
import { linesOf, readMain } from './open.ts';

const COPY_AGAIN = 'Copy the image again from where it came from.';
const FROM_FILE = 'Save the stream in a file, and open that.';

/** See `Format.openForwards`. */
export async function openForwards(stream: ByteStream, options: OperationOptions): Promise<ForwardImage | null> {
  throwIfAborted(options.signal, 'Opening the stream');
  const head = await stream.peek(LIMITS.probeHead);
  if (head.length < SECTOR) throw cutOff(stream);
  const inMemory = new MemoryStorage(stream.label);
  await inMemory.write(0, head);
  // Places behind these bytes may be right.
  const main = await readMain(inMemory, LIMITS.virtualSize);
  const { storage, layout, descriptor } = main;
  const lines = linesOf(main);
  const [line] = lines;
  if (layout === null || line === undefined || lines.length > 1) return null;
  const place = layout.descriptor;
  const isHere = place === null || place.fileOffset + place.length <= head.length;
  if (!isHere && head.length < LIMITS.probeHead) throw cutOff(stream, head.length);
  if (!isHere || EXTENT_TYPES[line.type] !== 'sparse' || line.access === 'NOACCESS') return null;
  const length = line.sectors * SECTOR;
  const extents = [new StreamExtent({ storage, layout, places: NO_GRAINS, length, notes: [], isCut: false })];
  const guard = new ChangeGuard(stream.label);
  const parts = { storage, directory: '', descriptor, lines, extents, parts: [], mode: 'read', guard } as const;
  const { info } = new VmdkImage(parts);
  return info.differencing ? null : new ForwardStream({ stream, layout, length, info });
}

/** Parts of a stream that is read forwards. */
interface ForwardParts {
  readonly stream: ByteStream;
  readonly layout: SparseLayout;
  /** Bytes of the disk. */
  readonly length: number;
  readonly info: ImageInfo;
}

/** See the head of this file. */
class ForwardStream implements ForwardImage {
  readonly info: ImageInfo;
  readonly #stream: ByteStream;
  readonly #layout: SparseLayout;
  readonly #length: number;
  /** Grains that came and were not found in a table yet. */
  readonly #grains: GrainTally;
  /** Tables between the grains, by their places. */
  readonly #tables = new Map<number, TableTally>();
  /** First byte of the disk where the next grain may lie. */
  #next = 0;
  /** Place of the directory behind the grains. */
  #directoryAt: number | null = null;
  #state: 'start' | 'grains' | 'complete' | 'ended' = 'start';

  constructor({ stream, layout, length, info }: ForwardParts) {
    this.info = info;
    this.#stream = stream;
    this.#layout = layout;
    this.#length = length;
    this.#grains = new GrainTally(layout);
  }

  async next(): Promise<ForwardUnit | null> {
    if (this.#state === 'start') await this.#start();
    while (this.#state !== 'ended') {
      const at = this.#stream.position;
      const sector = await this.#stream.peek(SECTOR);
      if (sector.length < GRAIN_MARKER.size) this.#finish(at);
      else if (sizeIn(sector) > 0) {
        const unit = await this.#grain(at, sector);
        if (unit !== null) return unit;
      } else await this.#metadata(at);
    }
    return null;
  }

  /** Everything before the first grain, with the tables if they are there. */
  async #start(): Promise<void> {
    const { directoryOffset, overhead } = this.#layout;
    if (directoryOffset !== null) await this.#tablesInFront(directoryOffset);
    const rest = overhead - this.#stream.position;
    if (rest < 0) throw this.#unordered(this.#stream.position);
    if ((await this.#stream.skip(rest)) < rest) throw cutOff(this.#stream);
    this.#state = 'grains';
  }

  async #tablesInFront(directoryOffset: number): Promise<void> {
    const { tableCount, tableBytes, overhead } = this.#layout;
    if (directoryOffset === 0 && tableCount > 0) throw this.#unordered(directoryOffset);
    const directory = await this.#takeAt(directoryOffset, tableCount * 4);
    const tables = placesIn(directory, tableCount)
      .flatMap((place, table) => (place === 0 ? [] : [{ place, table }]))
      .sort((a, b) => a.place - b.place);
    for (const { place, table } of tables) {
      if (place + tableBytes > overhead) throw this.#unordered(place);
      this.#grains.expect(table, tallyOf(await this.#takeAt(place, tableBytes), this.#layout));
    }
  }

  /** Bytes at a place that was not passed yet. */
  async #takeAt(fileOffset: number, length: number): Promise<Uint8Array> {
    const gap = fileOffset - this.#stream.position;
    if (gap < 0) throw this.#unordered(fileOffset);
    await this.#stream.skip(gap);
    return this.#taken(length);
  }

  async #taken(length: number): Promise<Uint8Array> {
    const bytes = await this.#stream.take(length);
    if (bytes.length < length) throw cutOff(this.#stream);
    return bytes;
  }

  /** The grain whose marker comes; null: it lies behind the end of the disk. */
  async #grain(at: number, sector: Uint8Array): Promise<ForwardUnit | null> {
    const { grainBytes, capacity } = this.#layout;
    const { lba, size: storedBytes } = this.#marker(at, sector);
    const guestOffset = lba * SECTOR;
    if (guestOffset % grainBytes !== 0) throw this.#wrongMarker(at, 'lba', lba, 'the start of a grain');
    if (guestOffset >= capacity) throw this.#wrongMarker(at, 'lba', lba, `less than ${capacity / SECTOR}`);
    if (guestOffset < this.#next) throw this.#unorderedGrain(at, lba);
    if (storedBytes > 2 * grainBytes) {
      throw this.#wrongMarker(at, 'size', storedBytes, `at most ${2 * grainBytes}`);
    }
    const framed = GRAIN_MARKER.size + storedBytes;
    // The last one of a file need not fill its sector.
    const stored = await this.#stream.take(alignUp(framed, SECTOR));
    if (stored.length < framed) throw cutOff(this.#stream, at);
    this.#next = guestOffset + grainBytes;
    this.#grains.add(guestOffset / grainBytes, at);
    if (guestOffset >= this.#length) return null;
    const size = Math.min(grainBytes, this.#length - guestOffset);
    return { guestOffset, size, decode: (room) => this.#decode(stored, { at, guestOffset, size }, room) };
  }

  async #decode(
    stored: Uint8Array,
    { at, guestOffset, size }: { readonly at: number; readonly guestOffset: number; readonly size: number },
    room: Uint8Array | undefined,
  ): Promise<Uint8Array> {
    try {
      return await decodeGrain(stored, size, { guestOffset }, this.#layout.grainBytes, room);
    } catch (error) {
      throw withContext(error, { path: this.#stream.label, offset: at, guestOffset, hint: COPY_AGAIN });
    }
  }

  async #metadata(at: number): Promise<void> {
    const sector = await this.#taken(SECTOR);
    const { lba: sectors } = this.#marker(at, sector);
    const type = METADATA_MARKER.get(sector, 'type');
    if (type === MARKER.endOfStream) await this.#end(at);
    else if (type === MARKER.grainTable) await this.#table(at, sectors);
    else if (type === MARKER.grainDirectory) await this.#directory(at, sectors);
    else if (type === MARKER.footer) await this.#footer(at, sectors);
    // Types that are not known have nothing behind them.
  }

  async #table(at: number, sectors: number): Promise<void> {
    const { tableBytes, tableCount } = this.#layout;
    if (sectors * SECTOR !== alignUp(tableBytes, SECTOR) || this.#tables.size === tableCount) {
      throw this.#wrongMarker(at, 'sectors of a table', sectors, String(tableBytes / SECTOR));
    }
    // Only the directory tells which one it is.
    this.#tables.set(at + SECTOR, tallyOf(await this.#taken(sectors * SECTOR), this.#layout));
  }

  async #directory(at: number, sectors: number): Promise<void> {
    const { tableCount } = this.#layout;
    const needed = alignUp(tableCount * 4, SECTOR) / SECTOR;
    if (sectors < needed) throw this.#wrongMarker(at, 'sectors of the directory', sectors, `at least ${needed}`);
    this.#directoryAt = at + SECTOR;
    const directory = await this.#taken(needed * SECTOR);
    await this.#stream.skip((sectors - needed) * SECTOR);
    for (const [table, place] of placesIn(directory, tableCount).entries()) {
      if (place === 0) continue;
      const named = this.#tables.get(place);
      if (named === undefined) throw this.#mismatch(at, 'The directory names a table that did not come');
      this.#grains.expect(table, named);
    }
    const wrong = this.#grains.firstWrong();
    if (wrong !== null) throw this.#otherGrains(at, wrong.table);
  }

  async #footer(at: number, sectors: number): Promise<void> {
    if (sectors !== 1) throw this.#wrongMarker(at, 'sectors of the footer', sectors, '1');
    const footer = parseFooter(await this.#taken(SECTOR), LIMITS.virtualSize, this.#stream.label);
    const { capacity, grainBytes, tableEntries } = this.#layout;
    const agrees =
      footer !== null &&
      footer.capacity === capacity &&
      footer.grainBytes === grainBytes &&
      footer.tableEntries === tableEntries &&
      footer.directoryOffset === this.#directoryAt;
    if (!agrees) throw this.#mismatch(at, 'The footer contradicts the header and the directory of the stream');
    this.#state = 'complete';
  }

  /** The end that the stream marks. What follows means nothing, but a program that sends it should not fail. */
  async #end(at: number): Promise<void> {
    this.#finish(at);
    await this.#stream.skip(Number.POSITIVE_INFINITY);
  }

  #finish(at: number): void {
    const isInFront = this.#layout.directoryOffset !== null;
    const wrong = isInFront ? this.#grains.firstWrong() : null;
    if (wrong?.missing === true || (!isInFront && this.#state !== 'complete')) throw cutOff(this.#stream, at);
    if (wrong !== null) throw this.#otherGrains(at, wrong.table);
    this.#state = 'ended';
  }

  #marker(at: number, sector: Uint8Array): { readonly lba: number; readonly size: number } {
    try {
      return GRAIN_MARKER.decode(sector);
    } catch (error) {
      if (!isImageError(error)) throw error;
      throw this.#wrongMarker(at, 'lba', 'beyond what can be addressed', 'a sector of the disk');
    }
  }

  #wrongMarker(offset: number, field: string, found: string | number, expected: string): ImageError {
    const path = this.#stream.label;
    return new ImageError('corrupt', 'A marker of the stream is wrong', {
      path,
      offset,
      field,
      found,
      expected,
      hint: COPY_AGAIN,
    });
  }

  #unorderedGrain(offset: number, lba: number): ImageError {
    return new ImageError('corrupt', 'The grains of the stream are not in order', {
      path: this.#stream.label,
      offset,
      field: 'lba of the grain marker',
      found: lba,
      expected: `at least ${this.#next / SECTOR}`,
      hint: FROM_FILE,
    });
  }

  #unordered(offset: number): ImageError {
    return new ImageError('unsupported', 'The tables of this stream are in places where only a file can be read', {
      path: this.#stream.label,
      offset,
      hint: FROM_FILE,
    });
  }

  #otherGrains(offset: number, table: number): ImageError {
    const { grainBytes, tableEntries } = this.#layout;
    return this.#mismatch(offset, 'A table of the stream names other grains than those that came', {
      guestOffset: table * tableEntries * grainBytes,
    });
  }

  #mismatch(offset: number, message: string, more: { readonly guestOffset?: number } = {}): ImageError {
    return new ImageError('corrupt', message, { path: this.#stream.label, offset, hint: COPY_AGAIN, ...more });
  }
}

function cutOff({ label, position }: ByteStream, offset = position): ImageError {
  return new ImageError('corrupt', 'The stream was cut off', {
    path: label,
    offset,
    hint: `${COPY_AGAIN} From a file, the grains that are there can be saved (on the command line: convert --salvage).`,
  });
}

function sizeIn(sector: Uint8Array): number {
  return GRAIN_MARKER.get(sector, 'size');
}

/** Places in a stored directory, in bytes. */
function placesIn(directory: Uint8Array, count: number): number[] {
  const view = new DataView(directory.buffer, directory.byteOffset, directory.length);
  return Array.from({ length: count }, (_, table) => view.getUint32(table * 4, true) * SECTOR);
}
