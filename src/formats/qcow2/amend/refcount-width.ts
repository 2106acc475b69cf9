/**
 * Refcounts of another width. All blocks and a table for them are written past everything counted, durable; then table,
 * length and width change in the header, in its first sector; then the old blocks and the old table are freed in the
 * new counts. A cut leaves either the old structure with some unreferenced bytes after it, or the new one with the old
 * one leaked.
 */

import { divCeil } from '../../../binary/numbers.ts';
import { assert, ImageError, throwIfAborted } from '../../../errors.ts';
import type { AmendOptions } from '../../../image/contract.ts';
import { LIMITS } from '../../../limits.ts';
import { Turns } from '../../../storage/turns.ts';
import type { RefcountStore } from '../clusters/refcount-store.ts';
import { refcountMax, refcountsPerBlock, setRefcount } from '../clusters/refcounts.ts';
import { type TableHost, withCount } from '../clusters/table-room.ts';
import { ENTRY_BYTES } from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';

/** Fields of the header that change at once. */
export interface RefcountFields {
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountOrder: number;
}

/** The image, as its counts see it. */
export interface WidthHost extends TableHost {
  /** Makes counts and all earlier writes durable. */
  flush(): Promise<void>;
  /** Changes the first sector, durably, and reloads the counts. */
  switchRefcounts(fields: RefcountFields): Promise<void>;
}

/** Position of the new structure, in clusters. */
interface Layout {
  /** Numbers of the blocks needed, ascending; they are stored consecutively from `first` on. */
  readonly blocks: readonly number[];
  readonly first: number;
  readonly tableFirst: number;
  readonly tableClusters: number;
}

/** Rejects a width too small for a stored count, or with too long a table. Touches nothing. */
export async function checkWidth(host: TableHost, order: number, turns: Turns): Promise<void> {
  const most = refcountMax(order);
  if (most < host.counts.most) {
    for await (const { first, length, count } of host.counts.pieces(turns)) {
      for (let n = 0; n < length; n++) if (count(n) > most) throw tooNarrow(host, order, first + n, count(n));
    }
  }
  await layOut(host, order, turns);
}

/** Changes the width to `2 ** order` bits. Everything must be flushed. */
export async function changeWidth(host: WidthHost, order: number, how: AmendOptions): Promise<void> {
  const turns = new Turns(how.signal, 'The change');
  const layout = await layOut(host, order, turns);
  await writeBlocks(host, order, { layout, how, turns });
  await writeTable(host, layout);
  await host.flush();
  const old = host.counts.ownClusters();
  const { clusterSize } = host.header;
  await host.switchRefcounts({
    refcountTableOffset: layout.tableFirst * clusterSize,
    refcountTableClusters: layout.tableClusters,
    refcountOrder: order,
  });
  for (const cluster of old) {
    await withCount(host.counts, cluster, () => host.counts.lower(cluster));
    if (host.counts.dirtyBytes >= LIMITS.dirtyMetadataBytes) await host.flush();
  }
  await host.flush();
}

function tooNarrow({ storage, header }: TableHost, order: number, cluster: number, count: number): ImageError {
  return new ImageError('limit', `A cluster has more references than refcounts of ${2 ** order} bits can count`, {
    path: storage.label,
    offset: cluster * header.clusterSize,
    field: 'refcount_bits',
    found: `${count} references`,
    expected: `at most ${refcountMax(order)}`,
    hint: 'Choose wider refcounts, or delete snapshots.',
  });
}

