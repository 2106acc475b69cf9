/** Base of images: what they have in common when one file holds all of them. */
import type { MaybePromise, OpenMode, Storage } from '../storage/contract.ts';
import type { Image, ImageCapabilities, ImageInfo, Mapping, MetadataExtent, SealedMetadata } from './contract.ts';

const NOTHING: SealedMetadata = { stage: [], root: [], publish: [] };

/**
 * An image in one file. A read-only format adds `info` and `map`; a writable one also what `Image` lists for changes,
 * from which `can` is derived.
 */
export abstract class PlainImage implements Image {
  readonly can: ImageCapabilities;
  protected readonly storage: Storage;
  #failed = false;

  /** `mode`: left out, the image is read-only. */
  constructor(storage: Storage, mode: OpenMode = 'read') {
    this.storage = storage;
    const write = mode === 'write' && storage.can.write;
    this.can = {
      write,
      readOnlyReason: null,
      allocate: write && 'prepareWrite' in this,
      zeroMarker: write && 'unmap' in this,
      discard: write && 'unmap' in this,
      resize: write && 'resize' in this,
      compact: write && 'relocate' in this,
    };
  }

  abstract get info(): ImageInfo;

  abstract map(guestOffset: number, length: number): MaybePromise<Mapping>;

  /** Open for writing, and no flush failed. */
  protected get writable(): boolean {
    return this.can.write && !this.#failed;
  }

  async beginChanges(): Promise<void> {}

  noteChange(): void {}

  get dirtyBytes(): number {
    return 0;
  }

  seal(): SealedMetadata {
    return NOTHING;
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    if (!ok) this.#failed = true;
  }

  async *metadata(_how: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {}

  storages(): readonly Storage[] {
    return [this.storage];
  }

  close(): Promise<void> {
    return this.storage.close();
  }
}
