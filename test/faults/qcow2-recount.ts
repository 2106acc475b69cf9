/**
 * Errors in the counts and flags of a QCOW2 file, found by walking its bytes: an independent check of the image code,
 * which shares only the layout with it.
 */
import { HEADER, SNAPSHOT } from '../../src/formats/qcow2/layout.ts';

const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

/** Clusters by number. */
export interface Recount {
  /** Counted lower than they are referred to. */
  readonly low: string[];
  /** Flagged as their owner's alone, which they are not. */
  readonly unsafe: string[];
  /** Their owner's alone, but not flagged so: harmless for writing, an error for `qemu-img check`. */
  readonly unflagged: string[];
  /** Counted higher. */
  readonly leaks: number;
}

/** Goes through all of a file. */
export function recount(file: Uint8Array): Recount {
  const header = HEADER.decode(file.slice(0, HEADER.size));
  const size = 2 ** header.clusterBits;
  const padded = new Uint8Array(Math.ceil(file.length / size) * size + size);
  padded.set(file);
  const view = new DataView(padded.buffer);
  const v3 = header.version === 3;
  const order = v3 ? header.refcountOrder : 4;
  const entryBytes = v3 && (header.incompatible & 16n) !== 0n ? 16 : 8;
  const references = new Map<number, number>();
  const refer = (offset: number, bytes: number): void => {
    for (let at = offset - (offset % size); at < offset + bytes; at += size) {
      references.set(at / size, (references.get(at / size) ?? 0) + 1);
    }
  };
  const flags: { cluster: number; copied: boolean; what: string }[] = [];
  const walk = (l1Offset: number, entries: number, active: boolean): void => {
    refer(l1Offset, entries * 8);
    for (let index = 0; index < entries; index++) {
      const l1 = view.getBigUint64(l1Offset + index * 8);
      const table = Number(l1 & OFFSET);
      if (table === 0) continue;
      refer(table, size);
      if (active) flags.push({ cluster: table / size, copied: (l1 & COPIED) !== 0n, what: `L1 entry ${index}` });
      for (let at = table; at < table + size; at += entryBytes) {
        const entry = view.getBigUint64(at);
        if ((entry & COMPRESSED) !== 0n) {
          const bits = BigInt(62 - (header.clusterBits - 8));
          const start = Number(entry & ((1n << bits) - 1n));
          const sectors = Number((entry & (COMPRESSED - 1n)) >> bits) + 1;
          refer(start, start - (start % 512) + sectors * 512 - start);
        } else if ((entry & OFFSET) !== 0n) {
          refer(Number(entry & OFFSET), size);
          const what = `L2 entry at ${at}`;
          if (active) flags.push({ cluster: Number(entry & OFFSET) / size, copied: (entry & COPIED) !== 0n, what });
        }
      }
    }
  };
  refer(0, size);
  walk(header.l1Offset, header.l1Entries, true);
  let at = header.snapshotsOffset;
  for (let n = 0; n < header.snapshotCount; n++) {
    const entry = SNAPSHOT.decode(padded, at);
    walk(entry.l1Offset, entry.l1Entries, false);
    const end = at + SNAPSHOT.size + entry.extraLength + entry.idLength + entry.nameLength;
    at = Math.ceil(end / 8) * 8;
  }
  refer(header.snapshotsOffset, header.snapshotCount === 0 ? 0 : at - header.snapshotsOffset);
  referBitmaps(view, padded, { ...header, size, v3 }, refer);
  const tableBytes = header.refcountTableClusters * size;
  refer(header.refcountTableOffset, tableBytes);
  const blocks: number[] = [];
  for (let entry = 0; entry < tableBytes; entry += 8) {
    const block = Number(view.getBigUint64(header.refcountTableOffset + entry));
    blocks.push(block);
    if (block !== 0) refer(block, size);
  }
  const perBlock = (size * 8) / 2 ** order;
  const count = (cluster: number): number => {
    const block = blocks[Math.floor(cluster / perBlock)] ?? 0;
    if (block === 0 || block >= padded.length) return 0;
    const bit = (cluster % perBlock) * 2 ** order;
    let value = 0;
    if (order < 3) return ((padded[block + Math.floor(bit / 8)] ?? 0) >> (bit % 8)) & (2 ** (2 ** order) - 1);
    for (let n = 0; n < 2 ** order / 8; n++) value = value * 256 + (padded[block + bit / 8 + n] ?? 0);
    return value;
  };
  const low: string[] = [];
  for (const [cluster, wanted] of references) {
    if (count(cluster) < wanted) low.push(`cluster ${cluster} is counted ${count(cluster)} times instead of ${wanted}`);
  }
  let leaks = 0;
  for (let cluster = 0; cluster < blocks.length * perBlock; cluster++) {
    if (count(cluster) > (references.get(cluster) ?? 0)) leaks++;
    else if (blocks[Math.floor(cluster / perBlock)] === 0) cluster += perBlock - 1;
  }
  return {
    low,
    unsafe: flags
      .filter(({ cluster, copied }) => copied && references.get(cluster) !== 1)
      .map(({ cluster, what }) => `${what} says that cluster ${cluster} is its own`),
    unflagged: flags.filter(({ cluster, copied }) => !copied && count(cluster) === 1).map(({ what }) => what),
    leaks,
  };
}

/** The directory of bitmaps, their tables and their data, when a program that knows them wrote last. */
function referBitmaps(
  view: DataView,
  bytes: Uint8Array,
  header: { size: number; v3: boolean; headerLength: number; autoclear: bigint },
  refer: (offset: number, bytes: number) => void,
): void {
  if (!header.v3 || (header.autoclear & 1n) === 0n) return;
  for (let at = header.headerLength; at + 8 <= header.size; ) {
    const [type, length] = [view.getUint32(at), view.getUint32(at + 4)];
    if (type === 0) return;
    if (type === 0x2385_2875) {
      const count = view.getUint32(at + 8);
      const directory = Number(view.getBigUint64(at + 24));
      refer(directory, Number(view.getBigUint64(at + 16)));
      for (let n = 0, entry = directory; n < count; n++) {
        const table = Number(view.getBigUint64(entry));
        const entries = view.getUint32(entry + 8);
        refer(table, entries * 8);
        for (let index = 0; index < entries; index++) {
          const data = Number(view.getBigUint64(table + index * 8) & OFFSET);
          if (data !== 0) refer(data, header.size);
        }
        const [nameLength, extraLength] = [view.getUint16(entry + 18), view.getUint32(entry + 20)];
        entry += Math.ceil((24 + nameLength + extraLength) / 8) * 8;
      }
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  void bytes;
}
