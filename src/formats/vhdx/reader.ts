/** The blocks of a VHDX image as readers need them: where each lies, and in a differencing image which sectors it stores. */
import { alignDown } from '../../binary/numbers.ts';
import { type BlockMapParts, BlockReader } from '../../blocks/block-reader.ts';
import type { ChangeGuard } from '../../blocks/guarded.ts';
import { ImageError } from '../../errors.ts';
import type { Mapping } from '../../image/contract.ts';
import { isPromise, type MaybePromise, type Storage } from '../../storage/contract.ts';
import { type Bat, stateOf } from './bat.ts';
import { SectorBitmaps } from './bitmaps.ts';
import { type EntryFacts, entriesOf } from './entries.ts';
import { PAGE, STATE } from './layout.ts';
import type { VhdxRoom } from './room.ts';

/** Parts of the blocks of an image. */
export interface VhdxBlocksParts {
  readonly storage: Storage;
  readonly bat: Bat;
  readonly facts: EntryFacts;
  readonly virtualSize: number;
  readonly logicalSector: number;
  /** Null: the image is only read. */
  readonly room: VhdxRoom | null;
  readonly guard: ChangeGuard;
}

/** Bits of the sectors of a block. */
export interface BlockBits {
  readonly first: number;
  readonly end: number;
}

/** Parts of the map of blocks. */
export function mapParts({ storage, bat, facts, virtualSize, room, guard }: VhdxBlocksParts): BlockMapParts<VhdxRoom> {
  return {
    storage,
    table: bat,
    entries: entriesOf(facts),
    layout: { virtualSize, blockSize: facts.blockSize, dataOffset: 0, leadBytes: 0 },
    allocator: room,
    guard,
    tableOffset: bat.entryOffset(0),
  };
}

/** See the head of this file. */
export class VhdxReader {
  readonly map: BlockReader;
  readonly bitmaps: SectorBitmaps;
  readonly #parts: VhdxBlocksParts;

  constructor(parts: VhdxBlocksParts) {
    this.#parts = parts;
    this.bitmaps = new SectorBitmaps(parts.storage);
    this.map = new BlockReader(mapParts(parts));
  }

  /** See `Image.map`. */
  locate(guestOffset: number, length: number): MaybePromise<Mapping> {
    const found = this.map.map(guestOffset, length);
    if (!this.#parts.facts.hasParent) return found;
    return isPromise(found)
      ? found.then((one) => this.#bySectors(guestOffset, one))
      : this.#bySectors(guestOffset, found);
  }

  /** Bits of a block; null: its chunk has no bitmap. */
  async bitsOf(block: number): Promise<BlockBits | null> {
    const { bat, facts, logicalSector } = this.#parts;
    const chunk = Math.floor(block / bat.ratio);
    while (bat.bitmapOffset(chunk) === undefined) await bat.loadBitmap(chunk);
    const fileOffset = bat.bitmapOffset(chunk) ?? null;
    if (fileOffset === null) return null;
    const sectors = facts.blockSize / logicalSector;
    const first = fileOffset * 8 + (block % bat.ratio) * sectors;
    return { first, end: first + sectors };
  }

  #bySectors(guestOffset: number, mapping: Mapping): MaybePromise<Mapping> {
    if (mapping.kind !== 'data') return mapping;
    const { bat, facts, logicalSector } = this.#parts;
    const block = Math.floor(guestOffset / facts.blockSize);
    if (stateOf(bat.get(block) ?? 0) !== STATE.partial) return mapping;
    const inBlock = guestOffset % facts.blockSize;
    const length = Math.min(mapping.length, facts.blockSize - inBlock);
    const chunk = Math.floor(block / bat.ratio);
    const fileOffset = bat.bitmapOffset(chunk);
    if (fileOffset === undefined) return bat.loadBitmap(chunk).then(() => this.locate(guestOffset, mapping.length));
    // Without a bitmap all bits are clear.
    if (fileOffset === null) return { kind: 'absent', length };
    const sectors = facts.blockSize / logicalSector;
    const first = fileOffset * 8 + (block % bat.ratio) * sectors;
    const at = Math.floor(inBlock / logicalSector);
    const bitPlace = fileOffset + ((block % bat.ratio) * sectors + at) / 8;
    if (alignDown(bitPlace, PAGE) + PAGE > this.#parts.storage.size) {
      throw this.#cutOff(fileOffset, { guestOffset, guestLength: length });
    }
    const run = this.bitmaps.run(first + at, first + Math.ceil((inBlock + length) / logicalSector));
    const cut = ({ stored, end }: { readonly stored: boolean; readonly end: number }): Mapping => {
      const part = Math.min((end - first) * logicalSector - inBlock, length);
      return stored ? { ...mapping, length: part } : { kind: 'absent', length: part };
    };
    return isPromise(run) ? run.then(cut) : cut(run);
  }

  #cutOff(fileOffset: number, where: { readonly guestOffset: number; readonly guestLength: number }): ImageError {
    const { label: path, size } = this.#parts.storage;
    return new ImageError('corrupt', 'A sector bitmap lies beyond the end of the file: the image was cut off', {
      path,
      offset: fileOffset,
      ...where,
      expected: `at most ${size}`,
      hint: 'Other blocks can still be read (on the command line: convert --salvage).',
    });
  }
}
