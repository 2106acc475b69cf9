/** The two footers of an image of blocks, and the order in which they are written. */
import { isImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { encodeFooter } from './footer.ts';
import type { Footer } from './layout.ts';

/** The footers as the image has them now. */
export class Footers {
  readonly #storage: Storage;
  #footer: Footer;
  #fileOffset: number | null;

  /** `fileOffset`: place of the footer at the end; null: it is missing. */
  constructor(storage: Storage, footer: Footer, fileOffset: number | null) {
    this.#storage = storage;
    this.#footer = footer;
    this.#fileOffset = fileOffset;
  }

  get footer(): Footer {
    return this.#footer;
  }

  /** File offset of the footer at the end; null: it is missing. */
  get fileOffset(): number | null {
    return this.#fileOffset;
  }

  /** Writes the footer at the end at a place that may be another, durably. The last one stays. */
  async move(fileOffset: number): Promise<void> {
    await this.#write(fileOffset, this.#footer);
    this.#fileOffset = fileOffset;
  }

  /** The same, at the nearer of two places where there is no space for the other. */
  async moveAway(far: number, near: number): Promise<void> {
    let fileOffset = far;
    try {
      await this.#storage.write(far, encodeFooter(this.#footer));
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'no-space' || near >= far) throw error;
      fileOffset = near;
      await this.#storage.write(near, encodeFooter(this.#footer));
    }
    // Outside of it: a flush that failed is not tried again.
    await this.#storage.flush();
    this.#fileOffset = fileOffset;
  }

  /** Writes the copy at the start again, durably. */
  async repairCopy(): Promise<void> {
    await this.#write(0, this.#footer);
  }

  /** Replaces both, the copy first, durably. A cut leaves each of them whole, old or new. */
  async replace(footer: Footer, fileOffset: number): Promise<void> {
    await this.#write(0, footer);
    this.#footer = footer;
    await this.move(fileOffset);
  }

  async #write(fileOffset: number, footer: Footer): Promise<void> {
    await this.#storage.write(fileOffset, encodeFooter(footer));
    await this.#storage.flush();
  }
}
