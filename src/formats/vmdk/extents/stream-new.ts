/**
 * A compressed extent that is being written, once and from front to back, in the form that ESXi, AWS and OVF tools take:
 * header, descriptor, grains in ascending order, each table behind the grains that it names, then the directory, a footer
 * that is the header with the place of the directory, and the marker of the end.
 */
import { deflateZlib } from '#compress';
import { alignUp, SECTOR } from '../../../binary/numbers.ts';
import { BROKEN_TABLE, type TableDirectory, TwoLevelTable } from '../../../blocks/two-level-table.ts';
import { looksLikeNoise } from '../../../codec/noise.ts';
import { assert, ImageError } from '../../../errors.ts';
import type { EncodedSlot, EncodedUnit, Encoder, Mapping } from '../../../image/contract.ts';
import type { MaybePromise, OperationOptions, ReadTarget, Storage } from '../../../storage/contract.ts';
import { GRAIN_MARKER, MARKER, METADATA_MARKER, SPARSE_HEADER, type SparseHeader } from '../layout.ts';
import { SECTOR_ENTRY } from './directory.ts';
import { Extent } from './extent.ts';
import type { SparseLayout } from './header.ts';
import { type GrainPlaces, StreamExtent } from './stream.ts';

/** Level without compression. */
const STORED = 0;
/** Places are sector numbers of 32 bits. */
const FILE_MAX = 2 ** 32 * SECTOR;

/** Parts of a new stream. */
export interface NewStreamParts {
  readonly storage: Storage;
  readonly layout: SparseLayout;
  /** The header as it was written, which the footer repeats. */
  readonly header: SparseHeader;
  readonly length: number;
  readonly level: number;
}

/** See the head of this file. */
export class NewStream extends Extent {
  readonly storage: Storage;
  readonly encoder: Encoder;
  readonly #header: SparseHeader;
  readonly #layout: SparseLayout;
  readonly #tables: GrowingTables;
  #isFinished = false;
  #reading: StreamExtent;
  /** File offset of the next grain. */
  #end: number;

  constructor({ storage, layout, header, length, level }: NewStreamParts) {
    super(length);
    this.storage = storage;
    this.#layout = layout;
    this.#header = header;
    this.#end = layout.overhead;
    this.#tables = new GrowingTables(storage, layout);
    this.#reading = this.#reader(this.#tables);
    this.encoder = {
      unit: layout.grainBytes,
      method: 'zlib',
      must: true,
      // What looks like noise does not get smaller, but takes as long as anything else.
      encode: (bytes) => deflateZlib(bytes, looksLikeNoise(bytes) ? STORED : level),
      prepare: async (units) => this.#prepare(units),
    };
  }

  override get unit(): number {
    return this.#layout.grainBytes;
  }

  override get isWritten(): boolean {
    return !this.#isFinished;
  }

  map(offset: number, length: number): MaybePromise<Mapping> {
    return this.#reading.map(offset, length);
  }

