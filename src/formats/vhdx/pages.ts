/** Changes of a few bytes as whole pages, for the log. */
import { alignDown } from '../../binary/numbers.ts';
import type { Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { PAGE } from './layout.ts';
import type { LogPage } from './log-entry.ts';

/** Pages as they are, with changes on top. */
export class PageEdits {
  readonly #storage: Storage;
  readonly #pages = new Map<number, Uint8Array>();

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** Replaces bytes at a file offset. */
  async put(fileOffset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const start = alignDown(fileOffset + at, PAGE);
      const inPage = fileOffset + at - start;
      const part = bytes.subarray(at, at + PAGE - inPage);
      (await this.#page(start)).set(part, inPage);
      at += part.length;
    }
  }

  /** Changed pages in the order of the file. */
  get list(): LogPage[] {
    const pages = [...this.#pages].map(([fileOffset, bytes]) => ({ fileOffset, bytes }));
    return pages.sort((one, other) => one.fileOffset - other.fileOffset);
  }

  async #page(fileOffset: number): Promise<Uint8Array> {
    const known = this.#pages.get(fileOffset);
    if (known !== undefined) return known;
    const bytes = new Uint8Array(PAGE);
    await readPadded(this.#storage, fileOffset, bytes);
    this.#pages.set(fileOffset, bytes);
    return bytes;
  }
}
