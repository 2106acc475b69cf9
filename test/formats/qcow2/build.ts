/**
 * QCOW2 images put together by hand, as QEMU would write them, with every kind of cluster in any place. For suites that
 * need images without QEMU being there; a peer test has QEMU check them.
 */
import { deflateRawSync } from 'node:zlib';
import { alignUp, divCeil } from '../../../src/binary/numbers.ts';
import { serializeBitmaps } from '../../../src/formats/qcow2/bitmaps/bitmaps.ts';
import { refcountsPerBlock, setRefcount } from '../../../src/formats/qcow2/clusters/refcounts.ts';
import { type Extension, encodeExtensions } from '../../../src/formats/qcow2/header/extensions.ts';
import {
  BITMAPS,
  COMPRESSION,
  compressedOffsetBits,
  EXTENSION_TYPE,
  HEADER,
  INCOMPATIBLE,
  MAGIC,
} from '../../../src/formats/qcow2/layout.ts';
import { serializeSnapshots } from '../../../src/formats/qcow2/snapshots/snapshots.ts';

/** Kind of a guest cluster. Bytes are a whole cluster. */
export type Cluster =
  | { readonly kind: 'data' | 'compressed'; readonly bytes: Uint8Array }
  | { readonly kind: 'zero' }
  /** Zero with allocated space, which holds these bytes. */
  | { readonly kind: 'zero-allocated'; readonly bytes: Uint8Array }
  /** Only with subclusters: bit masks of those that are data, and zero. */
  | { readonly kind: 'parts'; readonly bytes: Uint8Array; readonly data: number; readonly zero: number };

/** Parts of an image. */
export interface Recipe {
  readonly version?: 2 | 3;
  readonly clusterBits: number;
  readonly size: number;
  readonly clusters: ReadonlyMap<number, Cluster>;
  readonly extendedL2?: boolean;
  readonly compression?: 'zlib' | 'zstd';
  readonly backing?: { readonly name: string; readonly format: string | null };
  readonly dataFile?: string;
  readonly snapshots?: readonly { readonly name: string; readonly clusters: ReadonlyMap<number, Cluster> }[];
  readonly bitmaps?: readonly string[];
  readonly extensions?: readonly Extension[];
}

/** A made image, and where its parts lie. */
export interface Built {
  readonly bytes: Uint8Array;
  readonly l1: { readonly offset: number; readonly entries: number };
  readonly l2: readonly { readonly offset: number; readonly firstCluster: number }[];
  /** Bytes of the file that hold clusters of the disk as it is now. */
  readonly stored: readonly { readonly cluster: number; readonly start: number; readonly end: number }[];
  readonly entryBytes: 8 | 16;
  readonly l2Entries: number;
  readonly snapshotsOffset: number;
  readonly bitmapsOffset: number;
  /** Of images with an external data file: its bytes. */
  readonly data: Uint8Array;
}

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const REFCOUNT_ORDER = 4;

/** Makes the image. */
export function buildQcow2(recipe: Recipe): Built {
  return new Builder(recipe).build();
}

/** A Zstandard frame of stored blocks: Node 20 has no encoder. */
export function zstdStored(bytes: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58)];
  for (let at = 0; at < bytes.length; at += 65_536) {
    const block = bytes.subarray(at, at + 65_536);
    const word = block.length * 8 + (at + block.length === bytes.length ? 1 : 0);
    parts.push(Uint8Array.of(word & 0xff, (word >>> 8) & 0xff, word >>> 16), block);
  }
  return Uint8Array.from(Buffer.concat(parts));
}

class Builder {
  readonly #recipe: Recipe;
  readonly #cluster: number;
  readonly #entryBytes: 8 | 16;
  #bytes = new Uint8Array(0);
  /** References of each cluster of the file. */
  readonly #counts: number[] = [];
  /** End of the last stream, inside a cluster that has room left. */
  #streamEnd = 0;
  readonly #data: Uint8Array;
  readonly #stored: { cluster: number; start: number; end: number }[] = [];

  constructor(recipe: Recipe) {
    this.#recipe = recipe;
    this.#cluster = 2 ** recipe.clusterBits;
    this.#entryBytes = recipe.extendedL2 === true ? 16 : 8;
    this.#data = new Uint8Array(recipe.dataFile === undefined ? 0 : recipe.size);
  }

