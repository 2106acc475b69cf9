/**
 * Which slots of the file hold blocks.
 *
 * Order of writes when a block gets a place (each step durable before the next):
 *   1. the payload in its slot, and the header with the raised count (stage);
 *   2. the map entry (publish).
 * The count comes before the map: QEMU hands out slot `count` next, so a map ahead of the count would make it
 * overwrite a block. A cut between the steps leaves slots that nobody refers to; they are found again when the image
 * is opened and handed out first.
 *
 * When a block gives up its slot, the slot stays in use (*pinned*) until the map without it is durable (settle): until
 * then a cut may bring the old entry back. Then it is a hole, filled by the next block that needs room or by compacting.
 * Holes at the end are cut off after the header's lowered count is durable.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import { RunList } from '../../binary/runs.ts';
import type { EntryTable } from '../../blocks/table.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import { ENTRY_ZERO } from './layout.ts';

/** One or more slots that follow each other. */
export interface SlotRun {
  readonly first: number;
  readonly count: number;
  /** Was in use before: what is not written there is stale. */
  readonly recycled: boolean;
}

/** What a scan of the whole map found. */
export interface MapScan {
  readonly allocator: SlotAllocator;
  /** Why the image must not be written, or null. */
  readonly obstacle: string | null;
}

/** Hands out slots: holes first, lowest first, then the end. */
export class SlotAllocator {
  /** Referred to by the map, handed out, or pinned. */
  readonly #used: SparseBitSet;
  /** No slot from here on was ever handed out, or all were cut off. */
  #end: number;
  /** Every slot below is in use. */
  #lowest = 0;
  #committedEnd: number;
  #pinned = new RunList();
  #sealed = new RunList();

  constructor(used: SparseBitSet, end: number) {
    this.#used = used;
    this.#end = end;
    this.#committedEnd = end;
  }

  /** What the header's count must cover: one more than the highest slot that any map on the medium may refer to. */
  get committedEnd(): number {
    return this.#committedEnd;
  }

  /** Slots in use. Packed, the image needs no more than this many. */
  get used(): number {
    return this.#used.size;
  }

  /** Slots below the end that nothing uses. */
  get holes(): number {
    return this.#end - this.#used.size;
  }

  /** Takes up to `wanted` slots that follow each other. */
  take(wanted: number): SlotRun {
    if (this.holes > 0) return { first: this.#takeHole(), count: 1, recycled: true };
    const first = this.#end;
    this.#end += wanted;
    for (let slot = first; slot < this.#end; slot++) this.#used.add(slot);
    return { first, count: wanted, recycled: false };
  }

  /** Gives back what was taken and not committed. It may have been written to. */
  giveBack(run: SlotRun): void {
    for (let slot = run.first; slot < run.first + run.count; slot++) this.#release(slot);
  }

  /** The map points at these slots now. */
  committed(run: SlotRun): void {
    this.#committedEnd = Math.max(this.#committedEnd, run.first + run.count);
  }

  /** The map in memory points at the slot no more; the one on the medium still may. */
  pin(slot: number): void {
    this.#pinned.push(slot);
  }

  /** The pins so far belong to the flush that begins now. */
  seal(): void {
    this.#sealed = this.#pinned;
    this.#pinned = new RunList();
  }

  /** That flush ended: what it pinned is free. */
  settle(): void {
    for (const { start, end } of this.#sealed) for (let slot = start; slot < end; slot++) this.#release(slot);
    this.#sealed = new RunList();
  }

  /** Forgets holes at the end. Returns the number of slots that are left. */
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

/** Reads the whole map once, in pieces, before the first write: what is in use, and whether writing is safe. */
export async function scanMap(table: EntryTable, slotsInFile: number, how: OperationOptions = {}): Promise<MapScan> {
  const used = new SparseBitSet();
  let end = 0;
  let obstacle: string | null = null;
  await table.scan((entry, index) => {
    if (entry >= ENTRY_ZERO || obstacle !== null) return;
    if (entry >= slotsInFile) {
      obstacle = `entry ${index} of its block map points beyond the end of the file`;
    } else if (!used.add(entry)) {
      obstacle = `entry ${index} of its block map points at a block that another entry uses too`;
    }
    end = Math.max(end, entry + 1);
  }, how);
  return { allocator: new SlotAllocator(used, end), obstacle };
}