  override readonly readEncoded = (offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> =>
    this.#reading.readEncoded(offset, target, options);

  /** Writes what follows the grains, durably. */
  async finish(): Promise<void> {
    const buffers = [...this.#tables.close(this.#end)];
    const directoryAt = this.#end + bytesOf(buffers) + SECTOR;
    const directory = this.#tables.directory();
    buffers.push(metadataMarker(MARKER.grainDirectory, directory.length / SECTOR), directory);
    const directoryOffset = BigInt(directoryAt / SECTOR);
    buffers.push(metadataMarker(MARKER.footer, 1), SPARSE_HEADER.encode({ ...this.#header, directoryOffset }));
    buffers.push(metadataMarker(MARKER.endOfStream, 0));
    await this.storage.write(this.#end, buffers);
    await this.storage.flush();
    this.#isFinished = true;
    // Pages of tables that were not written yet may have been read.
    this.#reading = this.#reader(this.#tables.written());
  }

  #reader(places: GrainPlaces): StreamExtent {
    const { storage, length } = this;
    return new StreamExtent({ storage, layout: this.#layout, places, length, notes: [], isCut: false });
  }

  #prepare(units: readonly EncodedUnit[]): EncodedSlot {
    const fileOffset = this.#end;
    const buffers: Uint8Array[] = [];
    let end = fileOffset;
    for (const { guestOffset, bytes } of units) {
      const grain = guestOffset / this.#layout.grainBytes;
      for (const buffer of this.#tables.moveTo(grain, end)) {
        buffers.push(buffer);
        end += buffer.length;
      }
      this.#tables.set(grain, end);
      const stored = framed(guestOffset, bytes);
      buffers.push(stored);
      end += stored.length;
    }
    if (end > FILE_MAX) throw this.#full(units[0]?.guestOffset ?? 0);
    return {
      storage: this.storage,
      fileOffset,
      buffers,
      count: units.length,
      commit: () => {
        this.#end = end;
      },
      // Nothing can follow a write that failed: the disk sees to it.
      abort: () => {},
    };
  }

  #full(guestOffset: number): ImageError {
    return new ImageError('limit', 'A VMDK stream cannot be longer than 2 TiB', {
      path: this.storage.label,
      guestOffset,
      hint: 'Convert into another variant or format.',
    });
  }
}

/** A compressed grain behind its marker, up to the next sector. */
function framed(guestOffset: number, bytes: Uint8Array): Uint8Array {
  const stored = new Uint8Array(alignUp(GRAIN_MARKER.size + bytes.length, SECTOR));
  GRAIN_MARKER.put(stored, 'lba', guestOffset / SECTOR);
  GRAIN_MARKER.put(stored, 'size', bytes.length);
  stored.set(bytes, GRAIN_MARKER.size);
  return stored;
}

function metadataMarker(type: number, sectors: number): Uint8Array {
  return METADATA_MARKER.encode({ sectors, size: 0, type, rest: new Uint8Array(METADATA_MARKER.fields.rest.size) });
}

function bytesOf(buffers: readonly Uint8Array[]): number {
  return buffers.reduce((sum, { length }) => sum + length, 0);
}

/** Tables of a stream: those that are written, and the one in memory that the next grains belong to. */
class GrowingTables implements GrainPlaces {
  readonly #directory: TableDirectory;
  readonly #written: TwoLevelTable;
  readonly #parts: ConstructorParameters<typeof TwoLevelTable>[0];
  readonly #tableEntries: number;
  #current = 0;
  #bytes: Uint8Array;
  #isEmpty = true;

  constructor(storage: Storage, { tableCount, tableBytes, tableEntries }: SparseLayout) {
    this.#directory = { fileOffset: 0, form: SECTOR_ENTRY, places: new Float64Array(tableCount) };
    const count = tableCount * tableEntries;
    this.#parts = { storage, directory: this.#directory, form: SECTOR_ENTRY, tableBytes, count };
    this.#written = this.written();
    this.#tableEntries = tableEntries;
    this.#bytes = new Uint8Array(tableBytes);
  }

  get(index: number): number | undefined {
    if (Math.floor(index / this.#tableEntries) !== this.#current) return this.#written.get(index);
    return SECTOR_ENTRY.get(this.#view, (index % this.#tableEntries) * 4);
  }

  load(index: number): Promise<void> {
    return this.#written.load(index);
  }

  sameUntil(index: number): number {
    return Math.floor(index / this.#tableEntries) === this.#current ? index + 1 : this.#written.sameUntil(index);
  }

  /** Names the place of a grain of the current table. */
  set(grain: number, fileOffset: number): void {
    assert(Math.floor(grain / this.#tableEntries) === this.#current, 'grains come in ascending order');
    SECTOR_ENTRY.put(this.#view, (grain % this.#tableEntries) * 4, fileOffset);
    this.#isEmpty = false;
  }

  /** Goes on to the table of a grain. Returns what must stand at `fileOffset` before that: the table it leaves. */
  moveTo(grain: number, fileOffset: number): Uint8Array[] {
    const table = Math.floor(grain / this.#tableEntries);
    if (table === this.#current) return [];
    const buffers = this.close(fileOffset);
    this.#current = table;
    this.#bytes = new Uint8Array(this.#bytes.length);
    this.#isEmpty = true;
    return buffers;
  }

  /** The current table as it goes to `fileOffset`; nothing for an empty one. */
  close(fileOffset: number): Uint8Array[] {
    if (this.#isEmpty) return [];
    this.#directory.places[this.#current] = fileOffset + SECTOR;
    return [metadataMarker(MARKER.grainTable, this.#bytes.length / SECTOR), this.#bytes];
  }

  /** All tables as they are in the file. */
  written(): TwoLevelTable {
    return new TwoLevelTable(this.#parts);
  }

  /** The stored directory, whole sectors. */
  directory(): Uint8Array {
    const { places } = this.#directory;
    const bytes = new Uint8Array(alignUp(Math.max(places.length * 4, 1), SECTOR));
    const view = new DataView(bytes.buffer);
    for (const [table, place] of places.entries()) {
      assert(place !== BROKEN_TABLE, 'a new directory has no broken entries');
      SECTOR_ENTRY.put(view, table * 4, place);
    }
    return bytes;
  }

  get #view(): DataView {
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
  }
}
