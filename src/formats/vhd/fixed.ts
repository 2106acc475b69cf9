/** Open fixed VHD images: the disk, and the footer behind it. */
import { SECTOR } from '../../binary/numbers.ts';
import { ChangeGuard, imageReadOnly } from '../../blocks/guarded.ts';
import { ImageError } from '../../errors.ts';
import type { ImageChanges, ImageInfo, Mapping, MetadataExtent, ResizeOptions } from '../../image/contract.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { hasAllSpace, preallocate } from '../../image/preallocate.ts';
import type { OpenMode, Storage } from '../../storage/contract.ts';
import { AZURE_UNIT } from './azure.ts';
import { detailsOf } from './details.ts';
import { encodeFooter, type FoundFooter } from './footer.ts';
import { geometryFor } from './geometry.ts';
import { changedFooter, commonInfo, footerWarnings } from './info.ts';
import type { Footer } from './layout.ts';

/** See the head of this file. */
export class FixedVhd extends PlainImage {
  readonly #found: FoundFooter;
  readonly #guard: ChangeGuard;
  #footer: Footer;
  /** The footer stands behind everything else. */
  #dataEnd: number;

  constructor(storage: Storage, mode: OpenMode, found: FoundFooter) {
    super(storage, mode);
    this.#found = found;
    this.#guard = new ChangeGuard(storage.label);
    this.#footer = found.footer;
    this.#dataEnd = found.fileOffset ?? storage.size;
  }

  /** False after a failed resize, too. */
  protected override get writable(): boolean {
    return super.writable && !this.#guard.failed;
  }

  get info(): ImageInfo {
    const { storage } = this;
    const short = this.#dataEnd < this.#footer.currentSize;
    const warnings = [
      ...footerWarnings(this.#found, storage.label),
      ...(short ? [`${storage.label} lacks the end of its disk: it was cut off.`] : []),
    ];
    return plainInfo({
      ...commonInfo(this.#footer, warnings),
      variant: this.#footer.currentSize % AZURE_UNIT === 0 ? ['fixed', 'azure'] : ['fixed'],
      allocation: 'fixed',
      details: detailsOf(this.#footer, null),
    });
  }

  map(guestOffset: number, length: number): Mapping {
    const { storage } = this;
    const available = Math.min(this.#dataEnd - guestOffset, length);
    if (available > 0) {
      return { kind: 'data', storage, fileOffset: guestOffset, length: available, writable: this.writable };
    }
    throw new ImageError('corrupt', 'The image was cut off: its file ends before its disk does', {
      path: storage.label,
      guestOffset,
      guestLength: this.#footer.currentSize - guestOffset,
      found: `${storage.size} bytes`,
      expected: `${this.#footer.currentSize + SECTOR} bytes`,
      hint: 'Copy the image again from where it came from; what is there can be read (on the command line: convert --salvage).',
    });
  }

  /** Nothing is allocated: asked where the bytes in place may not be written any more. */
  prepareWrite(): never {
    this.#guard.check();
    throw imageReadOnly(this.storage.label);
  }

  async set(changes: ImageChanges): Promise<void> {
    if (!this.writable) throw imageReadOnly(this.storage.label);
    const footer = changedFooter(this.#footer, changes, this.storage.label);
    await this.#writeFooter(this.#dataEnd, footer);
    this.#footer = footer;
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    yield { storage: this.storage, fileOffset: this.#dataEnd, length: SECTOR, what: 'footer', guestOffset: null };
  }

  /** Removes bytes behind the footer, which a cut left and which hide it from other programs. */
  override async beginChanges(): Promise<void> {
    const { storage } = this;
    this.#guard.check();
    if (this.#found.end !== 'before zeroes' || storage.size === this.#dataEnd + SECTOR) return;
    await this.#guard.run(async () => {
      await storage.resize(this.#dataEnd + SECTOR);
      await storage.flush();
    });
  }

  /**
   * Resizes the disk. A footer at the end of the file counts, however far behind the disk, so:
   *   - growing: one of the old size at the new end, durable; zeroes over the last one, durable; the new size;
   *   - shrinking: the new size in place, durable; a footer behind the new end, durable; the rest is cut off.
   */
  async resize(size: number, { signal, onProgress }: ResizeOptions): Promise<void> {
    const footer = { ...this.#footer, currentSize: size, ...geometryFor(size) };
    const old = this.#footer.currentSize;
    this.#guard.check();
    await this.#guard.run(async () => {
      if (size > old) await this.#makeRoom(size, { signal, onProgress });
      await this.#writeFooter(this.#dataEnd, footer);
      this.#footer = footer;
      if (this.#dataEnd === size) return;
      await this.#writeFooter(size, footer);
      this.#dataEnd = size;
      await this.storage.resize(size + SECTOR);
      await this.storage.flush();
    });
  }

  /** An image that has all its space keeps that. Zeroes from the old end of the disk to the new one, and a footer behind them. */
  async #makeRoom(size: number, options: Pick<ResizeOptions, 'signal' | 'onProgress'>): Promise<void> {
    const { storage } = this;
    const [old, last] = [this.#footer.currentSize, this.#dataEnd];
    const isFull = await hasAllSpace(storage);
    if (last < size) await this.#writeFooter(size, this.#footer);
    this.#dataEnd = Math.max(last, size);
    // What lies between the disk and its last footer may be anything.
    const stale = Math.min(last + SECTOR, size) - old;
    await storage.zero(old, stale, { punch: false });
    if (isFull) await preallocate(storage, old + stale, size, { ...options, operation: 'resize' });
    await storage.flush();
  }

  async #writeFooter(fileOffset: number, footer: Footer): Promise<void> {
    await this.storage.write(fileOffset, encodeFooter(footer));
    await this.storage.flush();
  }
}
