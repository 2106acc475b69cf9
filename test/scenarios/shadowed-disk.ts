/**
 * A disk and its shadow, as the I/O tester of VirtualBox has it: what is written goes to both, what is read is compared.
 * Content and order follow from a seed, which stands in every failure.
 */
import { expect } from 'vitest';
import type { CreateDiffOptions } from '../../src/disk/change/stack.ts';
import type { Range } from '../../src/disk/device.ts';
import { Disk, type DiskOpenOptions } from '../../src/index.ts';
import { isPromise, type Source, type StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { SparseBytes } from '../../src/storage/sparse-bytes.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { randomBytes } from '../conformance/random.ts';
import { type Layer, makeOptions } from './formats.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
const SECTOR = 512;

/** Random bytes that writes are cut from: making fresh ones would take most of the time. */
const POOL_BYTES = 2 * MIB;
const PIECE = MIB;
const SEGMENTS_MAX = 5;

/** Requests of one kind, see the action `io` of the reference. */
export interface Io {
  readonly order: 'sequential' | 'random';
  readonly block: number;
  readonly start: number;
  readonly end: number;
  /** Bytes that are moved in all; the range is gone through again until it is enough. */
  readonly total: number;
  /** Share of the requests that write. */
  readonly writes: number;
  /** Requests that run together. */
  readonly requests: number;
}

/** Open options: all images are named, so that none is searched for. */
type OpenOptions = Omit<DiskOpenOptions, 'parent' | 'parentFormat'>;

/** Options for a disk of a scenario. */
export interface ShadowedOptions {
  readonly seed: number;
  readonly size: number;
  readonly open?: OpenOptions;
  readonly provider?: StorageProvider;
}

/** See the head of this file. Its images are `/0`, `/1`, ... in memory. */
export class ShadowedDisk {
  readonly provider: StorageProvider;
  readonly shadow = new SparseBytes();
  readonly random: Random;
  readonly #seed: number;
  readonly #pool: Uint8Array;
  readonly #options: OpenOptions;
  #disk: Disk | null = null;
  #made = 0;

  private constructor({ seed, open, provider, size }: ShadowedOptions) {
    this.provider = provider ?? new MemoryProvider();
    this.random = new Random(seed);
    this.#seed = seed;
    this.#pool = randomBytes(this.random, POOL_BYTES);
    this.#options = { allow: ['same-directory'], flushAfterMs: 0, ...open };
    this.shadow.resize(size);
  }

  /** Makes the base. */
  static async make(base: Layer, options: ShadowedOptions): Promise<ShadowedDisk> {
    const made = new ShadowedDisk(options);
    const { size } = options;
    made.#disk = await Disk.create(made.#next(), { ...makeOptions(base), size, ...made.#options });
    return made;
  }

  /** Makes a chain, base first, with writes to each image. */
  static async chain(
    layers: readonly Layer[],
    options: ShadowedOptions,
    fill: (disk: ShadowedDisk) => Promise<void> = (disk) => disk.scatter(6),
  ): Promise<ShadowedDisk> {
    const [base, ...others] = layers;
    if (base === undefined) throw new Error('internal: a chain has a base');
    const made = await ShadowedDisk.make(base, options);
    await fill(made);
    for (const layer of others) {
      await made.stack(layer);
      await fill(made);
    }
    return made;
  }

  get disk(): Disk {
    if (this.#disk === null) throw new Error('internal: the disk is open');
    return this.#disk;
  }

  /** Names of the images, base first. */
  get names(): string[] {
    return this.disk.images.map(({ name }) => name);
  }

  at(name: string): Source {
    return { provider: this.provider, name };
  }

  /** Puts a differencing image on top. */
  async stack(layer: Layer, options: CreateDiffOptions = {}): Promise<void> {
    const { size: _size, ...made } = makeOptions(layer);
    await this.disk.createDiff(this.#next(), { ...made, ...options });
  }

  /** Closes all and opens the same images again. */
  async reopen(options: OpenOptions = {}): Promise<void> {
    const { names } = this;
    const format = this.disk.images.at(-1)?.format;
    await this.disk.close();
    this.#disk = await Disk.open(
      names.map((name) => this.at(name)),
      { ...this.#options, mode: 'write', ...(format === undefined ? {} : { format }), ...options },
    );
  }

  /** Closes one image after the other, and deletes them. */
  async removeAll(): Promise<void> {
    while (this.disk.images.length > 1) await this.disk.closeLast({ remove: true });
    const [base = ''] = this.names;
    await this.disk.close();
    await this.provider.remove(base);
  }

  /** All files in the directory of the images. */
  async files(): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.provider.list('/')) names.push(name);
    return names.sort();
  }

  async fileSize(name: string): Promise<number> {
    return (await this.provider.lookUp(name))?.size ?? Number.NaN;
  }

  /** Guest bytes that images really hold: all of them, or those of one. */
  async stored(image?: number): Promise<number> {
    let bytes = 0;
    const device = image === undefined ? this.disk : this.disk.layers(image, image);
    for await (const { state, length } of device.extents()) if (state === 'data') bytes += length;
    return bytes;
  }

  /** A part of the last image is stored in the file, be it as a hole. */
  async holds(offset: number, length: number): Promise<boolean> {
    const top = this.disk.images.length - 1;
    for await (const { offset: start, fileOffset } of this.disk.layers(top, top).extents()) {
      if (start >= offset && start < offset + length && fileOffset !== null) return true;
    }
    return false;
  }

  /** Units of the last image in which anything is stored. Parts of a unit may be holes in the file. */
  async blocks(): Promise<number> {
    const { blockSize } = this.disk;
    const found = new Set<number>();
    for await (const { state, offset, length } of this.disk.extents()) {
      for (let at = offset; state === 'data' && at < offset + length; at += blockSize) {
        found.add(Math.floor(at / blockSize));
        found.add(Math.floor((offset + length - 1) / blockSize));
      }
    }
    return found.size;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.shadow.write(offset, bytes);
    await this.disk.write(offset, this.#split(bytes));
  }

  async zero(offset: number, length: number): Promise<void> {
    this.shadow.zero(offset, length);
    await this.disk.zero(offset, length);
  }

  /**
   * The shadow has zeroes there from now on; the disk has them at the latest when it was closed. Nothing changes on a disk
   * that cannot discard.
   */
  async discard(ranges: readonly Range[]): Promise<void> {
    if (!this.disk.can.discard) return this.disk.discard(ranges);
    for (const { offset, length } of ranges) this.shadow.zero(offset, length);
    await this.disk.discard(ranges);
  }

  async resize(size: number, options: { readonly shrink?: boolean } = {}): Promise<void> {
    this.shadow.resize(size);
    await this.disk.resize(size, options);
  }

  /** Bytes that look random, at most 1 MiB. */
  bytes(length: number): Uint8Array {
    const from = this.random.below(POOL_BYTES - length);
    return this.#pool.slice(from, from + length);
  }

  /** Writes of up to 200 KiB anywhere. */
  async scatter(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      const length = SECTOR * (1 + this.random.below(400));
      await this.write(SECTOR * this.random.below((this.disk.size - length) / SECTOR), this.bytes(length));
    }
  }

  /** The I/O generator of the reference, random ranges beginning where they should. */
  async io({ order, block, start, end, total, writes, requests }: Io): Promise<void> {
    const places = Array.from({ length: Math.floor((end - start) / block) }, (_, n) => start + n * block);
    for (let left = Math.ceil(total / block); left > 0; left -= places.length) {
      const round = (order === 'random' ? this.random.shuffle([...places]) : places).slice(0, left);
      for (let at = 0; at < round.length; at += requests) {
        const together = round.slice(at, at + requests);
        await Promise.all(
          together.map((offset) =>
            this.random.chance(writes) || writes === 1
              ? this.write(offset, this.bytes(block))
              : this.compare(offset, block),
          ),
        );
      }
    }
  }

  /** Reads a range, at most some MiB, and compares. */
  async compare(offset: number, length: number, device: Disk = this.disk): Promise<void> {
    const found = new Uint8Array(length).fill(0xa5);
    await device.read(offset, this.#split(found));
    const wanted = new Uint8Array(length);
    this.shadow.read(offset, wanted);
    if (Buffer.compare(found, wanted) !== 0)
      expectSameBytes(found, wanted, `seed ${this.#seed}: the bytes at ${offset}`);
  }

  /** Reads all that is stored or should be, and looks that there is nothing else. */
  async verify(device: Disk = this.disk): Promise<void> {
    const { size } = this.shadow;
    expect(device.size, `seed ${this.#seed}: the size`).toBe(size);
    for (let at = 0; at < size; ) {
      const answer = device.extentAt(at, size);
      const { state, length } = isPromise(answer) ? await answer : answer;
      const wanted = this.shadow.extentAt(at);
      const end = Math.min(at + length, wanted.end);
      const read = state === 'data' || wanted.data;
      for (let piece = at; read && piece < end; piece += PIECE) {
        await this.compare(piece, Math.min(PIECE, end - piece), device);
      }
      at = end;
    }
  }

  /** Verifies, opens again and verifies again. */
  async verifyTwice(): Promise<void> {
    await this.verify();
    await this.reopen();
    await this.verify();
  }

  #next(): Source {
    return this.at(`/${this.#made++}`);
  }

  /** Up to five pieces of whole sectors. */
  #split(bytes: Uint8Array): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    let rest = bytes;
    while (pieces.length < SEGMENTS_MAX - 1 && rest.length > SECTOR) {
      const length = SECTOR * (1 + this.random.below(rest.length / SECTOR));
      pieces.push(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    return rest.length > 0 || pieces.length === 0 ? [...pieces, rest] : pieces;
  }
}
