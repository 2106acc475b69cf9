/**
 * Which slots of the file hold blocks.
 *
 * Order of writes when a block gets a place (each step durable before the next):
 *   1. the payload in its slot, and the header with the raised count (stage);
 *   2. the map entry (publish).
 * The count comes before the map: QEMU hands out slot `count` next, so a map ahead of the count would make it
 * overwrite a block. A cut between the steps leaves slots that nobody refers to; they are found again when the image
 * is opened and handed out first.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import type { U32Table } from '../../image/u32-table.ts';
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

/** Hands out slots: holes first, then the end. */
export class SlotAllocator {
  /** Slots that are in use, only while there are holes below `#next`. */
  #used: SparseBitSet | null;
  #holes: number;
  #holeCursor = 0;
  readonly #returned: number[] = [];
  #next: number;
  #committedEnd: number;

  constructor(used: SparseBitSet, next: number) {
    this.#holes = next - used.size;
    this.#used = this.#holes > 0 ? used : null;
    this.#next = next;
    this.#committedEnd = next;
  }

  /** One more than the highest slot that the map refers to, or did in this session. */
  get committedEnd(): number {
    return this.#committedEnd;
  }

  /** Takes up to `wanted` slots that follow each other. */
  take(wanted: number): SlotRun {
    const returned = this.#returned.pop();
    if (returned !== undefined) return { first: returned, count: 1, recycled: true };
    if (this.#used !== null) return { first: this.#takeHole(this.#used), count: 1, recycled: true };
    const first = this.#next;
    this.#next += wanted;
    return { first, count: wanted, recycled: false };
  }

  giveBack(run: SlotRun): void {
    for (let slot = run.first + run.count - 1; slot >= run.first; slot--) this.#returned.push(slot);
  }

  /** The map points at these slots now. */
  committed(run: SlotRun): void {
    this.#committedEnd = Math.max(this.#committedEnd, run.first + run.count);
  }

  #takeHole(used: SparseBitSet): number {
    while (used.has(this.#holeCursor)) this.#holeCursor++;
    const slot = this.#holeCursor++;
    this.#holes--;
    if (this.#holes === 0) this.#used = null;
    return slot;
  }
}

/** Reads the whole map once, in pieces, before the first write: what is in use, and whether writing is safe. */
export async function scanMap(table: U32Table, slotsInFile: number): Promise<MapScan> {
  const used = new SparseBitSet();
  let end = 0;
  let obstacle: string | null = null;
  await table.scan((entry, index) => {
    if (entry >= ENTRY_ZERO || obstacle !== null) return;
    if (entry >= table.count || entry >= slotsInFile) {
      obstacle = `entry ${index} of its block map points beyond the ${entry >= slotsInFile ? 'file' : 'block count'}`;
    } else if (!used.add(entry)) {
      obstacle = `entry ${index} of its block map points at a block that another entry uses too`;
    }
    end = Math.max(end, entry + 1);
  });
  return { allocator: new SlotAllocator(used, end), obstacle };
}
