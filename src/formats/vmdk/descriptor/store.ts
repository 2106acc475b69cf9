/**
 * The descriptor in its file: alone, or embedded in a sparse extent.
 *
 * Fields that keep their length change in place, each inside one sector. Other edits write the new text twice: first as
 * a copy behind the text, with its length and checksum, durable, then in the place of the text, durable; then the copy
 * goes. Opening takes the copy if it is whole, since then a cut may have torn the text. Other programs stop reading at
 * the NUL before it.
 */

import { crc32 } from '../../../binary/crc32.ts';
import { alignUp, SECTOR } from '../../../binary/numbers.ts';
import { type StructValue, struct, u32, u64 } from '../../../binary/struct.ts';
import { ChangeGuard } from '../../../blocks/guarded.ts';
import { assert, ImageError, isImageError } from '../../../errors.ts';
import type { MetaWrite } from '../../../image/contract.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { VMDK_LIMITS } from '../limits.ts';
import { DescriptorText } from './text.ts';

/** Header of a copy: one sector, the text behind it. */
const COPY = struct('little', 20, {
  magic: u64(0),
  length: u32(8),
  checksum: u32(12), // of the text
  headerChecksum: u32(16), // of the fields before it
});
type Copy = StructValue<typeof COPY>;
/** "\0vdkitCP": begins with a NUL, where a reader of the text stops. */
const MAGIC = 0x5043_7469_6b64_7600n;

/** Place of a descriptor. */
export interface DescriptorPlace {
  readonly storage: Storage;
  readonly fileOffset: number;
  /** Room that it has; null: a separate file, which grows. */
  readonly room: number | null;
}

/** A descriptor that can be changed where it lies. */
export class DescriptorStore {
  readonly #place: DescriptorPlace;
  #text: DescriptorText;
  /** A copy of the text that a cut left, from the start of the descriptor; null: none. */
  #copyAt: number | null;
  /** Shared with the extents of the image: after a failure none of its files takes more. */
  readonly guard: ChangeGuard;

  private constructor(place: DescriptorPlace, text: DescriptorText, copyAt: number | null = null) {
    this.#place = place;
    this.#text = text;
    this.#copyAt = copyAt;
    this.guard = new ChangeGuard(place.storage.label);
  }

  /** Reads a descriptor. Throws `limit`, `corrupt`. */
  static async open(place: DescriptorPlace): Promise<DescriptorStore> {
    const { storage, fileOffset, room } = place;
    const length = room ?? storage.size - fileOffset;
    if (length > VMDK_LIMITS.descriptorBytes) {
      throw new ImageError('limit', 'The descriptor is too long', {
        path: storage.label,
        found: `${length} bytes`,
        expected: `at most ${VMDK_LIMITS.descriptorBytes}`,
      });
    }
    const bytes = new Uint8Array(length);
    await readPadded(storage, fileOffset, bytes);
    const copy = copyIn(bytes);
    const text = DescriptorText.parse(copy?.text ?? bytes, storage.label);
    return new DescriptorStore(place, text, copy?.at ?? null);
  }

  /** A descriptor that was just written there. */
  static of(place: DescriptorPlace, text: DescriptorText): DescriptorStore {
    return new DescriptorStore(place, text);
  }

  get text(): DescriptorText {
    return this.#text;
  }

  /** Name of the file in errors. */
  get path(): string {
    return this.#place.storage.label;
  }

