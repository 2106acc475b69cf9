/**
 * State of a medium: files, names, and a running hash of the metadata sectors, so that two states can be told apart
 * without comparing them. Applying operations follows the model of the medium:
 *
 * - a sector piece of a write is there in full or not at all, independent of every other piece;
 * - the size of a file changes with or without the data behind it: data without its size is lost, a size without its
 *   data reads zero;
 * - a rename is one step, but for one that must not replace: that is a link and an unlink, and a cut may fall between.
 */
import { SECTOR } from '../binary/numbers.ts';
import type { FileOperation, LoggedFile, MediumOperation, NameOperation, OperationLog } from './operation-log.ts';
import { PagedBytes } from './paged-bytes.ts';

/** True when a range of a file holds metadata. */
export type MetadataClassifier = (fileName: string, offset: number, length: number) => boolean;

/** Fate of one operation at a cut. */
export interface Fate {
  /** All pieces, none, or one flag per sector piece. For a rename: whether the old name is gone. */
  readonly pieces: 'all' | 'none' | Uint8Array;
  /** The change of size is present. For an operation on names: the new name exists, or the removed one is gone. */
  readonly size: boolean;
}

/** The operation reached the medium completely. */
export const KEPT: Fate = { pieces: 'all', size: true };
/** The operation did not reach the medium. */
export const LOST: Fate = { pieces: 'none', size: false };

/** First sector that an operation touches, and the one after its last. */
export function sectorSpan(operation: MediumOperation): readonly [number, number] {
  if (operation.kind !== 'write' && operation.kind !== 'zero') return [0, 0];
  const { offset, length } = operation;
  return length === 0 ? [0, 0] : [Math.floor(offset / SECTOR), Math.ceil((offset + length) / SECTOR)];
}

/** Files and names; forks share their pages. */
export class MediumState {
  readonly files = new Map<LoggedFile, PagedBytes>();
  readonly names = new Map<string, LoggedFile>();
  readonly #isMetadata: MetadataClassifier;
  #hashLow = 0;
  #hashHigh = 0;

  constructor(isMetadata: MetadataClassifier) {
    this.#isMetadata = isMetadata;
  }

  /** The medium as it was before the first operation of the log. */
  static initial(log: OperationLog, isMetadata: MetadataClassifier): MediumState {
    const state = new MediumState(isMetadata);
    for (const file of log.files) state.files.set(file, file.initial.fork());
    for (const [name, file] of log.initialNames) state.names.set(name, file);
    return state;
  }

  /** Equal for equal metadata bytes. */
  get key(): string {
    return this.#hashHigh.toString(16).padStart(8, '0') + this.#hashLow.toString(16).padStart(8, '0');
  }

  fork(): MediumState {
    const copy = new MediumState(this.#isMetadata);
    for (const [file, content] of this.files) copy.files.set(file, content.fork());
    for (const [name, file] of this.names) copy.names.set(name, file);
    copy.#hashLow = this.#hashLow;
    copy.#hashHigh = this.#hashHigh;
    return copy;
  }

  /** Applies operations in order of their starts, each with its fate. */
  apply(operations: readonly MediumOperation[], fateOf: (index: number) => Fate): void {
    const changed = new Map<LoggedFile, { operation: FileOperation; fate: Fate }[]>();
    operations.forEach((operation, index) => {
      const fate = fateOf(index);
      if (fate === LOST) return;
      if ('directories' in operation) {
        this.#applyName(operation, fate);
        return;
      }
      const list = changed.get(operation.file) ?? [];
      list.push({ operation, fate });
      changed.set(operation.file, list);
    });
    for (const [file, list] of changed) this.#applyToFile(file, list);
  }

  #applyName(operation: NameOperation, fate: Fate): void {
    if (!fate.size) return;
    if (operation.kind === 'rename' && operation.moved !== undefined) {
      for (const { file, from, to } of operation.moved) {
        // A name that a cut lost in the old directory is not in the new one either.
        if (this.names.get(from) !== file) continue;
        this.names.delete(from);
        this.names.set(to, file);
      }
      return;
    }
    const goes = operation.kind === 'remove' || (operation.kind === 'rename' && fate.pieces === 'all');
    if (goes && this.names.get(operation.from) === operation.file) this.names.delete(operation.from);
    if (operation.kind !== 'remove') this.names.set(operation.to, operation.file);
  }

