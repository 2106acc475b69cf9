/** One L2 table: the references of its entries, and their errors. The hot loop of a check. */
import { divCeil } from '../../../binary/numbers.ts';
import { hex } from '../../../errors.ts';
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  compressedOffsetBits,
  ENTRY_BYTES,
  EXTENDED_ENTRY_BYTES,
  INCOMPATIBLE,
  OFFSET_HIGH,
  OFFSET_LOW,
  SUBCLUSTERS,
  VERSION_2,
  ZERO_LOW,
} from '../layout.ts';
import { PAGE_COUNTS } from './paged-counts.ts';
import type { Recount, RecountParts } from './recount.ts';

const HIGH = 2 ** 32;
const SECTOR = 512;
/** Reserved bits of a plain entry, except the zero flag. */
const L2_RESERVED_HIGH = 0x3f00_0000;
const L2_RESERVED_LOW = 0x0000_01fe;

/** Bits of an ordinary entry for a cluster used once. */
const USUAL_HIGH = (COPIED_HIGH | COMPRESSED_HIGH | L2_RESERVED_HIGH) >> 0;
const USUAL_COPIED = COPIED_HIGH >> 0;
const USUAL_LOW = L2_RESERVED_LOW | ZERO_LOW;
const NO_PAGE = new Uint8Array(0);

/** Repair of an entry. */
export const MEND = { none: 0, zero: 1, plain: 2 } as const;
export type Mend = (typeof MEND)[keyof typeof MEND];

/** Rules for entries; the same for all tables of an image. */
export interface EntryRules {
  readonly clusterSize: number;
  readonly extended: boolean;
  readonly entryBytes: number;
  /** End of the file: no cluster can begin here or later. */
  readonly fileEnd: number;
}

/** Rules for an image. */
export function entryRules({ storage, header }: Pick<RecountParts, 'storage' | 'header'>): EntryRules {
  const { extendedL2: extended, clusterSize } = header;
  const entryBytes = extended ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES;
  return { clusterSize, extended, entryBytes, fileEnd: storage.size };
}

