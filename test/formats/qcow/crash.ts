/** QCOW version 1 through power cuts. */
import { HEADER } from '../../../src/formats/qcow/layout.ts';
import type { CrashKit } from '../crash-kit.ts';
import { hasHeader, type TablesOf, twoLevelCrash } from '../two-level-crash.ts';

const COMPRESSED = 1n << 63n;

function tables(bytes: Uint8Array): TablesOf | null {
  if (!hasHeader(bytes)) return null;
  const { clusterBits, l2Bits, size, l1Offset } = HEADER.decode(bytes);
  return {
    clusterSize: 2 ** clusterBits,
    tableBytes: 8 * 2 ** l2Bits,
    headerEnd: HEADER.size,
    l1: { offset: Number(l1Offset), entries: Math.ceil(Number(size) / 2 ** (clusterBits + l2Bits)) },
    numberAt: (view, at) => view.getBigUint64(at),
    clusterOf: (entry) => (entry === 0n || (entry & COMPRESSED) !== 0n ? null : Number(entry)),
  };
}

export const makeCrash = (): CrashKit => twoLevelCrash({ format: 'qcow', tables });
