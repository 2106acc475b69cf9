/** Extents without tables: flat ones, whose bytes stand in the file as in the disk, and those that are zero. */
import { ImageError } from '../../../errors.ts';
import type { Mapping } from '../../../image/contract.ts';
import type { Storage } from '../../../storage/contract.ts';
import { Extent } from './extent.ts';

/** A range of a file. A file that is too short reads zero behind its end. */
export class FlatExtent extends Extent {
  readonly storage: Storage;
  readonly #fileOffset: number;
  readonly #writable: boolean;

  constructor(storage: Storage, { length, fileOffset, writable }: FlatPlace) {
    super(length);
    this.storage = storage;
    this.#fileOffset = fileOffset;
    this.#writable = writable && storage.can.write;
  }

  override get isWritten(): boolean {
    return this.#writable;
  }

  override get warnings(): readonly string[] {
    const missing = this.#fileOffset + this.length - this.storage.size;
    if (missing <= 0) return [];
    return [`${this.storage.label} is ${missing} bytes shorter than its extent; what is missing reads zero.`];
  }

  map(offset: number, length: number): Mapping {
    const fileOffset = this.#fileOffset + offset;
    const available = Math.min(this.storage.size - fileOffset, length);
    // A write there extends the file, with zeroes in the gap.
    if (available <= 0 && !this.#writable) return { kind: 'zero', length };
    const run = this.#writable ? length : available;
    return { kind: 'data', storage: this.storage, fileOffset, length: run, writable: this.#writable };
  }
}

/** Place of a flat extent. */
export interface FlatPlace {
  readonly length: number;
  /** First byte in the file. */
  readonly fileOffset: number;
  readonly writable: boolean;
}

/** A range that reads zero; what is written to it is lost, as VirtualBox has it. */
export class ZeroExtent extends Extent {
  get storage(): null {
    return null;
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
