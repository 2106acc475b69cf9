/** Files that stay open for the length of a command, so that each is opened once however often it is looked at. */
import { allDone } from './all-done.ts';
import type { Storage, StorageProvider } from './contract.ts';
import { forwardedProvider } from './forwarding.ts';
import { keptOpen } from './kept-open.ts';

/** Handles held; what is opened beyond them is opened each time. */
const HELD_MAX = 16;

/** A provider whose files stay open until it is closed. For reading alone. */
export class HeldFiles implements AsyncDisposable {
  readonly provider: StorageProvider;
  readonly #files: StorageProvider;
  readonly #held = new Map<string, Storage>();

  constructor(files: StorageProvider) {
    this.#files = files;
    this.provider = forwardedProvider(files, { open: (name, mode) => this.#open(name, mode) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const held = [...this.#held.values()];
    this.#held.clear();
    await allDone(held.map((storage) => storage.close()));
  }

  async #open(name: string, mode: 'read' | 'write'): Promise<Storage> {
    if (mode !== 'read') return this.#files.open(name, mode);
    const known = this.#held.get(name);
    if (known !== undefined) return keptOpen(known).storage;
    const storage = await this.#files.open(name, mode);
    // Another call may have opened it meanwhile.
    if (this.#held.size >= HELD_MAX || this.#held.has(name)) return storage;
    this.#held.set(name, storage);
    return keptOpen(storage).storage;
  }
}
