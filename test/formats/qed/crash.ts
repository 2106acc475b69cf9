/** QED through power cuts. */
import { HEADER } from '../../../src/formats/qed/layout.ts';
import type { CrashKit } from '../crash-kit.ts';
import { hasHeader, type TablesOf, twoLevelCrash } from '../two-level-crash.ts';

function tables(bytes: Uint8Array): TablesOf | null {
  if (!hasHeader(bytes)) return null;
  const { clusterSize, tableSize, headerSize, l1Offset } = HEADER.decode(bytes);
  const tableBytes = clusterSize * tableSize;
  return {
    clusterSize,
    tableBytes,
    headerEnd: headerSize * clusterSize,
    l1: { offset: Number(l1Offset), entries: tableBytes / 8 },
    numberAt: (view, at) => view.getBigUint64(at, true),
    clusterOf: (entry) => (entry > 1n ? Number(entry) : null),
  };
}

export const makeCrash = (): CrashKit => twoLevelCrash({ format: 'qed', tables });
