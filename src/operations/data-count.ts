/** Data that a long operation has to move. Holes take no time, so that they have no part in a rate or in the time left. */
import type { Progress } from '../image/contract.ts';

/** A stretch of a disk; `data`: it is read. */
interface Stretch {
  readonly length: number;
  readonly data: boolean;
}

/** Counts data moved, and walks the stretches ahead of the operation to learn how much there is. */
export class DataCount {
  #done = 0;
  #total: number | null = null;
  #stopped = false;

  /** Begins to count; an operation that fails to read its source says so itself. */
  constructor(stretches: AsyncIterable<Stretch>) {
    void this.#count(stretches).catch(() => {});
  }

  /** Notes a stretch that the operation is done with. */
  add({ data, length }: Stretch): void {
    if (data) this.#done += length;
  }

  get progress(): NonNullable<Progress['data']> {
    return { done: this.#done, total: this.#total };
  }

  stop(): void {
    this.#stopped = true;
  }

  async #count(stretches: AsyncIterable<Stretch>): Promise<void> {
    let total = 0;
    for await (const { data, length } of stretches) {
      if (this.#stopped) return;
      if (data) total += length;
    }
    this.#total = total;
  }
}