  /** A copy of the text to change: it takes effect with `replace`. */
  draft(): DescriptorText {
    return DescriptorText.parse(this.#text.bytes(), this.path);
  }

  /**
   * Stores another text, durably; a cut leaves the old one or the new one. Throws `limit` if there is no room for it.
   * After a failure `text` is the new one if it counts: a copy of it was durable. On a full medium the image takes
   * further changes if the old text counts.
   */
  async replace(text: DescriptorText): Promise<void> {
    this.checkRoom(text);
    this.guard.check();
    await this.guard.run(() => this.#finish());
    const [before, after] = [this.#text.bytes(), text.bytes()];
    const inPlace = changesInPlace(before, after);
    if (inPlace === null) return this.#writeTwice(text);
    await this.guard.run(async () => {
      const { storage, fileOffset } = this.#place;
      for (const [start, end] of inPlace) await storage.write(fileOffset + start, after.subarray(start, end));
      await storage.flush();
      this.#text = text;
    });
  }

  /** Throws `limit` if there is no room for another text beside this one. */
  checkRoom(text: DescriptorText): void {
    const { room } = this.#place;
    if (room !== null && !this.hasRoom(text)) throw this.#noRoom(this.#roomFor(text), room);
  }

  /** True if there is room for another text beside this one. */
  hasRoom(text: DescriptorText): boolean {
    const { room } = this.#place;
    return room === null || this.#roomFor(text) <= room;
  }

  /** Bytes that both take while one replaces the other; 0 where it changes in place. */
  #roomFor(text: DescriptorText): number {
    const after = text.bytes();
    if (changesInPlace(this.#text.bytes(), after) !== null) return 0;
    return this.#copyPlace(after.length) + SECTOR + alignUp(after.length, SECTOR);
  }

  /** Stores another text of the same length in its place, durably: any mix of both must be as good as the new one. */
  async overwrite(text: DescriptorText): Promise<void> {
    if (text.bytes().length !== this.#text.bytes().length) return this.replace(text);
    this.guard.check();
    await this.guard.run(async () => {
      await this.#finish();
      const { storage } = this.#place;
      for (const { fileOffset, bytes } of this.seal(text)) await storage.write(fileOffset, bytes);
      await storage.flush();
    });
  }

  /** The writes of the next flush that store another text of the same length: see `overwrite`. */
  seal(text: DescriptorText): MetaWrite[] {
    this.guard.check();
    const { storage, fileOffset } = this.#place;
    const [before, after] = [this.#text.bytes(), text.bytes()];
    assert(before.length === after.length, 'a text that is replaced in a flush keeps its length');
    this.#text = text;
    return changedSectors(before, after).map(([start, end]) => {
      return { storage, fileOffset: fileOffset + start, bytes: after.slice(start, end) };
    });
  }

  /** Ends a change that stopped: the text may be torn in its place, so it is written there from its copy, which goes. */
  async #finish(): Promise<void> {
    const copyAt = this.#copyAt;
    if (copyAt === null) return;
    const { storage, fileOffset } = this.#place;
    const text = this.#text.bytes();
    const padded = new Uint8Array(copyAt);
    padded.set(text);
    await storage.write(fileOffset, padded);
    await storage.flush();
    await this.#dropCopy(copyAt, fileOffset + text.length);
    await storage.flush();
    this.#copyAt = null;
  }

  async #writeTwice(text: DescriptorText): Promise<void> {
    const bytes = text.bytes();
    const copyAt = this.#copyPlace(bytes.length);
    await this.#writeCopy(copyAt, bytes);
    this.#text = text;
    this.#copyAt = copyAt;
    await this.guard.run(() => this.#finish());
  }

  /** Writes a copy, durably. On a full medium it is taken back. */
  async #writeCopy(copyAt: number, text: Uint8Array): Promise<void> {
    const { storage, fileOffset } = this.#place;
    const copy = new Uint8Array(SECTOR + alignUp(text.length, SECTOR));
    copy.set(copyHeader(text));
    copy.set(text, SECTOR);
    const before = storage.size;
    try {
      await storage.write(fileOffset + copyAt, copy);
    } catch (error) {
      const isFull = isImageError(error) && error.kind === 'no-space';
      if (!isFull || !(await this.#takeBack(copyAt, before))) this.guard.fail();
      throw error;
    }
    await this.guard.run(() => storage.flush());
  }

  /** Removes what there is of a copy, durably. False: it may be there, and whole. */
  async #takeBack(copyAt: number, size: number): Promise<boolean> {
    const { storage, fileOffset, room } = this.#place;
    try {
      await this.#dropCopy(copyAt, size);
      await storage.flush();
      return true;
    } catch {
      const bytes = new Uint8Array(room ?? storage.size - fileOffset);
      await readPadded(storage, fileOffset, bytes);
      return copyIn(bytes) === null;
    }
  }

  /** Behind the text of either length and the NUL that ends it. */
  #copyPlace(length: number): number {
    return alignUp(Math.max(this.#text.bytes().length, length) + 1, SECTOR);
  }

  /** `size`: that of a separate file without it. */
  async #dropCopy(copyAt: number, size: number): Promise<void> {
    const { storage, fileOffset, room } = this.#place;
    if (room === null) await storage.resize(size);
    else await storage.write(fileOffset + copyAt, new Uint8Array(SECTOR));
  }

  #noRoom(found: number, expected: number): ImageError {
    return new ImageError('limit', 'The descriptor of the image has no room for this change', {
      path: this.path,
      found: `${found} bytes`,
      expected: `at most ${expected}`,
      hint: 'Convert the image into a new one.',
    });
  }
}

/** The sector, if it is one alone, that tells one text from another of its length; null: more than that changes. */
function changesInPlace(before: Uint8Array, after: Uint8Array): ReturnType<typeof changedSectors> | null {
  if (before.length !== after.length) return null;
  const changed = changedSectors(before, after);
  return changed.length <= 1 ? changed : null;
}

/** Ranges of whole sectors in which two texts of one length differ; the last one may be short. */
function changedSectors(before: Uint8Array, after: Uint8Array): (readonly [start: number, end: number])[] {
  const changed: (readonly [number, number])[] = [];
  for (let start = 0; start < after.length; start += SECTOR) {
    const end = Math.min(start + SECTOR, after.length);
    if (after.subarray(start, end).some((byte, at) => byte !== before[start + at])) changed.push([start, end]);
  }
  return changed;
}

function copyHeader(text: Uint8Array): Uint8Array {
  const fields: Copy = { magic: MAGIC, length: text.length, checksum: crc32(text), headerChecksum: 0 };
  const header = COPY.encode(fields);
  COPY.put(header, 'headerChecksum', crc32(header.subarray(0, COPY.fields.headerChecksum.offset)));
  return header;
}

/** The text of a whole copy, and its place; null without one. */
function copyIn(bytes: Uint8Array): { readonly text: Uint8Array; readonly at: number } | null {
  for (let at = SECTOR; at + SECTOR <= bytes.length; at += SECTOR) {
    if (bytes[at] !== 0 || COPY.get(bytes, 'magic', at) !== MAGIC) continue;
    const { length, checksum, headerChecksum } = COPY.decode(bytes, at);
    const header = bytes.subarray(at, at + COPY.fields.headerChecksum.offset);
    const text = bytes.subarray(at + SECTOR, at + SECTOR + length);
    if (crc32(header) !== headerChecksum || text.length !== length || crc32(text) !== checksum) continue;
    // The copy stands behind its text.
    if (length < at) return { text, at };
  }
  return null;
}
