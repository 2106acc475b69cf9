/** Sizes of new images of two levels. */
import { divCeil } from '../binary/numbers.ts';
import type { Measure } from '../image/contract.ts';

/** Sizes of an image before the first cluster is stored, in bytes but for the entries of a table. */
export interface TwoLevelPlan {
  readonly virtualSize: number;
  readonly clusterSize: number;
  readonly tableBytes: number;
  readonly tableEntries: number;
  /** End of the empty file. */
  readonly fileEnd: number;
}

/** Size of an image with these data: every cluster with at least one byte, and the L2 tables that name them. */
export async function measureTwoLevel(
  { virtualSize, clusterSize, tableBytes, tableEntries, fileEnd }: TwoLevelPlan,
  data: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): Promise<Measure> {
  const total = divCeil(virtualSize, clusterSize);
  let [clusters, tables, counted, countedTables] = [0, 0, 0, 0];
  for await (const { offset, length } of data) {
    const end = Math.min(divCeil(offset + length, clusterSize), total);
    const first = Math.max(Math.floor(offset / clusterSize), counted);
    if (end <= first) continue;
    clusters += end - first;
    counted = end;
    const endTable = divCeil(end, tableEntries);
    tables += Math.max(endTable - Math.max(Math.floor(first / tableEntries), countedTables), 0);
    countedTables = endTable;
  }
  return {
    required: fileEnd + clusters * clusterSize + tables * tableBytes,
    fullyAllocated: fileEnd + total * clusterSize + divCeil(total, tableEntries) * tableBytes,
  };
}
