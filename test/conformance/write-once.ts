/**
 * A format of images that are written once: compressed grains one behind the other, each with its place on the disk before
 * it; then, when all are written, the list of them and a footer.
 */
import { deflateSync, inflateSync } from 'node:zlib';
import { ImageError } from '../../src/errors.ts';
import type {
  EncodedSlot,
  EncodedUnit,
  Encoder,
  Format,
  Image,
  Mapping,
  ProbeInput,
} from '../../src/image/contract.ts';
import { defineFormat } from '../../src/image/define-format.ts';
import { plainInfo } from '../../src/image/plain-info.ts';
import { allOf } from '../../src/storage/checks.ts';
import type { ReadTarget, Storage } from '../../src/storage/contract.ts';

/** Bytes of a grain. */
export const GRAIN = 64 * 1024;
const MAGIC = 'grains!\n';
const HEAD = 16;
const ENTRY = 16;
const FOOTER = 16;

/** Location of the stored form of a grain. */
interface Place {
  readonly fileOffset: number;
  readonly length: number;
}

class GrainImage implements Image {
  readonly info;
  readonly can;
  readonly access;
  readonly dirtyBytes = 0;
  readonly encoder: Encoder | null;
  readonly #storage: Storage;
  readonly #grains: Map<number, Place>;
  #end: number;

  constructor(storage: Storage, size: number, grains: Map<number, Place>, fresh: boolean) {
    this.#storage = storage;
    this.#grains = grains;
    this.#end = storage.size;
    this.info = plainInfo({ format: 'grains', virtualSize: size, blockSize: GRAIN });
    this.access = fresh ? ('ascending-once' as const) : ('random' as const);
    this.can = {
      write: fresh,
      readOnlyReason: fresh ? null : 'images of this format are written once',
      allocate: false,
      zeroMarker: false,
      discard: false,
      resize: false,
      compact: false,
    };
    this.encoder = fresh ? this.#makeEncoder() : null;
  }

  map(guestOffset: number, length: number): Mapping {
    const first = Math.floor(guestOffset / GRAIN);
    const stored = this.#grains.has(first);
    let last = first + 1;
    while (last * GRAIN < guestOffset + length && this.#grains.has(last) === stored) last++;
    return { kind: stored ? 'encoded' : 'absent', length: Math.min(last * GRAIN - guestOffset, length) };
  }

  async readEncoded(guestOffset: number, target: ReadTarget): Promise<void> {
    let at = guestOffset;
    for (const buffer of allOf(target)) {
      for (let done = 0; done < buffer.length; ) {
        const inside = (at + done) % GRAIN;
        const part = buffer.subarray(done, done + GRAIN - inside);
        const grain = await this.#grain(Math.floor((at + done) / GRAIN));
        part.set(grain.subarray(inside, inside + part.length));
        done += part.length;
      }
      at += buffer.length;
    }
  }

  /** The list of all grains, and the footer that tells where it is. */
  async finish(): Promise<void> {
    const view = new DataView(new ArrayBuffer(this.#grains.size * ENTRY + FOOTER));
    let at = 0;
    for (const [index, { fileOffset, length }] of this.#grains) {
      view.setUint32(at, index, true);
      view.setUint32(at + 4, length, true);
      view.setBigUint64(at + 8, BigInt(fileOffset), true);
      at += ENTRY;
    }
    view.setUint32(at, this.#grains.size, true);
    new Uint8Array(view.buffer).set(new TextEncoder().encode(MAGIC), at + 8);
    await this.#storage.write(this.#end, new Uint8Array(view.buffer));
    await this.#storage.flush();
  }

  async beginChanges(): Promise<void> {}
  noteChange(): void {}
  seal() {
    return { stage: [], root: [], publish: [] };
  }
  settle(): void {}
  async *metadata() {}
  storages() {
    return [this.#storage];
  }
  close(): Promise<void> {
    return this.#storage.close();
  }

  async #grain(index: number): Promise<Uint8Array> {
    const place = this.#grains.get(index);
    if (place === undefined) return new Uint8Array(GRAIN);
    const stored = new Uint8Array(place.length);
    await this.#storage.read(place.fileOffset, stored);
    return inflateSync(stored);
  }

  #makeEncoder(): Encoder {
    return {
      unit: GRAIN,
      method: 'deflate',
      must: true,
      encode: async (bytes) => deflateSync(bytes),
      prepare: async (units) => this.#prepare(units),
    };
  }

  #prepare(units: readonly EncodedUnit[]): EncodedSlot {
    const fileOffset = this.#end;
    const places: [number, Place][] = [];
    const buffers: Uint8Array[] = [];
    let end = fileOffset;
    for (const { guestOffset, bytes } of units) {
      const marker = new DataView(new ArrayBuffer(8));
      marker.setUint32(0, guestOffset / GRAIN, true);
      marker.setUint32(4, bytes.length, true);
      buffers.push(new Uint8Array(marker.buffer), bytes);
      places.push([guestOffset / GRAIN, { fileOffset: end + 8, length: bytes.length }]);
      end += 8 + bytes.length;
    }
    const commit = (): void => {
      for (const [index, place] of places) this.#grains.set(index, place);
      this.#end = end;
    };
    return { storage: this.#storage, fileOffset, buffers, count: units.length, commit, abort: () => {} };
  }
}

/** See the head of this file. */
export const grains: Format = defineFormat({
  name: 'grains',
  aliases: [],
  title: 'Grains, written once',
  can: { write: true },
  extensions: [{ extension: 'grains', type: 'hdd' }],
  configKeys: [],
  variants: [{ word: 'dynamic', description: 'compressed grains' }],
  encodesAlways: () => true,
  probe({ head }: ProbeInput) {
    const found = new TextDecoder().decode(head.subarray(0, MAGIC.length)) === MAGIC;
    return { match: found ? 'yes' : 'no', reason: found ? 'the name of the format' : 'another beginning' };
  },
  async open({ main }) {
    if (main === null) throw new ImageError('unsupported', 'A file is needed');
    return readGrains(main);
  },
  async create({ main }, { size }) {
    const view = new DataView(new ArrayBuffer(HEAD));
    new Uint8Array(view.buffer).set(new TextEncoder().encode(MAGIC));
    view.setBigUint64(8, BigInt(size), true);
    await main.write(0, new Uint8Array(view.buffer));
    await main.flush();
    return new GrainImage(main, size, new Map(), true);
  },
});

async function readGrains(storage: Storage): Promise<Image> {
  const head = new DataView(new ArrayBuffer(HEAD));
  await storage.read(0, new Uint8Array(head.buffer));
  const footer = new DataView(new ArrayBuffer(FOOTER));
  const footerAt = storage.size - FOOTER;
  if (footerAt >= HEAD) await storage.read(footerAt, new Uint8Array(footer.buffer));
  const count = footer.getUint32(0, true);
  const listAt = footerAt - count * ENTRY;
  if (new TextDecoder().decode(new Uint8Array(footer.buffer, 8)) !== MAGIC || listAt < HEAD) {
    throw new ImageError('corrupt', 'The image has no end: it was not written completely', { path: storage.label });
  }
  const list = new DataView(new ArrayBuffer(count * ENTRY));
  await storage.read(listAt, new Uint8Array(list.buffer));
  const places = new Map<number, Place>();
  for (let at = 0; at < count * ENTRY; at += ENTRY) {
    const place = { fileOffset: Number(list.getBigUint64(at + 8, true)), length: list.getUint32(at + 4, true) };
    places.set(list.getUint32(at, true), place);
  }
  return new GrainImage(storage, Number(head.getBigUint64(8, true)), places, false);
}
