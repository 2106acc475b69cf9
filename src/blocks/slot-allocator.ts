/**
 * The slots of a file: stretches of one length, behind each other, that hold one block each.
 *
 * When a block gives up its slot, the slot stays in use (*pinned*) until the map without it is durable (settle): until
 * then a cut may bring the old entry back. Then it is a hole, filled by the next block that needs room or by compacting,
 * but where a format only appends. Holes at the end can be cut off.
 */
import type { SparseBitSet } from '../binary/bits.ts';
import { RunList } from '../binary/runs.ts';

/** One or more consecutive slots. */
export interface SlotRun {
  readonly first: number;
  readonly count: number;
  /** True for slots in use before, whose old content is stale. */
  readonly recycled: boolean;
}

/** Policy of an allocator. */
export interface SlotPolicy {
  /** Room is taken at the end only: holes stay until they are cut off. Default false. */
  readonly appendOnly?: boolean | undefined;
}

/** Allocator of slots: holes first, lowest first, then the end of the file. */
export class SlotAllocator {
  readonly #appendOnly: boolean;
  /** Referenced by the map, allocated, or pinned. */
  readonly #used: SparseBitSet;
  /** End of the slots ever allocated and not cut off. */
  #end: number;
  /** Every slot below is in use. */
  #lowest = 0;
  #committedEnd: number;
  #pinned = new RunList();
  #sealed = new RunList();

  /** `used`: slots that hold blocks, all of them below `end`. */
  constructor(used: SparseBitSet, end: number, { appendOnly = false }: SlotPolicy = {}) {
    this.#appendOnly = appendOnly;
    this.#used = used;
    this.#end = end;
    this.#committedEnd = end;
  }

  /** One more than the highest slot that any map on the medium may refer to. Headers that count slots must cover it. */
  get committedEnd(): number {
    return this.#committedEnd;
  }

  /** Number of slots in use: the minimum for a packed image. */
  get used(): number {
    return this.#used.size;
  }

  /** Unused slots before the end. */
  get holes(): number {
    return this.#end - this.#used.size;
  }

  /** Holes that `take` fills. */
  get fillable(): number {
    return this.#appendOnly ? 0 : this.holes;
  }

  /** Marks a slot as in use that holds something else than a block. False: it is in use already. */
  reserve(slot: number): boolean {
    this.#end = Math.max(this.#end, slot + 1);
    this.#committedEnd = Math.max(this.#committedEnd, this.#end);
    return this.#used.add(slot);
  }

  /** Takes up to `wanted` consecutive slots. */
  take(wanted: number): SlotRun {
    if (this.fillable > 0) return { first: this.#takeHole(), count: 1, recycled: true };
    return this.takeAtEnd(wanted);
  }

  /** Takes that many consecutive slots at the end, whatever holes there are. */
  takeAtEnd(wanted: number): SlotRun {
    const first = this.#end;
    this.#end += wanted;
    for (let slot = first; slot < this.#end; slot++) this.#used.add(slot);
    return { first, count: wanted, recycled: false };
  }

  /** Takes the lowest consecutive holes from slot `from` on that end at or before slot `end`; null: there are none. */
  takeHoles(wanted: number, from: number, end: number): SlotRun | null {
    let first = Math.max(from, this.#lowest);
    for (let slot = first; slot < end && this.fillable >= wanted; slot++) {
      if (this.#used.has(slot)) first = slot + 1;
      else if (slot + 1 - first === wanted) {
        for (let taken = first; taken <= slot; taken++) this.#used.add(taken);
        return { first, count: wanted, recycled: true };
      }
    }
    return null;
  }

  /** Frees slots that were taken and not committed. They may have been written. */
  giveBack(run: SlotRun): void {
    for (let slot = run.first; slot < run.first + run.count; slot++) this.#release(slot);
  }

  /** Called when the map refers to these slots. */
  committed(run: SlotRun): void {
    this.#committedEnd = Math.max(this.#committedEnd, run.first + run.count);
  }

  /** Called when the map in memory no longer refers to the slot, while the medium may. */
  pin(slot: number): void {
    this.#pinned.push(slot);
  }

  /** Assigns all pins so far to the flush that begins now. */
  seal(): void {
    this.#sealed = this.#pinned;
    this.#pinned = new RunList();
  }

  /** Ends that flush: its pinned slots are free. */
  settle(): void {
    for (const { start, end } of this.#sealed) for (let slot = start; slot < end; slot++) this.#release(slot);
    this.#sealed = new RunList();
  }

  /** Drops holes at the end. Returns the number of remaining slots. */
  trim(): number {
    while (this.#end > 0 && !this.#used.has(this.#end - 1)) this.#end--;
    this.#committedEnd = this.#end;
    return this.#end;
  }

  #release(slot: number): void {
    this.#used.delete(slot);
    this.#lowest = Math.min(this.#lowest, slot);
  }

  #takeHole(): number {
    while (this.#used.has(this.#lowest)) this.#lowest++;
    this.#used.add(this.#lowest);
    return this.#lowest++;
  }
}
