/**
 * Chunks that are too large to be held as a whole: each is decoded from its start to the place that is asked for, and goes
 * on from there. A place before it begins again at the start.
 */
import { rangeChunks } from '../../blocks/range-chunks.ts';
import { ImageError, withContext } from '../../errors.ts';
import { allDone, markHandled } from '../../storage/all-done.ts';
import type { ReadTarget, Storage } from '../../storage/contract.ts';
import { ReadOnceStorage } from '../../storage/read-once.ts';
import { decodePieces } from './decode.ts';
import type { DmgChunk } from './tables.ts';

/** Chunks that are decoded at a time: a request may end in one and the next begin in another. */
const OPEN_MAX = 2;
const HINT = 'Other chunks can still be read (on the command line: convert --salvage).';

/** One that is being decoded. */
interface Open {
  readonly storage: ReadOnceStorage;
  /** True when a place that is asked for was passed, or when the chunk has another length. */
  isSurprised(): boolean;
}

/** See the head of this file. */
export class LargeChunks {
  readonly #data: Storage;
  /** By guest offset, the one that was used last at the end. */
  readonly #open = new Map<number, Open>();

  /** Chunks that were decoded to their end, and have their length: nothing of a damaged one is given away. */
  readonly #sound = new Map<number, Promise<void>>();

  constructor(data: Storage) {
    this.#data = data;
  }

  /** Reads a part of a chunk. The first read decodes all of it. Throws `corrupt` for all of a damaged chunk. */
  async read(chunk: DmgChunk, guestOffset: number, target: ReadTarget): Promise<void> {
    const sound = this.#sound.get(chunk.guestOffset) ?? markHandled(this.#verify(chunk));
    this.#sound.set(chunk.guestOffset, sound);
    await sound;
    for (;;) {
      const open = this.#use(chunk);
      try {
        return await open.storage.read(guestOffset - chunk.guestOffset, target);
      } catch (error) {
        if (!open.isSurprised()) throw withContext(error, { ...placeOf(chunk), guestOffset, hint: HINT });
      }
      // What is asked for was passed: again from the start. Another reader goes on with what it has.
      if (this.#open.get(chunk.guestOffset) === open) await this.#drop(chunk.guestOffset);
    }
  }

  close(): Promise<void> {
    return allDone([...this.#open.keys()].map((key) => this.#drop(key)));
  }

  async #verify(chunk: DmgChunk): Promise<void> {
    let length = 0;
    try {
      for await (const piece of this.#pieces(chunk)) {
        length += piece.length;
        if (length > chunk.size) break;
      }
    } catch (error) {
      throw withContext(error, { ...placeOf(chunk), path: this.#data.label, hint: HINT });
    }
    if (length === chunk.size) return;
    throw new ImageError('corrupt', 'A chunk of the DMG has another length than its part of the disk', {
      ...placeOf(chunk),
      path: this.#data.label,
      found: length < chunk.size ? `${length} bytes` : 'more',
      expected: `${chunk.size} bytes`,
      hint: HINT,
    });
  }

  #pieces({ type, fileOffset, storedBytes }: DmgChunk): AsyncGenerator<Uint8Array> {
    return decodePieces(type, rangeChunks(this.#data, { offset: fileOffset, length: storedBytes }, {}));
  }

  #use(chunk: DmgChunk): Open {
    const open = this.#open.get(chunk.guestOffset) ?? this.#begin(chunk);
    this.#open.delete(chunk.guestOffset);
    this.#open.set(chunk.guestOffset, open);
    const [oldest] = this.#open.keys();
    if (this.#open.size > OPEN_MAX && oldest !== undefined) void this.#drop(oldest).catch(() => {});
    return open;
  }

  #begin(chunk: DmgChunk): Open {
    const chunks = this.#pieces(chunk);
    const { label } = this.#data;
    let surprised = false;
    const onSurprise = (): void => {
      surprised = true;
    };
    const storage = new ReadOnceStorage({ label, chunks, tail: 0, onSurprise });
    storage.expect(chunk.size, () => true);
    return { storage, isSurprised: () => surprised };
  }

  async #drop(key: number): Promise<void> {
    const open = this.#open.get(key);
    this.#open.delete(key);
    await open?.storage.close();
  }
}

function placeOf({ fileOffset }: DmgChunk): { readonly offset: number } {
  return { offset: fileOffset };
}