/** Host offset in bits 9 to 55. */
export function hostOffset(high: number, low: number): number {
  return (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
}

/**
 * Repairs of an entry that do not change the data read: misaligned space of a zero cluster is dropped (`zero`), and a
 * compressed entry loses invalid flags (`plain`).
 */
export function mendOf(view: DataView, at: number, rules: EntryRules): Mend {
  const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
  if ((high & COMPRESSED_HIGH) !== 0) {
    const marked = rules.extended && (view.getUint32(at + 8) !== 0 || view.getUint32(at + 12) !== 0);
    return (high & COPIED_HIGH) !== 0 || marked ? MEND.plain : MEND.none;
  }
  const place = hostOffset(high, low);
  if (place % rules.clusterSize === 0) return MEND.none;
  // Nothing in such an entry can be believed.
  if (place >= rules.fileEnd || (high & L2_RESERVED_HIGH) !== 0 || (low & L2_RESERVED_LOW) !== 0) return MEND.none;
  const holdsData = rules.extended ? view.getUint32(at + 12) !== 0 : (low & ZERO_LOW) === 0;
  return holdsData ? MEND.none : MEND.zero;
}

/** Scanner for L2 tables; see `scan`. */
export class L2Scanner {
  readonly #recount: Recount;
  readonly #parts: RecountParts;
  readonly #rules: EntryRules;
  /** Number of clusters wholly inside the file; 0 with an external data file. */
  readonly #endCluster: number;
  readonly #clusterSize: number;
  readonly #hasDataFile: boolean;
  readonly #offsetBits: number;
  #place = 0;
  #guest = 0;
  #active = 0;
  #uses = 0;

  constructor(recount: Recount, parts: RecountParts) {
    this.#recount = recount;
    this.#parts = parts;
    this.#rules = entryRules(parts);
    this.#clusterSize = parts.header.clusterSize;
    this.#hasDataFile = (parts.header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
    this.#endCluster = this.#hasDataFile ? 0 : Math.floor(parts.storage.size / parts.header.clusterSize);
    this.#offsetBits = compressedOffsetBits(parts.header.clusterBits) - 32;
  }

  /**
   * Counts a table `uses` times. `active`: one more than the first entry of the active L1 that refers to it; otherwise
   * 0.
   */
  scan(view: DataView, cluster: number, uses: number, active: number): void {
    const { entryBytes, extended } = this.#rules;
    const clusterSize = this.#clusterSize;
    const endCluster = this.#endCluster;
    const { counts } = this.#recount;
    const stored = this.#parts.stored.counts;
    const first = (active - 1) * this.#parts.header.l2Entries;
    this.#uses = uses;
    this.#active = active;
    if (this.#endsInside(cluster)) this.#tableCutOff(cluster, first);
    // Most entries are sound and have a neighbour in the file: their counts are in the same page as the last ones.
    let key = -1;
    let page: Uint8Array | Uint16Array | Uint32Array = NO_PAGE;
    let storedPage: ArrayLike<number> = NO_PAGE;
    const length = view.byteLength;
    for (let at = 0; at < length; at += entryBytes) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if (high === 0 && low === 0 && (!extended || view.getUint32(at + 12) === 0)) continue;
      if ((high & USUAL_HIGH) === USUAL_COPIED && (low & USUAL_LOW) === 0 && !extended) {
        const host = ((high & OFFSET_HIGH) * HIGH + low) / clusterSize;
        const hostKey = Math.floor(host / PAGE_COUNTS);
        if (host < endCluster && host > 0 && host === Math.floor(host)) {
          if (hostKey !== key) {
            key = hostKey;
            page = counts.pageToAdd(key);
            storedPage = stored.page(key) ?? NO_PAGE;
          }
          const index = host - key * PAGE_COUNTS;
          const sum = (page[index] ?? 0) + uses;
          if (sum <= 0xff && (active === 0 || storedPage[index] === 1)) {
            page[index] = sum;
            continue;
          }
        }
      }
      this.#place = cluster * clusterSize + at;
      this.#guest = first + at / entryBytes;
      if ((high & COMPRESSED_HIGH) !== 0) this.#compressed(view, at, high, low);
      else this.#plain(view, at, high, low);
      // Counting may have replaced the page by a wider one.
      key = -1;
    }
  }

  /** True for a table whose end the file does not have. */
  #endsInside(cluster: number): boolean {
    const { size } = this.#parts.storage;
    return cluster * this.#clusterSize < size && size < (cluster + 1) * this.#clusterSize;
  }

  /** Entries that the disk does not need are none: the file may grow over them. Nothing else is known of a snapshot. */
  #tableCutOff(cluster: number, first: number): void {
    const { storage, header, list } = this.#parts;
    const table = cluster * this.#clusterSize;
    const kept = Math.floor((storage.size - table) / this.#rules.entryBytes);
    const guestOffset = (first + kept) * this.#clusterSize;
    const unneeded = this.#active !== 0 && this.#uses === 1 && guestOffset >= header.virtualSize;
    const say = (): string =>
      unneeded
        ? `The file ends inside the L2 table at ${hex(table)}, behind the entries that the disk needs.`
        : `The file ends inside the L2 table at ${hex(table)}: what its other entries led to cannot be read.`;
    list.add('corruption', 'l2-cut-off', say, {
      fileOffset: table,
      guestOffset: unneeded || this.#active === 0 ? null : guestOffset,
      repairable: unneeded,
    });
  }

  #compressed(view: DataView, at: number, high: number, low: number): void {
    if (this.#hasDataFile) {
      this.#tell('data-file-compressed', 'is compressed, in an image with an external data file', false);
      return;
    }
    if (mendOf(view, at, this.#rules) !== MEND.none) {
      this.#tell('compressed-mark', 'is compressed but has flags of uncompressed clusters');
    }
    const width = 2 ** this.#offsetBits;
    const offset = (high % width) * HIGH + low;
    const sectors = (high >>> this.#offsetBits) & (this.#clusterSize / 256 - 1);
    const length = (sectors + 1) * SECTOR - (offset % SECTOR);
    const { size } = this.#parts.storage;
    if (!this.#recount.refer(offset, length, this.#uses) || offset >= size) this.#beyond(offset);
    else if (offset + length > size) this.#recount.cutStreams.add({ offset, length, ...this.#where });
  }

  #plain(view: DataView, at: number, high: number, low: number): void {
    const { extended } = this.#rules;
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & L2_RESERVED_LOW) !== 0) {
      this.#tell('l2-reserved', 'has reserved bits', false);
    }
    const zero = !extended && (low & ZERO_LOW) !== 0;
    if (zero && this.#parts.header.version === VERSION_2) {
      this.#tell('zero-flag', 'has the zero flag, which version 2 does not define', false);
    }
    const offset = hostOffset(high, low);
    const placed = offset !== 0 || (this.#hasDataFile && !zero && (high & COPIED_HIGH) !== 0);
    if (extended) this.#subclusters(view.getUint32(at + 8), view.getUint32(at + 12), placed);
    if (!placed) return;
    if (offset % this.#clusterSize !== 0) {
      if (mendOf(view, at, this.#rules) === MEND.zero) {
        this.#tell('zero-unaligned', `has room at ${hex(offset)}, where no cluster begins`);
      } else {
        this.#tell('data-unaligned', `leads to ${hex(offset)}, where no cluster begins`, false);
      }
    }
    this.#placed(offset, (high & COPIED_HIGH) !== 0);
    const data = extended ? view.getUint32(at + 12) : zero ? 0 : 1;
    if (data !== 0 && !this.#hasDataFile) this.#cutOff(offset, data);
  }

  /**
   * The last cluster may extend past the end of the file. Its missing part reads as zero, but no whole subcluster may
   * be missing.
   */
  #cutOff(offset: number, dataBits: number): void {
    const inside = this.#parts.storage.size - offset;
    if (inside <= 0 || inside >= this.#clusterSize) return;
    const unit = this.#rules.extended ? this.#clusterSize / SUBCLUSTERS : this.#clusterSize;
    const missing = divCeil(inside, unit);
    if (missing < SUBCLUSTERS && this.#rules.extended && dataBits >>> missing !== 0) {
      this.#tell(
        'beyond-file',
        `leads to subclusters beyond the end of the file, at ${hex(offset + missing * unit)}`,
        false,
      );
      return;
    }
    const guestOffset = this.#guestOffset;
    const isData = !this.#rules.extended || ((dataBits >>> (missing - 1)) & 1) === 1;
    if (guestOffset === null || !isData) return;
    const lost = Math.min(missing * unit, this.#parts.header.virtualSize - guestOffset) - inside;
    if (lost <= 0) return;
    const say = (): string => `The file ends inside a cluster of the disk: its last ${lost} bytes read zero.`;
    this.#parts.list.add('warning', 'cluster-cut-off', say, { fileOffset: offset, guestOffset, repairable: false });
  }

  #placed(offset: number, copied: boolean): void {
    const { stored } = this.#parts;
    if (this.#hasDataFile) {
      if (this.#active !== 0 && offset % this.#clusterSize === 0 && offset !== this.#guest * this.#clusterSize) {
        this.#tell('data-file-place', `points to ${hex(offset)} of the data file instead of its guest offset`, false);
      }
    } else if (!this.#recount.refer(offset, this.#clusterSize, this.#uses)) {
      this.#beyond(offset);
    }
    if (this.#active === 0) return;
    const count = this.#hasDataFile ? 1 : stored.counts.get(Math.floor(offset / this.#clusterSize));
    if ((count === 1) === copied) return;
    this.#recount.checkCopied(count, copied, 'L2', this.#where);
  }

  #subclusters(zeroBits: number, dataBits: number, placed: boolean): void {
    if ((zeroBits & dataBits) !== 0) this.#tell('subclusters', 'marks a subcluster as both data and zero', false);
    else if (!placed && dataBits !== 0)
      this.#tell('subclusters', 'marks a subcluster as data but has no cluster', false);
  }

  #beyond(offset: number): void {
    this.#tell('beyond-file', `leads to ${hex(offset)}, beyond the end of the file`, false);
  }

  get #where(): { readonly fileOffset: number; readonly guestOffset: number | null } {
    return { fileOffset: this.#place, guestOffset: this.#guestOffset };
  }

  #tell(code: string, what: string, repairable = true): void {
    const where = { ...this.#where, repairable };
    this.#parts.list.add('corruption', code, () => `An L2 entry ${what}.`, where);
  }

  get #guestOffset(): number | null {
    const offset = this.#guest * this.#clusterSize;
    return this.#active !== 0 && offset < this.#parts.header.virtualSize ? offset : null;
  }
}
