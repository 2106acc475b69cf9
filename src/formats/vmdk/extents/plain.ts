/** Extents without tables: flat ones, whose bytes stand in the file as in the disk, and those that are zero. */
import type { ChangeGuard } from '../../../blocks/guarded.ts';
import { ImageError } from '../../../errors.ts';
import type { Mapping } from '../../../image/contract.ts';
import type { Storage } from '../../../storage/contract.ts';
import { Extent, type GrowHow, isGivenBack } from './extent.ts';

/** A range of a file. A file that is too short reads zero behind its end, and is not written before its repair. */
export class FlatExtent extends Extent {
  readonly storage: Storage;
  readonly #fileOffset: number;
  readonly #writable: boolean;
  /** It would be written, but for its length. */
  readonly #isShort: boolean;

  readonly #guard: ChangeGuard;

  constructor(storage: Storage, { length, fileOffset, writable, guard }: FlatPlace) {
    super(length);
    this.storage = storage;
    this.#guard = guard;
    this.#fileOffset = fileOffset;
    this.#isShort = writable && this.#missing > 0;
    this.#writable = writable && storage.can.write && !this.#isShort;
  }

  override get obstacle(): string | null {
    return this.#isShort ? 'the file of an extent is shorter than its line says' : null;
  }

  get #missing(): number {
    return this.#fileOffset + this.length - this.storage.size;
  }

  override get isWritten(): boolean {
    return this.#writable;
  }

  override get warnings(): readonly string[] {
    const missing = this.#missing;
    if (missing <= 0) return [];
    return [`${this.storage.label} is ${missing} bytes shorter than its extent; what is missing reads zero.`];
  }

  override get resizes(): boolean {
    return this.#writable && this.storage.can.resize;
  }

  /** Adds space for the new range if all else has it. A failure leaves the file as long as it was. */
  override async grow(length: number, { signal, onProgress }: GrowHow): Promise<void> {
    const { storage } = this;
    const [oldEnd, end] = [this.#fileOffset + this.length, this.#fileOffset + length];
    const before = storage.size;
    try {
      // What stands behind the end was never part of the disk, or was cut off.
      const stale = Math.min(before, end) - oldEnd;
      if (stale > 0) await storage.zero(oldEnd, stale, { punch: false });
      await lengthen(storage, Math.min(before, end), end, { signal, onProgress });
      await storage.flush();
    } catch (error) {
      // If that fails, too, the file stays longer than it needs to be.
      if (isGivenBack(error) && storage.size > before) await storage.resize(before).catch(() => {});
      throw error;
    }
  }

  override async shrink(length: number): Promise<void> {
    const end = this.#fileOffset + length;
    if (this.storage.size > end) await this.storage.resize(end);
    await this.storage.flush();
  }

  override withLength(length: number): FlatExtent {
    const { storage } = this;
    return new FlatExtent(storage, {
      length,
      fileOffset: this.#fileOffset,
      writable: this.#writable,
      guard: this.#guard,
    });
  }

  map(offset: number, length: number): Mapping {
    const fileOffset = this.#fileOffset + offset;
    const available = Math.min(this.storage.size - fileOffset, length);
    if (available <= 0) return { kind: 'zero', length };
    return {
      kind: 'data',
      storage: this.storage,
      fileOffset,
      length: available,
      writable: this.#writable && !this.#guard.failed,
    };
  }
}

/** Lengthens the file of a fixed image by zeroes, in the way of the file `like`: with their space, or as a hole. */
export async function lengthen(
  storage: Storage,
  start: number,
  end: number,
  { like = storage, ...how }: GrowthOfFlat,
): Promise<void> {
  const { hasAllSpace, preallocate } = await import('../../../image/preallocate.ts');
  if (await hasAllSpace(like)) await preallocate(storage, start, end, { ...how, operation: 'resize' });
  else if (storage.size < end) await storage.resize(end);
}

interface GrowthOfFlat extends Pick<GrowHow, 'signal' | 'onProgress'> {
  readonly like?: Storage | undefined;
}

/** Place of a flat extent. */
export interface FlatPlace {
  readonly length: number;
  /** First byte in the file. */
  readonly fileOffset: number;
  readonly writable: boolean;
  /** Of the image. */
  readonly guard: ChangeGuard;
}

/** A range that reads zero; what is written to it is lost, as VirtualBox has it. */
export class ZeroExtent extends Extent {
  get storage(): null {
    return null;
  }

  override withLength(length: number): ZeroExtent {
    return new ZeroExtent(length);
  }

  map(_offset: number, length: number): Mapping {
    return { kind: 'zero', length };
  }
}

/** A range that must not be read. */
export class ClosedExtent extends Extent {
  readonly #path: string;

  constructor(length: number, path: string) {
    super(length);
    this.#path = path;
  }

  get storage(): null {
    return null;
  }

  override withLength(length: number): ClosedExtent {
    return new ClosedExtent(length, this.#path);
  }

  map(offset: number, length: number): never {
    throw new ImageError('denied', 'The descriptor permits no access to this part of the disk', {
      path: this.#path,
      guestOffset: offset,
      guestLength: length,
      field: 'access',
      found: 'NOACCESS',
    });
  }
}

/** An extent whose file was not opened, since only names and facts of the descriptor are needed. */
export class UnseenExtent extends Extent {
  readonly #writable: boolean;
  readonly #dynamic: boolean;

  constructor(length: number, { writable, isDynamic }: { readonly writable: boolean; readonly isDynamic: boolean }) {
    super(length);
    this.#writable = writable;
    this.#dynamic = isDynamic;
  }

  override get isWritten(): boolean {
    return this.#writable;
  }

  override get isDynamic(): boolean {
    return this.#dynamic;
  }

  get storage(): null {
    return null;
  }

  map(): never {
    throw new Error('internal: an image opened without its data is not read');
  }
}
