/**
 * A disk that is put together from ranges of files, behind each other: the extents of VMDK, the tracks of CUE sheets, the
 * parts of a Parallels bundle. Answers for a guest range with the file and the offset in it.
 */
import { assert, ImageError } from '../errors.ts';
import type { Mapping } from '../image/contract.ts';
import type { Storage } from '../storage/contract.ts';

/** One range of the disk. */
export interface Extent {
  /** Bytes of the disk, at least 1. */
  readonly length: number;
  /** File that holds it; null: it reads zero. */
  readonly storage: Storage | null;
  /** First byte in that file. */
  readonly fileOffset: number;
  /** May be overwritten in place. */
  readonly writable: boolean;
}

/** An extent and where it begins in the disk. */
export interface PlacedExtent extends Extent {
  readonly guestOffset: number;
  /** Its number in the list. */
  readonly index: number;
}

/** Extents in the order of the disk. */
export class ExtentList {
  /** Bytes of all of them. */
  readonly size: number;
  readonly #extents: readonly PlacedExtent[];

  constructor(extents: readonly Extent[]) {
    let guestOffset = 0;
    this.#extents = extents.map((extent, index) => {
      assert(extent.length > 0 && extent.fileOffset >= 0, 'an extent holds something, and begins in its file');
      const placed = { ...extent, guestOffset, index };
      guestOffset += extent.length;
      return placed;
    });
    this.size = guestOffset;
  }

  /** The extent that holds a guest offset. */
  at(guestOffset: number): PlacedExtent {
    let [low, high] = [0, this.#extents.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#extents[middle]?.guestOffset ?? 0) <= guestOffset) low = middle;
      else high = middle - 1;
    }
    const extent = this.#extents[low];
    assert(extent !== undefined && guestOffset >= 0 && guestOffset < this.size, 'the offset lies inside the disk');
    return extent;
  }

  /** See `Image.map`. Extents that go on in the same file come as one run. Throws `corrupt` where a file is too short. */
  map(guestOffset: number, length: number): Mapping {
    const first = this.at(guestOffset);
    const end = Math.min(guestOffset + length, this.size);
    let last = first;
    while (last.guestOffset + last.length < end) {
      const next = this.at(last.guestOffset + last.length);
      if (!isContinued(last, next)) break;
      last = next;
    }
    const run = Math.min(last.guestOffset + last.length, end) - guestOffset;
    const { storage, writable } = first;
    if (storage === null) return { kind: 'zero', length: run };
    const fileOffset = first.fileOffset + (guestOffset - first.guestOffset);
    const available = storage.size - fileOffset;
    if (available <= 0) throw cutOff(storage, first, guestOffset, end);
    return { kind: 'data', storage, fileOffset, length: Math.min(run, available), writable };
  }

  /** Every file once, in the order of the disk. */
  storages(): Storage[] {
    const storages = new Set<Storage>();
    for (const { storage } of this.#extents) if (storage !== null) storages.add(storage);
    return [...storages];
  }
}

function isContinued(before: Extent, next: Extent): boolean {
  if (before.storage !== next.storage || before.writable !== next.writable) return false;
  return next.storage === null || before.fileOffset + before.length === next.fileOffset;
}

function cutOff(storage: Storage, extent: PlacedExtent, guestOffset: number, end: number): ImageError {
  const { fileOffset, length, index } = extent;
  return new ImageError('corrupt', 'A part of the disk lies beyond the end of its file: the file was cut off', {
    status: 'VERR_VD_READ_OUT_OF_RANGE',
    path: storage.label,
    guestOffset,
    guestLength: Math.min(extent.guestOffset + length, end) - guestOffset,
    field: `extent ${index}`,
    found: `a file of ${storage.size} bytes`,
    expected: `at least ${fileOffset + length}`,
    hint: 'Copy the file again from where it came from; everything before its end can still be read.',
  });
}
