/** The COPIED flags on the medium, set from the counts. For operations that change the counts of whole trees. */
import { SECTOR } from '../../../binary/numbers.ts';
import { isPromise, type MaybePromise } from '../../../storage/contract.ts';
import type { Turns } from '../../../storage/turns.ts';
import { COMPRESSED_HIGH, COPIED_HIGH, ENTRY_BYTES } from '../layout.ts';
import { offsetOf } from './cluster-map.ts';
import { l2EntryBytes, l2Tables, type TreeFile } from './tree.ts';

/**
 * Sets the flags according to `isCopied`, durably: in the L2 tables of the L1 table, and in the L1 table itself if its
 * position is given. Only changed sectors are written.
 */
export async function writeFlags(
  file: TreeFile,
  l1Offset: number | null,
  l1: DataView,
  { isCopied, turns }: { readonly isCopied: (cluster: number) => MaybePromise<boolean>; readonly turns: Turns },
): Promise<void> {
  const { storage, header } = file;
  let written = false;
  const put = async (offset: number, view: DataView, changed: ReadonlySet<number>): Promise<void> => {
    for (const sector of changed) {
      const start = sector * SECTOR;
      const length = Math.min(SECTOR, view.byteLength - start);
      await storage.write(offset + start, new Uint8Array(view.buffer, start, length).slice());
      written = true;
    }
  };
  const inL1 = new Set<number>();
  for await (const { index, offset, view } of l2Tables(file, l1, turns)) {
    const answer = isCopied(offset / header.clusterSize);
    const own = isPromise(answer) ? await answer : answer;
    setFlag(l1, index * ENTRY_BYTES, own, inL1);
    const inL2 = new Set<number>();
    for (let at = 0; at < view.byteLength; at += l2EntryBytes(header)) {
      const host = placeIn(view, at);
      if (host === 0) continue;
      const single = own && isCopied(host / header.clusterSize);
      setFlag(view, at, isPromise(single) ? await single : single, inL2);
    }
    await put(offset, view, inL2);
  }
  if (l1Offset !== null) await put(l1Offset, l1, inL1);
  if (written) await storage.flush();
}

/** Sets one flag, and records the sector if it has changed. */
export function setFlag(view: DataView, at: number, copied: boolean, changed: Set<number>): void {
  const high = view.getUint32(at);
  const wanted = (copied ? high | COPIED_HIGH : high & ~COPIED_HIGH) >>> 0;
  if (wanted === high) return;
  view.setUint32(at, wanted);
  changed.add(Math.floor(at / SECTOR));
}

/** Position of an uncompressed cluster; 0 for none. */
function placeIn(view: DataView, at: number): number {
  const high = view.getUint32(at);
  return (high & COMPRESSED_HIGH) !== 0 ? 0 : offsetOf(high, view.getUint32(at + 4));
}
