/** Reference counts inside one refcount block (section "Host cluster management"), of any width from 1 to 64 bits. */
import { divCeil } from '../../../binary/numbers.ts';
import { assert, ImageError } from '../../../errors.ts';

/** Counts per block, which is one cluster. */
export function refcountsPerBlock(clusterSize: number, order: number): number {
  return (clusterSize * 8) / 2 ** order;
}

/** Blocks sufficient for a run of clusters including the blocks themselves, wherever it begins. */
export function blocksFor(clusters: number, perBlock: number): number {
  // A run of n clusters touches n / perBlock + 2 blocks at most; those of the blocks themselves come on top.
  return clusters === 0 ? 0 : divCeil(clusters, perBlock - 1) + 2;
}

/** Maximum count of that width. 64-bit counts are limited to 2^53 - 1. */
export function refcountMax(order: number): number {
  return order >= 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1;
}

/**
 * The count at `index`. Widths below a byte have the lowest index in the lowest bits of each byte; wider ones are
 * big-endian. A 64-bit count above 2^53 - 1 throws `corrupt`.
 */
export function getRefcount(block: DataView, index: number, order: number): number {
  switch (order) {
    case 3:
      return block.getUint8(index);
    case 4:
      return block.getUint16(index * 2);
    case 5:
      return block.getUint32(index * 4);
    case 6:
      return wide(block.getBigUint64(index * 8));
    default: {
      const width = 2 ** order;
      const bit = index * width;
      return (block.getUint8(Math.floor(bit / 8)) >>> (bit % 8)) & (2 ** width - 1);
    }
  }
}

/** Stores a count that fits the width; callers check that. */
export function setRefcount(block: DataView, index: number, order: number, count: number): void {
  assert(count >= 0 && count <= refcountMax(order), 'the count fits its width');
  if (order === 3) block.setUint8(index, count);
  else if (order === 4) block.setUint16(index * 2, count);
  else if (order === 5) block.setUint32(index * 4, count);
  else if (order === 6) block.setBigUint64(index * 8, BigInt(count));
  else {
    const width = 2 ** order;
    const at = Math.floor((index * width) / 8);
    const shift = (index * width) % 8;
    const mask = (2 ** width - 1) << shift;
    block.setUint8(at, (block.getUint8(at) & ~mask) | (count << shift));
  }
}

function wide(count: bigint): number {
  if (count <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(count);
  throw new ImageError('corrupt', 'A reference count is impossibly high', {
    found: count.toString(),
  });
}
