/** The bytes of a plan as a storage: descriptors and directories come from memory, the rest from the files when it is asked for. */
import { ImageError } from '../../errors.ts';
import type { Mapping } from '../../image/contract.ts';
import { allDone } from '../../storage/all-done.ts';
import type { MaybePromise, OperationOptions, ReadTarget, Storage } from '../../storage/contract.ts';
import { ForwardingStorage } from '../../storage/forwarding.ts';
import { MemoryStorage } from '../../storage/memory.ts';
import type { IsoPlan } from './plan.ts';
import type { IsoContent } from './tree.ts';

/** A range of the image. */
interface Piece {
  readonly offset: number;
  readonly length: number;
  /** Bytes in memory, or a file that is opened when it is first read. */
  readonly from: Storage | IsoContent;
}

/** See the head of this file. */
export class IsoBytes {
  readonly size: number;
  readonly #pieces: readonly Piece[];
  readonly #open: (content: IsoContent) => Promise<Storage>;
  readonly #opened = new Map<IsoContent, Promise<Storage>>();
  readonly #ready = new Map<IsoContent, Storage>();

  constructor(plan: IsoPlan, pieces: readonly Piece[], open: (content: IsoContent) => Promise<Storage>) {
    this.size = plan.size;
    this.#pieces = pieces;
    this.#open = open;
  }

  /** `open` opens the file of a content, once. */
  static async of(plan: IsoPlan, open: (content: IsoContent) => Promise<Storage>): Promise<IsoBytes> {
    const { head, contents, replaced } = plan;
    const pieces: Piece[] = [
      { offset: 0, length: head.length, from: await memory('the directories of the image', head) },
    ];
    for (const { offset, content } of contents) {
      const bytes = replaced.get(content) ?? content.bytes;
      const from = bytes === undefined ? content : await memory('a file made for the image', bytes);
      pieces.push({ offset, length: content.size, from });
    }
    return new IsoBytes(plan, pieces, open);
  }

  /** As `Image.map`. Waits only where a file is opened. */
  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    const end = Math.min(guestOffset + length, this.size);
    const at = this.#indexOf(guestOffset);
    const [piece, next] = [this.#pieces[at], this.#pieces[at + 1]];
    if (piece === undefined) throw new Error('internal: the image begins with its directories');
    const pieceEnd = piece.offset + piece.length;
    if (guestOffset >= pieceEnd)
      return { kind: 'zero', length: Math.min(end, next?.offset ?? this.size) - guestOffset };
    const fileOffset = guestOffset - piece.offset;
    const run = Math.min(end, pieceEnd) - guestOffset;
    const found = (storage: Storage): Mapping => ({ kind: 'data', storage, fileOffset, length: run, writable: false });
    const { from } = piece;
    if ('read' in from) return found(from);
    const ready = this.#ready.get(from);
    return ready === undefined ? this.#openOnce(from).then(found) : found(ready);
  }

  /** Files that were opened. */
  storages(): readonly Storage[] {
    return [...this.#ready.values()];
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#opened.values());
    await allDone(this.storages().map((storage) => storage.close()));
  }

  #openOnce(content: IsoContent): Promise<Storage> {
    const known = this.#opened.get(content);
    if (known !== undefined) return known;
    const opening = this.#open(content).then(
      (storage) => {
        this.#ready.set(content, storage);
        return storage;
      },
      (error: unknown) => {
        this.#opened.delete(content);
        throw error;
      },
    );
    this.#opened.set(content, opening);
    return opening;
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

/** State of a file when the image was planned. */
export interface FileState {
  readonly key: string;
  readonly size: number;
  readonly modifiedMs: number | null;
  /** Differs after every change that the platform can tell. */
  readonly revision: string | null;
}

/** The state of an open file. */
export async function stateOf(storage: Storage): Promise<FileState> {
  const { key, modifiedMs, revision } = await storage.identity();
  return { key, size: storage.size, modifiedMs, revision: revision?.text ?? null };
}

/**
 * A file of the host that must stay as it was when the image was planned: the directories tell its length, and a reader
 * must not get some of the old bytes and some of the new ones. Looked at again after every read.
 */
export class UnchangedStorage extends ForwardingStorage {
  readonly #planned: FileState;

  constructor(inner: Storage, planned: FileState) {
    super(inner, ['readNow']);
    this.#planned = planned;
  }

  /** As planned: a shorter file must not seem to end earlier. */
  override get size(): number {
    return this.#planned.size;
  }

  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    try {
      await this.inner.read(offset, target, options);
    } catch (error) {
      await this.check();
      throw error;
    }
    await this.check();
  }

  /** Throws `io` unless the file is as planned. */
  async check(): Promise<void> {
    const { size, modifiedMs, key, revision } = this.#planned;
    const now = await stateOf(this.inner);
    const isSame = now.key === key && now.modifiedMs === modifiedMs && now.revision === revision;
    if (isSame && now.size === size) return;
    throw new ImageError('io', 'A file of the image changed while the image was open', {
      path: this.inner.label,
      found: `${this.inner.size} bytes, changed at ${timeOf(now.modifiedMs)}`,
      expected: `${size} bytes, changed at ${timeOf(modifiedMs)}`,
      hint: 'Open the image again, or create it again.',
    });
  }
}

function timeOf(ms: number | null): string {
  return ms === null ? 'an unknown time' : new Date(ms).toISOString();
}
