/** Comparison of grains with the tables that name them, in constant room for each table. */
import { SECTOR } from '../../../binary/numbers.ts';
import { GTE_ABSENT, GTE_ZERO } from '../layout.ts';
import type { SparseLayout } from './header.ts';

/** Grains of a table: how many, and a sum over their places. One wrong place always changes it. */
export interface TableTally {
  readonly count: number;
  readonly sum: number;
}

/** Grains that a stored table names. */
export function tallyOf(bytes: Uint8Array, { tableEntries, zeroGrains }: SparseLayout): TableTally {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let [count, sum] = [0, 0];
  for (let index = 0; index < tableEntries; index++) {
    const sector = view.getUint32(index * 4, true);
    if (sector === GTE_ABSENT || (sector === GTE_ZERO && zeroGrains)) continue;
    count++;
    sum = (sum + mixed(index, sector)) | 0;
  }
  return { count, sum };
}

/** Grains that came, less those that tables name. */
export class GrainTally {
  readonly #tableEntries: number;
  readonly #counts: Int32Array;
  readonly #sums: Int32Array;

  constructor({ tableCount, tableEntries }: SparseLayout) {
    this.#tableEntries = tableEntries;
    this.#counts = new Int32Array(tableCount);
    this.#sums = new Int32Array(tableCount);
  }

  /** A grain came, with its marker at `fileOffset`. */
  add(grain: number, fileOffset: number): void {
    const table = Math.floor(grain / this.#tableEntries);
    this.#change(table, 1, mixed(grain % this.#tableEntries, fileOffset / SECTOR));
  }

  /** A table names these. */
  expect(table: number, { count, sum }: TableTally): void {
    this.#change(table, -count, -sum);
  }

  /** The first table that names other grains than those that came; `missing`: it names more. Null: there is none. */
  firstWrong(): { readonly table: number; readonly missing: boolean } | null {
    const wrong = (count: number, table: number): boolean => count !== 0 || this.#sums[table] !== 0;
    const table = this.#counts.findIndex(wrong);
    return table === -1 ? null : { table, missing: (this.#counts[table] ?? 0) < 0 };
  }

  #change(table: number, count: number, sum: number): void {
    this.#counts[table] = (this.#counts[table] ?? 0) + count;
    this.#sums[table] = ((this.#sums[table] ?? 0) + sum) | 0;
  }
}

/** A number that differs for each place of one entry. */
function mixed(index: number, sector: number): number {
  const spread = Math.imul(sector ^ Math.imul(index + 1, 0x9e37_79b1), 0x85eb_ca6b);
  return spread ^ (spread >>> 15);
}
