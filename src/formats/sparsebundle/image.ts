/** An open sparse bundle: what no band holds reads as zero. */
import type { ImageInfo, Mapping, MetadataExtent } from '../../image/contract.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { allDone } from '../../storage/all-done.ts';
import type { Storage } from '../../storage/contract.ts';
import type { BandFiles, BandList } from './bands.ts';
import type { BundleFacts } from './facts.ts';
import { VERSION } from './layout.ts';

/** All that an image is made of. */
export interface BundleParts {
  /** The open property list. */
  readonly list: Storage;
  readonly facts: BundleFacts;
  readonly bands: BandList;
  readonly files: BandFiles;
  readonly warnings: readonly string[];
}

/** See the head of this file. */
export class SparseBundle extends PlainImage {
  readonly info: ImageInfo;
  readonly #own: BundleParts;
  /** Numbers of the stored bands, ascending. */
  readonly #stored: Float64Array;

  constructor(own: BundleParts) {
    super(own.list);
    this.#own = own;
    const { facts, bands, warnings } = own;
    this.#stored = Float64Array.from(bands.sizes.keys()).sort();
    this.info = plainInfo({
      format: 'sparsebundle',
      virtualSize: facts.virtualSize,
      blockSize: facts.bandBytes,
      version: `${VERSION}`,
      warnings: [...warnings, ...bands.warnings],
      details: { bands: bands.sizes.size },
    });
  }

  map(guestOffset: number, length: number): Mapping {
    const { bandBytes } = this.#own.facts;
    const number = Math.floor(guestOffset / bandBytes);
    const inBand = guestOffset - number * bandBytes;
    const stored = this.#own.bands.sizes.get(number) ?? 0;
    if (inBand < stored) {
      const run = Math.min(length, stored - inBand);
      return { kind: 'data', storage: this.#own.files, fileOffset: guestOffset, length: run, writable: false };
    }
    const next = this.#after(number);
    return { kind: 'absent', length: Math.min(length, next * bandBytes - guestOffset) };
  }

  /** The first stored band behind this one. */
  #after(number: number): number {
    let [low, high] = [0, this.#stored.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#stored[middle] ?? 0) <= number) low = middle + 1;
      else high = middle;
    }
    return this.#stored[low] ?? Number.POSITIVE_INFINITY;
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    yield { storage, fileOffset: 0, length: storage.size, what: 'property list', guestOffset: null };
  }

  override storages(): readonly Storage[] {
    return [this.storage, this.#own.files];
  }

  override close(): Promise<void> {
    return allDone([this.#own.files.close(), this.storage.close()]);
  }
}