  #applyToFile(file: LoggedFile, list: readonly { operation: FileOperation; fate: Fate }[]): void {
    const content = this.files.get(file) ?? new PagedBytes();
    const touched = this.#touchedMetadata(file, content, list);
    for (const sector of touched) this.#toggle(file, content, sector);
    let size = content.size;
    for (const { operation, fate } of list) {
      if (operation.kind !== 'resize') putPieces(content, operation, fate.pieces);
      if (operation.kind === 'zero' || !fate.size) continue;
      // A cut that shortens the file takes what was behind with it, also for those who make it longer again.
      if (operation.kind === 'resize' && operation.sizes[1] < operation.sizes[0]) content.dropFrom(operation.sizes[1]);
      if (operation.kind === 'resize') size = operation.sizes[1];
      else size = Math.max(size, operation.offset + operation.length);
    }
    content.reveal(size);
    content.dropFrom(size);
    for (const sector of touched) this.#toggle(file, content, sector);
  }

  #touchedMetadata(
    file: LoggedFile,
    content: PagedBytes,
    list: readonly { operation: FileOperation; fate: Fate }[],
  ): Set<number> {
    const touched = new Set<number>();
    const add = (first: number, end: number): void => {
      for (let sector = first; sector < end; sector++) {
        if (this.#isMetadata(file.name, sector * SECTOR, SECTOR)) touched.add(sector);
      }
    };
    for (const { operation, fate } of list) {
      if (operation.kind === 'resize') {
        if (fate.size) add(Math.floor(operation.sizes[1] / SECTOR), content.storedEnd / SECTOR);
      } else if (fate.pieces !== 'none') {
        const [first, end] = sectorSpan(operation);
        add(first, end);
      }
    }
    return touched;
  }

  /** Adds or removes a sector's share of the hash: doing both sides of a change replaces it. */
  #toggle(file: LoggedFile, content: PagedBytes, sector: number): void {
    const bytes = content.sector(sector);
    if (bytes === undefined) return;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, SECTOR / 4);
    let low = Math.imul(sector + 1, 0x9e37_79b1) ^ file.id;
    let high = Math.imul(sector + 0x5851_f42d, 0x85eb_ca77) ^ file.id;
    let any = 0;
    for (let index = 0; index < words.length; index++) {
      const word = words[index] ?? 0;
      any |= word;
      low = Math.imul(low ^ word, 0x0100_0193);
      high = Math.imul(high ^ (word + index), 0xc2b2_ae35);
      high ^= high >>> 15;
    }
    // A sector of zeroes is the same as one that was never written.
    if (any === 0) return;
    this.#hashLow = (this.#hashLow ^ low) >>> 0;
    this.#hashHigh = (this.#hashHigh ^ high) >>> 0;
  }
}

function putPieces(
  content: PagedBytes,
  operation: Exclude<FileOperation, { kind: 'resize' }>,
  pieces: Fate['pieces'],
): void {
  if (pieces === 'none') return;
  const { offset, length } = operation;
  if (pieces === 'all') {
    put(content, operation, offset, offset + length);
    return;
  }
  const first = Math.floor(offset / SECTOR);
  for (let index = 0; index < pieces.length; index++) {
    if (pieces[index] === 0) continue;
    const start = Math.max((first + index) * SECTOR, offset);
    put(content, operation, start, Math.min((first + index + 1) * SECTOR, offset + length));
  }
}

function put(
  content: PagedBytes,
  operation: Exclude<FileOperation, { kind: 'resize' }>,
  start: number,
  end: number,
): void {
  if (operation.kind === 'write') {
    content.put(start, operation.bytes.subarray(start - operation.offset, end - operation.offset));
  } else {
    content.zero(start, end - start);
  }
}
