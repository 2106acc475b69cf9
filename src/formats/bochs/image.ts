/** An open redolog. A catalog has a slot for each extent that is stored; the bitmap of a slot tells its sectors. */
import { SECTOR } from '../../binary/numbers.ts';
import { bitRunEnd, hasBit } from '../../blocks/sector-bitmap.ts';
import { EntryTable, U32_LITTLE } from '../../blocks/table.ts';
import { type ErrorContext, ImageError, withContext } from '../../errors.ts';
import type { ImageInfo, Mapping, MetadataExtent } from '../../image/contract.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import type { MaybePromise, Storage } from '../../storage/contract.ts';
import type { BochsHeader } from './header.ts';
import { BITMAP_CACHE_BYTES, ENTRY_FREE } from './layout.ts';

type GuestPlace = Pick<ErrorContext, 'guestOffset' | 'guestLength'>;

/** See the head of this file. */
export class BochsImage extends PlainImage {
  readonly info: ImageInfo;
  readonly #header: BochsHeader;
  readonly #catalog: EntryTable;
  /** By slot, the one used last at the end. */
  readonly #bitmaps = new Map<number, Uint8Array>();

  constructor(storage: Storage, header: BochsHeader) {
    super(storage);
    this.#header = header;
    const { catalogOffset: fileOffset, catalogEntries: count } = header;
    this.#catalog = new EntryTable({ storage, fileOffset, count, form: U32_LITTLE });
    this.info = plainInfo({
      format: 'bochs',
      variant: [header.subtype.toLowerCase()],
      virtualSize: header.virtualSize,
      blockSize: header.extentBytes,
      version: `${header.version}.0`,
      // The other kinds hold changes of a disk that they do not name.
      differencing: header.subtype !== 'Growing',
    });
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    const { extentBytes } = this.#header;
    const extent = Math.floor(guestOffset / extentBytes);
    const slot = this.#catalog.get(extent);
    if (slot === undefined) return this.#catalog.load(extent).then(() => this.map(guestOffset, length));
    const inExtent = Math.min(length, (extent + 1) * extentBytes - guestOffset);
    if (slot === ENTRY_FREE) return { kind: 'absent', length: this.#freeRun(extent, guestOffset, length) };
    const bitmap = this.#bitmaps.get(slot);
    if (bitmap === undefined) {
      return this.#loadBitmap(slot, { guestOffset, guestLength: inExtent }).then(() => this.map(guestOffset, length));
    }
    return this.#mapSectors(slot, bitmap, guestOffset, inExtent);
  }

  /** Up to the first extent that is stored, among the entries in memory. */
  #freeRun(extent: number, guestOffset: number, length: number): number {
    const { extentBytes } = this.#header;
    let next = extent + 1;
    while (next * extentBytes < guestOffset + length && this.#catalog.get(next) === ENTRY_FREE) next++;
    return Math.min(length, next * extentBytes - guestOffset);
  }

  #mapSectors(slot: number, bitmap: Uint8Array, guestOffset: number, length: number): Mapping {
    const inExtent = guestOffset % this.#header.extentBytes;
    const first = Math.floor(inExtent / SECTOR);
    const last = Math.ceil((inExtent + length) / SECTOR);
    const run = Math.min(length, bitRunEnd(bitmap, first, last, 'lowest-first') * SECTOR - inExtent);
    if (!hasBit(bitmap, first, 'lowest-first')) return { kind: 'absent', length: run };
    const fileOffset = this.#slotOffset(slot) + this.#header.bitmapRoom + inExtent;
    const inside = Math.min(run, this.storage.size - fileOffset);
    if (inside <= 0) throw this.#beyond(slot, fileOffset, { guestOffset, guestLength: run });
    return { kind: 'data', storage: this.storage, fileOffset, length: inside, writable: false };
  }

  /** `where`: the part of the disk that cannot be read without the bitmap. */
  async #loadBitmap(slot: number, where: GuestPlace): Promise<void> {
    const { bitmapBytes } = this.#header;
    const fileOffset = this.#slotOffset(slot);
    if (fileOffset + bitmapBytes > this.storage.size) throw this.#beyond(slot, fileOffset, where);
    const bytes = new Uint8Array(bitmapBytes);
    await this.storage.read(fileOffset, bytes).catch((error: unknown) => {
      throw withContext(error, where);
    });
    for (const [oldest] of this.#bitmaps) {
      if ((this.#bitmaps.size + 1) * bitmapBytes <= BITMAP_CACHE_BYTES) break;
      this.#bitmaps.delete(oldest);
    }
    this.#bitmaps.set(slot, bytes);
  }

  #slotOffset(slot: number): number {
    return this.#header.dataOffset + slot * this.#header.slotBytes;
  }

  #beyond(slot: number, fileOffset: number, where: GuestPlace | null = null): ImageError {
    return new ImageError('corrupt', 'The catalog of the Bochs redolog points beyond the end of the file', {
      path: this.storage.label,
      field: `extent ${slot}`,
      offset: fileOffset,
      ...where,
      expected: `at most ${this.storage.size}`,
    });
  }

  override async *metadata({ perUnit }: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    const { catalogOffset, catalogEntries, dataOffset, bitmapRoom, extentBytes } = this.#header;
    yield { storage, fileOffset: 0, length: catalogOffset, what: 'header', guestOffset: null };
    yield {
      storage,
      fileOffset: catalogOffset,
      length: dataOffset - catalogOffset,
      what: 'catalog',
      guestOffset: null,
    };
    if (!perUnit) return;
    const stored: [slot: number, extent: number][] = [];
    await this.#catalog.scan((slot, extent) => {
      if (slot !== ENTRY_FREE) stored.push([slot, extent]);
    });
    stored.sort((one, other) => one[0] - other[0]);
    for (const [slot, extent] of stored.slice(0, catalogEntries)) {
      const fileOffset = this.#slotOffset(slot);
      if (fileOffset + bitmapRoom > storage.size) throw this.#beyond(slot, fileOffset);
      yield { storage, fileOffset, length: bitmapRoom, what: 'sector bitmap', guestOffset: extent * extentBytes };
    }
  }
}
