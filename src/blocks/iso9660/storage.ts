/** The bytes of a plan as a storage: descriptors and directories come from memory, the rest from the files when it is asked for. */
import type { Mapping } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import { MemoryStorage } from '../../storage/memory.ts';
import { type HostContent, HostFiles, type OpenHostFile } from './host-files.ts';
import type { IsoPlan } from './plan.ts';

/** A range of the image. */
interface Piece {
  readonly offset: number;
  readonly length: number;
  /** Bytes in memory, or a file that is opened when it is read. */
  readonly from: Storage | HostContent;
}

/** See the head of this file. */
export class IsoBytes {
  readonly size: number;
  readonly #pieces: readonly Piece[];
  readonly #files: HostFiles;

  private constructor(size: number, pieces: readonly Piece[], files: HostFiles) {
    this.size = size;
    this.#pieces = pieces;
    this.#files = files;
  }

  static async of(plan: IsoPlan, openFile: OpenHostFile): Promise<IsoBytes> {
    const { head, contents, replaced } = plan;
    const pieces: Piece[] = [
      { offset: 0, length: head.length, from: await memory('the directories of the image', head) },
    ];
    for (const { offset, content } of contents) {
      const bytes = replaced.get(content) ?? content.bytes;
      const from = bytes === undefined ? (content as HostContent) : await memory('a file made for the image', bytes);
      pieces.push({ offset, length: content.size, from });
    }
    return new IsoBytes(plan.size, pieces, new HostFiles(openFile));
  }

  /** As `Image.map`. Opens nothing. */
  map(guestOffset: number, length: number): Mapping {
    const end = Math.min(guestOffset + length, this.size);
    const at = this.#indexOf(guestOffset);
    const [piece, next] = [this.#pieces[at], this.#pieces[at + 1]];
    if (piece === undefined) throw new Error('internal: the image begins with its directories');
    const pieceEnd = piece.offset + piece.length;
    if (guestOffset >= pieceEnd)
      return { kind: 'zero', length: Math.min(end, next?.offset ?? this.size) - guestOffset };
    const { from } = piece;
    const within = 'read' in from ? undefined : from.within;
    const storage = 'read' in from ? from : this.#files.storageOf(within?.file ?? from);
    const fileOffset = guestOffset - piece.offset + (within?.offset ?? 0);
    return { kind: 'data', storage, fileOffset, length: Math.min(end, pieceEnd) - guestOffset, writable: false };
  }

  close(): Promise<void> {
    return this.#files.close();
  }

  /** The last piece that begins at or before the offset. */
  #indexOf(guestOffset: number): number {
    let [low, high] = [0, this.#pieces.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#pieces[middle]?.offset ?? 0) <= guestOffset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

async function memory(label: string, bytes: Uint8Array): Promise<Storage> {
  const storage = new MemoryStorage(label);
  await storage.write(0, bytes);
  return storage;
}
