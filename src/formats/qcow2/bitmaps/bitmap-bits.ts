/**
 * Bits of a bitmap, one cluster of the file at a time: clusters of all zeroes or ones are never in memory, so memory
 * follows the stored bits, whatever the table claims.
 */
import { divCeil } from '../../../binary/numbers.ts';
import { setBits as setOrderedBits } from '../../../blocks/sector-bitmap.ts';
import { isZero } from '../../../codec/bytes.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import { offsetOf } from '../clusters/cluster-map.ts';
import { ENTRY_BYTES } from '../layout.ts';
import type { Bitmap } from './bitmaps.ts';

const ONES = 0xff;

/** A cluster of bits: all of one kind, or as bytes. */
export type Bits = 'zeroes' | 'ones' | Uint8Array;

/** The bits of a bitmap as the medium has them. */
export class StoredBits {
  readonly granularityBits: number;
  readonly #storage: Storage;
  readonly #table: DataView;
  readonly #clusterSize: number;
  #last: { readonly index: number; readonly bits: Bits } | null = null;

  /** `table`: its entries, checked. */
  constructor(storage: Storage, bitmap: Pick<Bitmap, 'granularityBits'>, table: DataView, clusterSize: number) {
    this.granularityBits = bitmap.granularityBits;
    this.#storage = storage;
    this.#table = table;
    this.#clusterSize = clusterSize;
  }

  get length(): number {
    return this.#table.byteLength / ENTRY_BYTES;
  }

  /** Those that entry `index` leads to. To read only. */
  async at(index: number): Promise<Bits> {
    if (index >= this.length) return 'zeroes';
    if (this.#last?.index === index) return this.#last.bits;
    const [high, low] = [this.#table.getUint32(index * ENTRY_BYTES), this.#table.getUint32(index * ENTRY_BYTES + 4)];
    const offset = offsetOf(high, low);
    if (offset === 0) return low % 2 === 1 ? 'ones' : 'zeroes';
    const bytes = new Uint8Array(this.#clusterSize);
    await readPadded(this.#storage, offset, bytes);
    const bits = kindOf(bytes);
    this.#last = { index, bits };
    return bits;
  }
}

/** The same bits in their shortest form. */
export function kindOf(bytes: Uint8Array): Bits {
  if (isZero(bytes)) return 'zeroes';
  return bytes[0] === ONES && bytes.every((byte) => byte === ONES) ? 'ones' : bytes;
}

/** Which bits are merged. */
export interface MergedPlace {
  readonly index: number;
  /** The bits so far. */
  readonly own: Bits;
  readonly clusterSize: number;
  /** Bytes of the disk. */
  readonly size: number;
}

/** The bits of cluster `index` of the target with the source's bits added, whatever their granularities. */
export async function mergedBits(
  target: StoredBits,
  source: StoredBits,
  { index, own, clusterSize, size }: MergedPlace,
): Promise<Bits> {
  if (own === 'ones') return own;
  const perCluster = clusterSize * 8;
  /** Bits of the target for one of the source. */
  const scale = 2 ** (source.granularityBits - target.granularityBits);
  const first = index * perCluster;
  const firstSource = Math.floor(first / scale);
  const wanted = Math.max(Math.ceil((first + perCluster) / scale), firstSource + 1);
  const endSource = Math.min(wanted, divCeil(size, 2 ** source.granularityBits));
  let made: Uint8Array | null = null;
  for (let at = firstSource; at < endSource; ) {
    const cluster = Math.floor(at / perCluster);
    const end = Math.min((cluster + 1) * perCluster, endSource);
    const bits = await source.at(cluster);
    if (bits !== 'zeroes') {
      made ??= own === 'zeroes' ? new Uint8Array(clusterSize) : own.slice();
      const put = { target: made, from: first, scale };
      if (bits === 'ones') putRun(put, at, end);
      else if (scale === 1) orInto(made, bits);
      else putBits(put, bits, { start: at, end, base: cluster * perCluster });
    }
    at = end;
  }
  return made === null ? own : kindOf(made);
}

interface Put {
  readonly target: Uint8Array;
  /** Number of its first bit. */
  readonly from: number;
  readonly scale: number;
}

function orInto(target: Uint8Array, bits: Uint8Array): void {
  for (let at = 0; at < target.length; at++) target[at] = (target[at] ?? 0) | (bits[at] ?? 0);
}

/** Bits `[start, end)` of the source, of which `base` is the first in `bits`. */
function putBits(put: Put, bits: Uint8Array, range: { start: number; end: number; base: number }): void {
  const { start, end, base } = range;
  for (let at = start; at < end; ) {
    const byte = bits[(at - base) >>> 3] ?? 0;
    if (byte === 0) {
      at += 8 - ((at - base) % 8);
      continue;
    }
    if (((byte >> ((at - base) % 8)) & 1) === 1) putRun(put, at, at + 1);
    at++;
  }
}

/** Sets the bits of the target covered by bits `[start, end)` of the source. */
function putRun({ target, from, scale }: Put, start: number, end: number): void {
  const first = Math.max(Math.floor(start * scale) - from, 0);
  const last = Math.min(Math.ceil(end * scale) - from, target.length * 8);
  setBits(target, first, last);
}

/** Sets the bits from `first` to `end`. */
export function setBits(bits: Uint8Array, first: number, end: number): void {
  setOrderedBits(bits, first, end, 'lowest-first');
}

/** Bits from `count` on are zero. */
export function cutBits(bits: Uint8Array, count: number): void {
  setOrderedBits(bits, count, bits.length * 8, 'lowest-first', false);
}
