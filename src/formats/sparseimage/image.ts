/** An open sparse image: bands that are not listed read as zero. */
import { ImageError } from '../../errors.ts';
import type { ImageInfo, Mapping, MetadataExtent } from '../../image/contract.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import type { Storage } from '../../storage/contract.ts';
import type { Bands } from './bands.ts';
import type { SparseHeader } from './header.ts';
import { NODE_BYTES, VERSION } from './layout.ts';

/** See the head of this file. */
export class SparseImage extends PlainImage {
  readonly info: ImageInfo;
  readonly #bands: Bands;
  readonly #bandBytes: number;

  constructor(storage: Storage, { virtualSize, bandBytes }: SparseHeader, bands: Bands) {
    super(storage);
    this.#bands = bands;
    this.#bandBytes = bandBytes;
    this.info = plainInfo({ format: 'sparseimage', virtualSize, blockSize: bandBytes, version: `${VERSION}` });
  }

  map(guestOffset: number, length: number): Mapping {
    const bandBytes = this.#bandBytes;
    const band = Math.floor(guestOffset / bandBytes);
    const found = this.#bands.from(band);
    if (found === null || found.band > band) {
      const end = found === null ? Number.POSITIVE_INFINITY : found.band * bandBytes;
      return { kind: 'absent', length: Math.min(length, end - guestOffset) };
    }
    const inBand = guestOffset - band * bandBytes;
    const fileOffset = found.fileOffset + inBand;
    const wanted = Math.min(length, bandBytes - inBand);
    const inside = Math.min(wanted, this.storage.size - fileOffset);
    if (inside <= 0) throw this.#cutOff(band, fileOffset, guestOffset, wanted);
    return { kind: 'data', storage: this.storage, fileOffset, length: inside, writable: false };
  }

  #cutOff(band: number, offset: number, guestOffset: number, guestLength: number): ImageError {
    return new ImageError('corrupt', 'The file ends before a band of the sparse image', {
      path: this.storage.label,
      field: `band ${band + 1}`,
      offset,
      guestOffset,
      guestLength,
      expected: `at most ${this.storage.size}`,
      hint: 'Copy the file again: a part of it is missing.',
    });
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    for (const [index, { fileOffset }] of this.#bands.nodes.entries()) {
      const what = index === 0 ? 'header' : 'list of bands';
      yield { storage, fileOffset, length: NODE_BYTES, what, guestOffset: null };
    }
  }
}
