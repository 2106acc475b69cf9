/**
 * An open cache. While it is open for writing its header marks it as invalid, and its index exists in memory only;
 * closing writes the index. So a cut leaves an empty cache, and no write order is needed.
 */
import { isNullGuid } from '../../binary/guid.ts';
import { alignDown, alignUp } from '../../binary/numbers.ts';
import type { CacheIdentity, CacheImage, CacheInfo } from '../../image/cache.ts';
import type { Storage } from '../../storage/contract.ts';
import { dataStartOf, type Header, writeContent } from './file.ts';
import { BLOCK, EXTENTS, HEADER, NODE_BLOCKS, TYPE } from './layout.ts';
import { LINE, LINE_BLOCKS, Lines } from './lines.ts';
import { type CacheExtent, nodesFor, type Tree } from './tree.ts';

/** Consecutive lines are written at once, up to this many bytes. */
const RUN_BYTES = 1024 * 1024;

/** An open VCI cache. */
export class VciCache implements CacheImage {
  readonly storage: Storage;
  readonly #header: Header;
  readonly #lines: Lines;
  readonly #start: number;
  readonly #writable: boolean;
  #identity: CacheIdentity | null;

  /**
   * `tree`: content of the file; null: empty.
   */
  constructor(storage: Storage, header: Header, tree: Tree | null, writable: boolean) {
    this.storage = storage;
    this.#header = header;
    this.#start = dataStartOf(header.blockCount);
    this.#lines = new Lines(lineCountOf(header.blockCount));
    this.#writable = writable;
    this.#identity = tree === null ? null : identityOf(header);
    for (const extent of [...(tree?.extents ?? [])].sort((a, b) => a.address - b.address)) this.#restore(extent);
  }

  get info(): CacheInfo {
    return {
      format: 'vci',
      variant: this.#header.type === TYPE.fixed ? 'fixed' : 'dynamic',
      capacity: this.#header.blockCount * BLOCK,
      cached: this.#lines.blocks * BLOCK,
      identity: this.#identity,
    };
  }

