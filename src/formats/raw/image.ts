/**
 * An open raw image: byte n of the disk is byte n of the file.
 *
 * A file whose length is not a multiple of 512 is padded: its last sector reads as zero past the end of the file, so no
 * byte is lost. Such an image opens for reading only, since a write into the padding would change the size of the disk.
 */
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { ChangeGuard } from '../../blocks/guarded.ts';
import { ImageError } from '../../errors.ts';
import type {
  FormatOpenOptions,
  Image,
  ImageCapabilities,
  ImageInfo,
  Mapping,
  MediumType,
  SealedMetadata,
} from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { derivePhysical } from '../../image/geometry.ts';
import { parentLinks } from '../../image/parent.ts';
import { readProbeInput } from '../../image/probe.ts';
import type { OpenMode, Storage } from '../../storage/contract.ts';
import { FLOPPY_MAX, OPTICAL_MIN, OPTICAL_SECTOR } from './layout.ts';
import { hasOpticalDescriptors, mediumType } from './probe.ts';
import { rawRegions } from './regions.ts';

const NOTHING: SealedMetadata = { stage: [], root: [], publish: [] };

/** Opens a raw image. The medium type is the caller's, otherwise detected from content and name. */
export async function openRaw(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  const storage = mainFile(files);
  // A stream must not be probed: it could not be read from the beginning again.
  const input = storage.can.random ? await readProbeInput(storage, files.name) : null;
  const type = options.type ?? (input === null ? 'hdd' : mediumType(input));
  // A disc that has its descriptors is one, whatever was appended to it.
  if (type !== 'optical' || input === null || !hasOpticalDescriptors(input)) checkSize(storage, type);
  return new RawImage(storage, type, options.mode);
}

function checkSize(storage: Pick<Storage, 'can' | 'label' | 'size'>, type: MediumType): void {
  // A caller that names the format may have a disk of 0 bytes. An empty stream is what a program leaves that failed.
  if (storage.size === 0 && !storage.can.random) {
    throw new ImageError('invalid-format', 'The file is empty: it does not contain a disk', { path: storage.label });
  }
  if (type === 'floppy' && storage.size > FLOPPY_MAX) {
    throw new ImageError('invalid-format', 'This is not a floppy image: it is too large', {
      status: 'VERR_VD_RAW_SIZE_FLOPPY_TOO_BIG',
      path: storage.label,
      found: `${storage.size} bytes`,
      expected: `at most ${FLOPPY_MAX}`,
    });
  }
  if (type !== 'optical' || (storage.size % OPTICAL_SECTOR === 0 && storage.size > OPTICAL_MIN)) return;
  throw new ImageError('invalid-format', 'This is not an image of an optical disc: its size does not match', {
    status: storage.size > OPTICAL_MIN ? 'VERR_VD_RAW_SIZE_MODULO_2048' : 'VERR_VD_RAW_SIZE_OPTICAL_TOO_SMALL',
    path: storage.label,
    found: `${storage.size} bytes`,
    expected: `a multiple of ${OPTICAL_SECTOR}, more than ${OPTICAL_MIN}`,
  });
}

/** Error for a part of the disk whose bytes went with a resize that failed. */
function lost(path: string, guestOffset: number): ImageError {
  return new ImageError('io', 'The file ends here: a resize that failed has cut it off', {
    path,
    guestOffset,
    hint: 'Close the disk and open it again: what lies before this is safe.',
  });
}

/** An open raw image. */
export class RawImage implements Image {
  readonly can: ImageCapabilities;
  readonly dirtyBytes = 0;
  readonly #storage: Storage;
  #type: MediumType;
  /** Length of the file when opened: the disk's size does not follow the file. */
  #stored: number;
  #virtualSize: number;
  readonly #writable: boolean;
  readonly #guard: ChangeGuard;

  /** `size`: left out, the length of the file, in whole sectors. */
  constructor(storage: Storage, type: MediumType, mode: OpenMode, size = alignUp(storage.size, SECTOR)) {
    this.#storage = storage;
    this.#guard = new ChangeGuard(storage.label);
    this.#type = type;
    this.#stored = storage.size;
    this.#virtualSize = size;
    const padded = this.#virtualSize !== this.#stored;
    this.#writable = mode === 'write' && !padded && storage.can.write;
    const readOnlyReason = mode === 'write' && padded ? 'its size is not a multiple of 512 bytes' : null;
    this.can = {
      write: this.#writable,
      readOnlyReason,
      allocate: false,
      zeroMarker: false,
      discard: this.#writable,
      resize: this.#writable && storage.can.resize && storage.can.random,
      compact: false,
    };
  }

  get info(): ImageInfo {
    const sectorSize = this.#type === 'optical' ? OPTICAL_SECTOR : SECTOR;
    const padded = this.#virtualSize !== this.#stored;
    return {
      format: 'raw',
      variant: [],
      allocation: 'dynamic',
      type: this.#type,
      virtualSize: this.#virtualSize,
      blockSize: null,
      sectorSize,
      version: null,
      comment: null,
      geometry: { physical: this.#type === 'hdd' ? derivePhysical(this.#virtualSize) : null, logical: null },
      regions: rawRegions(this.#virtualSize, sectorSize),
      dirty: null,
      differencing: false,
      uuid: null,
      modificationUuid: null,
      ...parentLinks(null),
      warnings: padded
        ? [
            `The size of ${this.#storage.label} is not a multiple of 512 bytes; its last sector is filled up with zeroes.`,
          ]
        : [],
    };
  }

  map(offset: number, length: number): Mapping {
    if (offset >= this.#stored) {
      // Data that a failed resize took away is not zero.
      if (this.#guard.failed) throw lost(this.#storage.label, offset);
      return { kind: 'zero', length };
    }
    const inside = Math.min(length, this.#stored - offset);
    const writable = this.#writable && !this.#guard.failed;
    return { kind: 'data', storage: this.#storage, fileOffset: offset, length: inside, writable };
  }

  /** Asked for only after a failure, when nothing is writable any more: says so. */
  prepareWrite(): never {
    this.#guard.check();
    throw new Error('internal: every byte of a raw image has its place');
  }

  async beginChanges(): Promise<void> {}

  noteChange(): void {}

  seal(): SealedMetadata {
    this.#guard.check();
    return NOTHING;
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#guard.settle(ok);
  }

  /**
   * Changes the length of the file, durably. A cut leaves the old length or the new one, and no byte of what stays
   * changes. New space reads as zero.
   */
  async resize(size: number): Promise<void> {
    const [storage, old] = [this.#storage, this.#stored];
    // A small disk may have been taken for a floppy by its name.
    const type = this.#type === 'floppy' && size > FLOPPY_MAX ? 'hdd' : this.#type;
    checkSize({ size, can: storage.can, label: storage.label }, type);
    await this.#guard
      .run(async () => {
        await storage.resize(size);
        if (size > old && !storage.can.growsZeroed) await storage.zero(old, size - old, { punch: false });
        await storage.flush();
      })
      .finally(() => {
        // A failure may leave the file shorter: what was to be cut off cannot be read any more.
        this.#stored = Math.min(old, storage.size);
      });
    this.#stored = size;
    this.#virtualSize = size;
    this.#type = type;
  }

  /** None: every byte belongs to the guest. */
  async *metadata(): AsyncGenerator<never> {}

  storages(): readonly Storage[] {
    return [this.#storage];
  }

  async close(): Promise<void> {
    await this.#storage.close();
  }
}