/** Blocks for everything counted, and for themselves and their table. */
async function layOut({ counts, header, storage }: TableHost, order: number, turns: Turns): Promise<Layout> {
  const { clusterSize } = header;
  const perBlock = refcountsPerBlock(clusterSize, order);
  const { needed, end } = await neededBlocks(counts, perBlock, turns);
  const first = Math.max(end, divCeil(storage.size, clusterSize));
  let [count, tableClusters] = [needed.size, 1];
  for (;;) {
    const last = Math.floor((first + count + tableClusters - 1) / perBlock);
    const blocks = new Set(needed);
    for (let block = Math.floor(first / perBlock); block <= last; block++) blocks.add(block);
    const clusters = divCeil((last + 1) * ENTRY_BYTES, clusterSize);
    if (clusters * clusterSize > QCOW2_LIMITS.refcountTableBytes) throw tableTooLong(storage.label, clusters, header);
    if (blocks.size === count && clusters === tableClusters) {
      const sorted = [...blocks].sort((a, b) => a - b);
      return { blocks: sorted, first, tableFirst: first + count, tableClusters };
    }
    // Neither ever gets smaller, so this ends.
    [count, tableClusters] = [blocks.size, clusters];
  }
}

function tableTooLong(path: string, clusters: number, { clusterSize }: TableHost['header']): ImageError {
  return new ImageError('limit', 'Refcounts of this width would exceed the size limit of the refcount table', {
    path,
    field: 'refcount_bits',
    found: `${clusters * clusterSize} bytes`,
    expected: `at most ${QCOW2_LIMITS.refcountTableBytes} bytes`,
    hint: 'Choose narrower refcounts, or convert the image to one with larger clusters.',
  });
}

async function neededBlocks(
  counts: RefcountStore,
  perBlock: number,
  turns: Turns,
): Promise<{ readonly needed: ReadonlySet<number>; readonly end: number }> {
  const needed = new Set<number>();
  let end = 0;
  for await (const { first, length, count } of counts.pieces(turns)) {
    for (let n = 0; n < length; n++) {
      if (count(n) === 0) continue;
      end = first + n + 1;
      needed.add(Math.floor((first + n) / perBlock));
    }
  }
  return { needed, end };
}

/** The same counts in the other width. The new structure now counts as referenced, too. */
async function writeBlocks(
  host: TableHost,
  order: number,
  { layout, how, turns }: { readonly layout: Layout; readonly how: AmendOptions; readonly turns: Turns },
): Promise<void> {
  const { counts, header, storage } = host;
  const { clusterSize } = header;
  const perBlock = refcountsPerBlock(clusterSize, order);
  const bytes = new Uint8Array(clusterSize);
  const view = new DataView(bytes.buffer);
  const total = layout.first * clusterSize;
  let done = 0;
  const store = async (): Promise<void> => {
    throwIfAborted(how.signal, 'The change');
    await storage.write((layout.first + done) * clusterSize, bytes.slice());
    bytes.fill(0);
    done++;
  };
  const put = async (cluster: number, count: number): Promise<void> => {
    while (layout.blocks[done] !== Math.floor(cluster / perBlock)) {
      assert(done < layout.blocks.length, 'there is a block for all that is counted');
      await store();
    }
    setRefcount(view, cluster % perBlock, order, count);
  };
  for await (const { first, length, count } of counts.pieces(turns)) {
    for (let n = 0; n < length; n++) {
      const found = count(n);
      if (found === 0) continue;
      if (layout.blocks[done] !== Math.floor((first + n) / perBlock)) await put(first + n, found);
      else setRefcount(view, (first + n) % perBlock, order, found);
    }
    how.onProgress?.({ operation: 'amend', done: Math.min((first + length) * clusterSize, total), total });
  }
  for (let cluster = layout.first; cluster < layout.tableFirst + layout.tableClusters; cluster++) {
    await put(cluster, 1);
  }
  while (done < layout.blocks.length) await store();
}

async function writeTable({ header, storage }: TableHost, layout: Layout): Promise<void> {
  const { clusterSize } = header;
  const bytes = new Uint8Array(layout.tableClusters * clusterSize);
  const view = new DataView(bytes.buffer);
  for (const [index, block] of layout.blocks.entries()) {
    view.setBigUint64(block * ENTRY_BYTES, BigInt((layout.first + index) * clusterSize));
  }
  await storage.write(layout.tableFirst * clusterSize, bytes);
}