  /** Marks the file as invalid. Durable when it resolves. */
  async begin(): Promise<void> {
    await this.storage.write(0, HEADER.encode({ ...this.#header, unclean: 1 }));
    await this.storage.flush();
  }

  look(offset: number, length: number): { readonly cached: boolean; readonly length: number } {
    const end = offset + length;
    let cached: boolean | null = null;
    let at = offset;
    while (at < end) {
      const piece = Math.floor(at / LINE);
      const stop = Math.min(end, (piece + 1) * LINE);
      const line = this.#lines.find(piece);
      const from = Math.floor((at - piece * LINE) / BLOCK);
      const to = Math.ceil((stop - piece * LINE) / BLOCK);
      const run = line === null ? { held: false, to } : this.#lines.run(line, from, to);
      if (cached !== null && run.held !== cached) break;
      cached = run.held;
      at = Math.min(piece * LINE + run.to * BLOCK, stop);
      if (run.to < to) break;
    }
    return { cached: cached ?? false, length: at - offset };
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const end = offset + target.length;
    const pinned: number[] = [];
    const parts: { place: number; from: number; to: number }[] = [];
    for (let at = offset; at < end; ) {
      const piece = Math.floor(at / LINE);
      const stop = Math.min(end, (piece + 1) * LINE);
      const line = this.#lines.find(piece);
      if (line === null) throw new Error('what is read of a cache is in it');
      this.#lines.pin(line);
      this.#lines.touch(line);
      pinned.push(line);
      const place = this.#placeOf(line) + (at - piece * LINE);
      const last = parts.at(-1);
      if (last !== undefined && last.place + (last.to - last.from) === place) last.to = stop - offset;
      else parts.push({ place, from: at - offset, to: stop - offset });
      at = stop;
    }
    try {
      await Promise.all(parts.map(({ place, from, to }) => this.storage.read(place, target.subarray(from, to))));
    } finally {
      for (const line of pinned) this.#lines.unpin(line);
    }
  }

  async fill(offset: number, bytes: Uint8Array): Promise<void> {
    if (!this.#writable) return;
    const [start, end] = [alignUp(offset, BLOCK), alignDown(offset + bytes.length, BLOCK)];
    let run: Run | null = null;
    try {
      for (let at = start; at < end; ) {
        const piece = Math.floor(at / LINE);
        const stop = Math.min(end, (piece + 1) * LINE);
        const line = this.#lines.take(piece);
        if (line === null) {
          at = stop;
          continue;
        }
        this.#lines.pin(line);
        const place = this.#placeOf(line) + (at - piece * LINE);
        const part = { line, from: (at - piece * LINE) / BLOCK, to: (stop - piece * LINE) / BLOCK };
        const before: Run | null = run;
        if (before !== null && joins(before, { place, from: at - offset, to: stop - offset })) {
          before.to = stop - offset;
          before.parts.push(part);
        } else {
          run = { place, from: at - offset, to: stop - offset, parts: [part] };
          if (before !== null) await this.#store(before, bytes);
        }
        at = stop;
      }
    } catch (error) {
      for (const { line } of run?.parts ?? []) this.#lines.unpin(line);
      throw error;
    }
    if (run !== null) await this.#store(run, bytes);
  }

  drop(offset: number, length: number): void {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const piece = Math.floor(at / LINE);
      const stop = Math.min(end, (piece + 1) * LINE);
      const from = Math.floor((at - piece * LINE) / BLOCK);
      this.#lines.drop({ piece, from, to: Math.ceil((stop - piece * LINE) / BLOCK) });
      at = stop;
    }
  }

  clear(): void {
    this.#lines.clear();
  }

  async close(identity: CacheIdentity | null): Promise<void> {
    try {
      if (this.#writable && identity !== null) await this.#save(identity);
    } finally {
      await this.storage.close();
    }
  }

  async #save(identity: CacheIdentity): Promise<void> {
    const room = this.#header.blockCount - this.#start;
    const treeAt =
      this.#start + Math.min(this.#lines.used * LINE_BLOCKS, lineCountOf(this.#header.blockCount) * LINE_BLOCKS);
    const nodes = Math.floor((this.#start + room - treeAt) / NODE_BLOCKS);
    const extents: CacheExtent[] = [];
    for (const extent of this.#extents()) {
      // What has no room in the tree is not known any more: it is read from the disk then.
      if (nodesFor(extents.length + 1) > nodes) break;
      extents.push(extent);
    }
    await writeContent(this.storage, this.#header, { extents, identity, treeAt });
  }

  /** Cached extents in disk order, neighbours joined. */
  *#extents(): Generator<CacheExtent> {
    let last: CacheExtent | undefined;
    for (const { piece, line } of this.#lines.inOrder()) {
      for (let block = 0; block < LINE_BLOCKS; ) {
        const { held, to } = this.#lines.run(line, block, LINE_BLOCKS);
        if (held) {
          const first = piece * LINE_BLOCKS + block;
          const address = this.#placeOf(line) / BLOCK + block;
          const count = to - block;
          const before: CacheExtent | undefined = last;
          if (
            before !== undefined &&
            before.first + before.count === first &&
            before.address + before.count === address
          ) {
            last = { first: before.first, count: before.count + count, address: before.address };
          } else {
            if (before !== undefined) yield before;
            last = { first, count, address };
          }
        }
        block = to;
      }
    }
    if (last !== undefined) yield last;
  }

  /** Takes over extents that fit the lines; others are dropped. */
  #restore({ first, count, address }: CacheExtent): void {
    for (let done = 0; done < count; ) {
      const [block, place] = [first + done, address + done - this.#start];
      const from = block % LINE_BLOCKS;
      const size = Math.min(LINE_BLOCKS - from, count - done);
      const line = (place - from) / LINE_BLOCKS;
      const fits = Number.isInteger(line) && line >= 0 && line < this.#lines.count;
      if (fits && this.#lines.restore(line, (block - from) / LINE_BLOCKS)) this.#lines.add(line, from, from + size);
      done += size;
    }
  }

  async #store({ place, from, to, parts }: Run, bytes: Uint8Array): Promise<void> {
    try {
      await this.storage.write(place, bytes.subarray(from, to));
      for (const part of parts) this.#lines.add(part.line, part.from, part.to);
    } finally {
      for (const { line } of parts) this.#lines.unpin(line);
    }
  }

  #placeOf(line: number): number {
    return (this.#start + line * LINE_BLOCKS) * BLOCK;
  }
}

/** Consecutive lines in the file, with bytes `[from, to)` for them. */
interface Run {
  readonly place: number;
  readonly from: number;
  to: number;
  readonly parts: { readonly line: number; readonly from: number; readonly to: number }[];
}

/** True when the bytes continue the run, both in the file and in memory: lines in between may have been skipped. */
function joins(run: Run, next: { readonly place: number; readonly from: number; readonly to: number }): boolean {
  const follows = run.to === next.from && run.place + (run.to - run.from) === next.place;
  return follows && next.to - run.from <= RUN_BYTES;
}

/** Number of lines that fit beside a tree with an extent for each. */
function lineCountOf(blockCount: number): number {
  const room = blockCount - dataStartOf(blockCount);
  let lines = Math.floor(room / (LINE_BLOCKS + NODE_BLOCKS / EXTENTS));
  while (lines > 0 && lines * LINE_BLOCKS + nodesFor(lines) * NODE_BLOCKS > room) lines--;
  return Math.max(lines, 0);
}

function identityOf({ unclean, imageUuid, modificationUuid }: Header): CacheIdentity | null {
  if (unclean !== 0 || isNullGuid(modificationUuid)) return null;
  return { image: isNullGuid(imageUuid) ? null : imageUuid, modification: modificationUuid };
}