  build(): Built {
    const { size, clusters, snapshots = [], bitmaps = [] } = this.#recipe;
    const l2Entries = this.#cluster / this.#entryBytes;
    const l1Entries = divCeil(size, this.#cluster * l2Entries);
    this.#take(3);
    const l1 = this.#take(divCeil(l1Entries * 8, this.#cluster));
    const l2 = this.#tables(l1, l1Entries, clusters, true);
    const stored = [...this.#stored];
    const kept = snapshots.map(({ name, clusters: then }, index) => {
      const l1Offset = this.#take(divCeil(l1Entries * 8, this.#cluster));
      this.#tables(l1Offset, l1Entries, then, true);
      const extra = new Uint8Array(16);
      const times = { seconds: 1_700_000_000 + index, nanoseconds: 0, guestNanoseconds: 0n };
      return { id: String(index + 1), name, l1Offset, l1Entries, diskSize: size, vmStateSize: 0, extra, ...times };
    });
    const snapshotsOffset = kept.length === 0 ? 0 : this.#store(serializeSnapshots(kept));
    const directory = bitmaps.map((name) => {
      const tableOffset = this.#take(1);
      return { name, granularityBits: 16, flags: 2, tableOffset, tableEntries: 1, extra: new Uint8Array(0) };
    });
    const directoryBytes = serializeBitmaps(directory);
    const bitmapsOffset = directory.length === 0 ? 0 : this.#store(directoryBytes);
    this.#header(l1, l1Entries, { snapshotsOffset, bitmapsOffset, directoryBytes: directoryBytes.length });
    this.#refcounts();
    const entryBytes = this.#entryBytes;
    const places = {
      l1: { offset: l1, entries: l1Entries },
      l2,
      stored,
      entryBytes,
      l2Entries,
      snapshotsOffset,
      bitmapsOffset,
    };
    return { bytes: this.#bytes, ...places, data: this.#data };
  }

  /** Whole clusters at the end of the file, each used once. */
  #take(count: number): number {
    const offset = this.#bytes.length;
    const grown = new Uint8Array(offset + count * this.#cluster);
    grown.set(this.#bytes);
    this.#bytes = grown;
    for (let index = 0; index < count; index++) this.#counts[offset / this.#cluster + index] = 1;
    return offset;
  }

  #store(bytes: Uint8Array): number {
    const offset = this.#take(divCeil(bytes.length, this.#cluster));
    this.#bytes.set(bytes, offset);
    return offset;
  }

  #put(offset: number, value: bigint): void {
    new DataView(this.#bytes.buffer).setBigUint64(offset, value);
  }

  #tables(l1: number, l1Entries: number, clusters: ReadonlyMap<number, Cluster>, copied: boolean): Built['l2'] {
    const flag = copied ? COPIED : 0n;
    const entries = this.#cluster / this.#entryBytes;
    const tables: { offset: number; firstCluster: number }[] = [];
    for (let index = 0; index < l1Entries; index++) {
      const firstCluster = index * entries;
      const mine = [...clusters].filter(([number]) => number >= firstCluster && number < firstCluster + entries);
      if (mine.length === 0) continue;
      const offset = this.#take(1);
      tables.push({ offset, firstCluster });
      this.#put(l1 + index * 8, BigInt(offset) | flag);
      for (const [number, cluster] of mine) {
        this.#entry(offset + (number - firstCluster) * this.#entryBytes, number, cluster, flag);
      }
    }
    return tables;
  }

  #entry(at: number, number: number, cluster: Cluster, flag: bigint): void {
    if (cluster.kind === 'compressed') {
      this.#put(at, this.#compressed(number, cluster.bytes));
      return;
    }
    const extended = this.#entryBytes === 16;
    if (cluster.kind === 'zero') {
      this.#put(at, extended ? 0n : 1n);
      if (extended) this.#put(at + 8, 0xffff_ffffn << 32n);
      return;
    }
    const place = BigInt(this.#place(number, cluster.bytes)) | flag;
    if (cluster.kind === 'zero-allocated') this.#put(at, extended ? place : place | 1n);
    else this.#put(at, place);
    if (!extended) return;
    const all = 0xffff_ffff;
    const data = cluster.kind === 'parts' ? cluster.data : cluster.kind === 'data' ? all : 0;
    const zero = cluster.kind === 'parts' ? cluster.zero : cluster.kind === 'data' ? 0 : all;
    this.#put(at + 8, (BigInt(zero) << 32n) | BigInt(data));
  }

  #place(number: number, bytes: Uint8Array): number {
    if (this.#recipe.dataFile === undefined) {
      const start = this.#store(bytes);
      this.#stored.push({ cluster: number, start, end: start + this.#cluster });
      return start;
    }
    const offset = number * this.#cluster;
    this.#data.set(bytes.subarray(0, this.#data.length - offset), offset);
    return offset;
  }

  /** Streams follow each other to the byte, over the edges of clusters. */
  #compressed(number: number, bytes: Uint8Array): bigint {
    const zstd = this.#recipe.compression === 'zstd';
    const stream = zstd ? zstdStored(bytes) : deflateRawSync(bytes, { windowBits: 12 });
    const fresh = this.#streamEnd === 0 || alignUp(this.#streamEnd, this.#cluster) !== this.#bytes.length;
    const offset = fresh ? this.#take(1) : this.#streamEnd;
    const end = offset + stream.length;
    if (end > this.#bytes.length) {
      const before = this.#bytes.length / this.#cluster;
      this.#take(divCeil(end - this.#bytes.length, this.#cluster));
      this.#counts.fill(0, before);
    }
    if (fresh) this.#counts[offset / this.#cluster] = 0;
    this.#bytes.set(stream, offset);
    for (let at = Math.floor(offset / this.#cluster); at * this.#cluster < end; at++) {
      this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    }
    this.#streamEnd = end;
    this.#stored.push({ cluster: number, start: offset, end });
    const sectors = Math.floor((end - 1) / 512) - Math.floor(offset / 512);
    const shift = BigInt(compressedOffsetBits(this.#recipe.clusterBits));
    return COMPRESSED | (BigInt(sectors) << shift) | BigInt(offset);
  }

  #header(
    l1Offset: number,
    l1Entries: number,
    places: { readonly snapshotsOffset: number; readonly bitmapsOffset: number; readonly directoryBytes: number },
  ): void {
    const { version = 3, clusterBits, size, compression = 'zlib', backing, dataFile, snapshots = [] } = this.#recipe;
    const headerLength = version === 2 ? 72 : 112;
    const extensions = encodeExtensions(this.#extensions(places));
    const name = new TextEncoder().encode(backing?.name ?? '');
    const features = [
      dataFile === undefined ? 0n : INCOMPATIBLE.dataFile,
      compression === 'zlib' ? 0n : INCOMPATIBLE.compression,
      this.#recipe.extendedL2 === true ? INCOMPATIBLE.extendedL2 : 0n,
    ];
    const values = {
      ...{ magic: MAGIC, version, clusterBits, size, cryptMethod: 0, l1Entries, l1Offset },
      backingOffset: backing === undefined ? 0 : headerLength + extensions.length,
      backingLength: name.length,
      ...{ refcountTableOffset: this.#cluster, refcountTableClusters: 1 },
      ...{ snapshotCount: snapshots.length, snapshotsOffset: places.snapshotsOffset },
      incompatible: features.reduce((all, bit) => all | bit, 0n),
      ...{ compatible: 0n, autoclear: places.bitmapsOffset === 0 ? 0n : 1n },
      ...{ refcountOrder: REFCOUNT_ORDER, headerLength, compressionType: COMPRESSION[compression] },
      padding: new Uint8Array(7),
    };
    this.#bytes.set(HEADER.encode(values).subarray(0, headerLength));
    this.#bytes.set(extensions, headerLength);
    this.#bytes.set(name, headerLength + extensions.length);
  }

  #extensions(places: { readonly bitmapsOffset: number; readonly directoryBytes: number }): Extension[] {
    const { backing, dataFile, bitmaps = [], extensions = [] } = this.#recipe;
    const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
    const all = [...extensions];
    const format = backing?.format ?? null;
    if (format !== null) all.push({ type: EXTENSION_TYPE.backingFormat, data: encode(format) });
    if (dataFile !== undefined) all.push({ type: EXTENSION_TYPE.dataFile, data: encode(dataFile) });
    if (bitmaps.length > 0) {
      const { bitmapsOffset: directoryOffset, directoryBytes } = places;
      const data = BITMAPS.encode({ count: bitmaps.length, reserved: 0, directoryBytes, directoryOffset });
      all.push({ type: EXTENSION_TYPE.bitmaps, data });
    }
    return all;
  }

  /** One block is enough for what is made here. */
  #refcounts(): void {
    const count = refcountsPerBlock(this.#cluster, REFCOUNT_ORDER);
    if (this.#counts.length > count) throw new Error('the image is too large for one refcount block');
    this.#put(this.#cluster, BigInt(2 * this.#cluster));
    const block = new DataView(this.#bytes.buffer, 2 * this.#cluster, this.#cluster);
    for (const [index, references] of this.#counts.entries()) setRefcount(block, index, REFCOUNT_ORDER, references);
  }
}
