/**
 * A small format, to show how one is put to the test. Sector 0: "TOY1" and the number of blocks. Then the map, one
 * 32-bit number a block: 0 for a block that was never written, n for the n-th slot. Then the slots.
 */
import type { BlockDevice, Extent, ReadResult } from '../../src/index.ts';
import type { Storage, StorageProvider, WriteSource } from '../../src/storage/index.ts';

const MAGIC = 0x31594f54;
const SECTOR = 512;
const BLOCK = 2 * SECTOR;
const ENTRIES = SECTOR / 4;

/** Bytes before the first slot of an image of this many blocks. */
export function toyDataOffset(blocks: number): number {
  return SECTOR * (1 + Math.ceil(blocks / ENTRIES));
}

/** Makes an image: complete and durable under another name first. */
export async function createToy(provider: StorageProvider, name: string, blocks: number): Promise<void> {
  const temporary = provider.temporaryName(name);
  const storage = await provider.create(temporary);
  const header = new Uint32Array(toyDataOffset(blocks) / 4);
  header.set([MAGIC, blocks]);
  await storage.write(0, new Uint8Array(header.buffer));
  await storage.flush();
  await storage.close();
  await provider.rename(temporary, name, { replace: false });
  await provider.syncNames(provider.directory(name));
}

/** Initial state of every toy disk. */
export interface OpenToy {
  readonly storage: Storage;
  readonly map: Uint32Array;
}

/** Reads the header and the map, and checks them. */
export async function openToy(provider: StorageProvider, name: string): Promise<OpenToy> {
  const storage = await provider.open(name, 'write');
  const header = new Uint32Array(ENTRIES);
  await storage.read(0, new Uint8Array(header.buffer));
  const [magic, blocks = 0] = header;
  if (magic !== MAGIC) throw new Error('This is not a toy image');
  const map = new Uint32Array((toyDataOffset(blocks) - SECTOR) / 4);
  await storage.read(SECTOR, new Uint8Array(map.buffer));
  const slots = (storage.size - toyDataOffset(blocks)) / BLOCK;
  if (map.some((entry) => entry > slots)) throw new Error('A block lies beyond the end of the file');
  return { storage, map: map.subarray(0, blocks) };
}

/** The order of writes: data in its slot, durable, then the map, durable. */
export class ToyDisk implements BlockDevice {
  readonly label = 'toy';
  readonly size: number;
  readonly can = { write: true, zero: true, discard: false, random: true };
  readonly blockSize = BLOCK;
  protected readonly storage: Storage;
  protected readonly map: Uint32Array;
  protected readonly dirty = new Set<number>();
  #nextSlot: number;
  #writes: Promise<void> = Promise.resolve();
  #flushes: Promise<void> = Promise.resolve();

  constructor({ storage, map }: OpenToy) {
    this.storage = storage;
    this.map = map;
    this.size = map.length * BLOCK;
    this.#nextSlot = map.reduce((highest, slot) => Math.max(highest, slot), 0) + 1;
  }

  async read(offset: number, target: Uint8Array | readonly Uint8Array[]): Promise<ReadResult> {
    let at = offset;
    for (const buffer of target instanceof Uint8Array ? [target] : target) {
      for (const piece of this.pieces(at, buffer.length)) {
        const slot = this.map[piece.block] ?? 0;
        const part = buffer.subarray(piece.from, piece.to);
        if (slot === 0) part.fill(0);
        else await this.storage.read(this.slotOffset(slot) + piece.within, part);
      }
      at += buffer.length;
    }
    return { unallocated: false };
  }

  /** Writes wait for each other, but not for flushes. */
  write(offset: number, source: WriteSource): Promise<void> {
    const bytes = source instanceof Uint8Array ? source : new Uint8Array(source.flatMap((part) => [...part]));
    this.#writes = this.#writes.then(() => this.writeNow(offset, bytes));
    return this.#writes;
  }

  zero(offset: number, length: number): Promise<void> {
    return this.write(offset, new Uint8Array(length));
  }

  extentAt(offset: number, end: number): Extent {
    const place = { image: 0, depth: 0, compressed: false, file: null, fileOffset: null };
    return { offset, length: end - offset, state: 'data', ...place };
  }

  flush(): Promise<void> {
    this.#flushes = this.#flushes.then(() => this.flushNow());
    return this.#flushes;
  }

  async close(): Promise<void> {
    await this.#writes;
    await this.flush();
    await this.storage.close();
  }

  protected async writeNow(offset: number, bytes: Uint8Array): Promise<void> {
    for (const piece of this.pieces(offset, bytes.length)) {
      const slot = this.map[piece.block] ?? 0;
      const part = bytes.subarray(piece.from, piece.to);
      if (slot === 0) await this.place(piece.block, piece.within, part);
      else await this.storage.write(this.slotOffset(slot) + piece.within, part);
    }
  }

  /** Gives a block a slot. All of the slot is written: it may hold what an earlier session left there. */
  protected async place(block: number, within: number, part: Uint8Array): Promise<void> {
    const slot = this.takeSlot();
    const whole = new Uint8Array(BLOCK);
    whole.set(part, within);
    await this.storage.write(this.slotOffset(slot), whole);
    this.point(block, slot);
  }

  protected async flushNow(): Promise<void> {
    // Sealed before the data flush: what is placed while that runs is not covered by it.
    const sealed = this.sealMap();
    await this.storage.flush();
    if (sealed.size === 0) return;
    await this.writeMap(sealed);
    await this.storage.flush();
  }

  protected takeSlot(): number {
    return this.#nextSlot++;
  }

  protected point(block: number, slot: number): void {
    this.map[block] = slot;
    this.dirty.add(Math.floor(block / ENTRIES));
  }

  /** Copies of the map sectors that changed. */
  protected sealMap(): Map<number, Uint8Array> {
    const sealed = new Map<number, Uint8Array>();
    for (const sector of this.dirty) {
      const entries = new Uint32Array(ENTRIES);
      entries.set(this.map.subarray(sector * ENTRIES, (sector + 1) * ENTRIES));
      sealed.set(SECTOR * (1 + sector), new Uint8Array(entries.buffer));
    }
    this.dirty.clear();
    return sealed;
  }

  protected async writeMap(sealed: Map<number, Uint8Array>): Promise<void> {
    await Promise.all([...sealed].map(([offset, bytes]) => this.storage.write(offset, bytes)));
  }

  protected slotOffset(slot: number): number {
    return toyDataOffset(this.map.length) + (slot - 1) * BLOCK;
  }

  /** The parts of a request that lie in one block each. */
  protected *pieces(offset: number, length: number) {
    for (let from = 0; from < length; ) {
      const block = Math.floor((offset + from) / BLOCK);
      const within = (offset + from) % BLOCK;
      const to = Math.min(from + BLOCK - within, length);
      yield { block, within, from, to };
      from = to;
    }
  }
}
