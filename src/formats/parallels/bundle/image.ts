/**
 * An open image of a bundle: the files of one snapshot, one for each part of the disk, behind each other. Each of them is
 * an image without a parent; the descriptor has the parent of all.
 */
import { largest, SECTOR } from '../../../binary/numbers.ts';
import { assert, ImageError } from '../../../errors.ts';
import type {
  Image,
  ImageCapabilities,
  ImageInfo,
  ImageMember,
  ImagePart,
  Mapping,
  MetadataExtent,
  MetaWrite,
  ParentLink,
  Relocation,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../../image/contract.ts';
import { derivePhysical, type Geometry } from '../../../image/geometry.ts';
import { parentReference } from '../../../image/parent.ts';
import { plainInfo } from '../../../image/plain-info.ts';
import {
  isPromise,
  type MaybePromise,
  type OpenMode,
  type OperationOptions,
  type Storage,
} from '../../../storage/contract.ts';
import { childrenOf, type Descriptor, nameInside } from './descriptor.ts';
import { withoutShots, withParent, withSize } from './edit.ts';
import type { DescriptorStore } from './store.ts';

/** The file of a part. */
export interface OpenPart {
  /** Bytes of the disk. */
  readonly start: number;
  readonly length: number;
  /** Name in the directory of the bundle. */
  readonly name: string;
  /** Null: only its name was asked for. */
  readonly image: Image | null;
}

/** Parts of an image of a bundle. */
export interface BundleParts {
  readonly store: DescriptorStore;
  readonly id: string;
  /** In the order of the disk. */
  readonly parts: readonly OpenPart[];
  readonly mode: OpenMode;
  /** Obstacle to writing; null: none. */
  readonly obstacle: string | null;
  /** Files of other images, and of all. */
  readonly others: () => Promise<readonly ImagePart[]>;
}

/** An open file, and where it begins in the disk. */
interface Placed {
  readonly image: Image;
  readonly start: number;
  readonly length: number;
}

/** See the head of this file. */
export class BundleImage implements Image {
  readonly can: ImageCapabilities;
  readonly member: ImageMember;
  readonly #own: BundleParts;
  #placed: readonly Placed[];
  /** Metadata that each file sealed for a flush. */
  readonly #sealed = new WeakMap<SealedMetadata, readonly SealedMetadata[]>();

  constructor(own: BundleParts) {
    this.#own = own;
    this.#placed = own.parts.flatMap(({ image, ...place }) => (image === null ? [] : [{ ...place, image }]));
    this.can = capabilities(own, this.#images);
    const { store, id, others } = own;
    this.member = {
      id,
      others,
      async children() {
        await store.refresh();
        return childrenOf(store.descriptor, id);
      },
      incomplete: () => filesOverParents(store.descriptor),
      drop: (ids) => store.change((descriptor) => dropped(descriptor, ids)),
    };
  }

  get #images(): readonly Image[] {
    return this.#placed.map(({ image }) => image);
  }

  get info(): ImageInfo {
    const { store, id, parts } = this.#own;
    const { descriptor } = store;
    const infos = this.#images.map(({ info }) => info);
    const parent = descriptor.shots.get(id)?.parent ?? null;
    const fixed = parts.length === infos.length && infos.every(({ allocation }) => allocation === 'fixed');
    const dirty = infos.flatMap((info) => info.dirty ?? []);
    const physical = geometryOf(descriptor);
    return plainInfo({
      format: 'parallels',
      variant: ['bundle', ...(parent === null ? [] : ['diff'])],
      allocation: fixed ? 'fixed' : 'dynamic',
      virtualSize: this.#size,
      blockSize: unitOf(descriptor, id),
      version: infos.find(({ version }) => version !== null)?.version ?? null,
      geometry: { physical, logical: null },
      dirty: dirty.length === 0 ? null : dirty.some((one) => one),
      differencing: parent !== null,
      parent: parent === null ? null : parentReference({ member: parent, format: 'parallels' }),
      warnings: infos.flatMap(({ warnings }) => warnings),
      config: infos[0]?.config ?? {},
      details: {
        ...infos[0]?.details,
        snapshot: `{${id}}`,
        ...(parent === null ? {} : { 'parent snapshot': `{${parent}}` }),
        snapshots: descriptor.shots.size,
        ...(parts.length === 1 ? {} : { parts: parts.length }),
      },
    });
  }

  /** The descriptor decides: a file may be longer while the size changes. */
  get #size(): number {
    return this.#own.store.descriptor.size * SECTOR;
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    const { image, start, length: own } = this.#at(guestOffset);
    const offset = guestOffset - start;
    return image.map(offset, Math.min(length, own - offset));
  }

  readEncoded(): never {
    throw new Error('internal: files of a bundle have no encoded runs');
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    const { image, start, length: own } = this.#at(guestOffset);
    assert(image.prepareWrite !== undefined, 'a plain file has a place for everything');
    const offset = guestOffset - start;
    return moved(image.prepareWrite(offset, Math.min(length, own - offset)), start);
  }

  unmap(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    const { image, start, length: own } = this.#at(guestOffset);
    const offset = guestOffset - start;
    const here = Math.min(length, own - offset);
    const done = image.unmap?.(offset, here, to);
    if (here === length) return done;
    const rest = (): MaybePromise<void> => this.unmap(guestOffset + here, length - here, to);
    return isPromise(done) ? done.then(rest) : rest();
  }

  get writeUnit(): number | undefined {
    return this.#images[0]?.writeUnit;
  }

  get reclaimable(): number {
    return this.#images.reduce((sum, { reclaimable = 0 }) => sum + reclaimable, 0);
  }

  async *idle(how?: OperationOptions): AsyncGenerator<number> {
    for (const { image, start } of this.#placed) for await (const at of image.idle?.(how) ?? []) yield start + at;
  }

  async *movable(how?: OperationOptions): AsyncGenerator<number> {
    for (const { image, start } of this.#placed) for await (const at of image.movable?.(how) ?? []) yield start + at;
  }

  relocate(guestOffset: number): MaybePromise<Relocation | null> {
    const { image, start } = this.#at(guestOffset);
    return moved(image.relocate?.(guestOffset - start) ?? null, start);
  }

  async trim(how?: OperationOptions): Promise<void> {
    for (const image of this.#images) await image.trim?.(how);
  }

  /** A cut left the file longer than the disk. */
  get resizePending(): boolean {
    if (!this.can.resize) return false;
    const [image] = this.#images;
    return image !== undefined && (image.resizePending === true || image.info.virtualSize > this.#size);
  }

  checkSize(size: number): MaybePromise<void> {
    return this.#images[0]?.checkSize?.(size);
  }

  /** The file is never shorter than the disk: it grows first, and shrinks last. */
  async resize(size: number, how: ResizeOptions): Promise<void> {
    const { store } = this.#own;
    const [image] = this.#images;
    assert(this.can.resize && image?.resize !== undefined, 'the disk has one file, which can be resized');
    const describe = (): Promise<void> =>
      store.change((descriptor) => withSize(descriptor, size / SECTOR, geometryFor(size)));
    // A cut left what was beyond the end of the disk: no growth may show it again.
    if (image.info.virtualSize > this.#size) await image.resize(this.#size, { ...how, shrink: true });
    if (size < this.#size) await describe();
    await image.resize(size, how);
    await describe();
    this.#placed = [{ image, start: 0, length: size }];
  }

  /** Another image of the same bundle. */
  async relink(parent: ParentLink | null): Promise<void> {
    const { store, id } = this.#own;
    const member = parent?.member;
    const { path } = store.descriptor;
    if (member === undefined) throw foreignParent(path);
    await store.change((descriptor) => {
      if (!descriptor.shots.has(member) || member === id) throw foreignParent(path);
      return withParent(descriptor, id, member);
    });
  }

  parts(): readonly ImagePart[] {
    return this.#own.parts.map(({ name, image }) => ({
      name,
      role: 'disk file',
      storage: image?.storages()[0] ?? null,
    }));
  }

  async beginChanges(how: { readonly content: boolean }): Promise<void> {
    for (const image of this.#images) await image.beginChanges(how);
  }

  noteChange(): void {
    for (const image of this.#images) image.noteChange();
  }

  async endChanges(): Promise<void> {
    for (const image of this.#images) await image.endChanges?.();
  }

  get endsWhenIdle(): boolean {
    return this.#images.some(({ endsWhenIdle }) => endsWhenIdle === true);
  }

  get dirtyBytes(): number {
    return this.#images.reduce((sum, { dirtyBytes }) => sum + dirtyBytes, 0);
  }

  seal(): SealedMetadata {
    const each = this.#images.map((image) => image.seal());
    const all = {
      stage: each.flatMap(({ stage }) => stage),
      root: steps(each.map(({ root }) => root)),
      publish: steps(each.map(({ publish }) => publish)),
    };
    this.#sealed.set(all, each);
    return all;
  }

  settle(sealed: SealedMetadata, ok: boolean): void {
    const each = this.#sealed.get(sealed);
    assert(each !== undefined, 'a flush ends what it began');
    for (const [index, image] of this.#images.entries()) {
      const own = each[index];
      if (own !== undefined) image.settle(own, ok);
    }
  }

  async *metadata(how: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {
    const { storage } = this.#own.store;
    yield { storage, fileOffset: 0, length: storage.size, what: 'descriptor', guestOffset: null };
    for (const { image, start } of this.#placed) {
      for await (const one of image.metadata(how)) {
        yield one.guestOffset === null ? one : { ...one, guestOffset: one.guestOffset + start };
      }
    }
  }

  storages(): readonly Storage[] {
    return [...this.#images.flatMap((image) => image.storages()), this.#own.store.storage];
  }

  async close(): Promise<void> {
    for (const image of this.#images) await image.close();
    await this.#own.store.storage.close();
  }

  /** The file that holds a guest offset. */
  #at(guestOffset: number): Placed {
    const placed = this.#placed;
    let [low, high] = [0, placed.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((placed[middle]?.start ?? 0) <= guestOffset) low = middle;
      else high = middle - 1;
    }
    const found = placed[low];
    assert(found !== undefined && guestOffset - found.start < found.length, 'the offset lies inside the disk');
    return found;
  }
}

function capabilities({ mode, obstacle, store, parts }: BundleParts, images: readonly Image[]): ImageCapabilities {
  const reason = obstacle ?? images.find(({ can }) => can.readOnlyReason !== null)?.can.readOnlyReason ?? null;
  const write = mode === 'write' && reason === null && images.every(({ can }) => can.write);
  const all = (able: (can: ImageCapabilities) => boolean): boolean =>
    write && images.length > 0 && images.every(({ can }) => able(can));
  return {
    write,
    readOnlyReason: mode === 'write' ? reason : null,
    // Every byte of a plain file has its place.
    allocate: write && images.some(({ can, info }) => can.allocate && info.allocation !== 'fixed'),
    zeroMarker: all(({ zeroMarker }) => zeroMarker),
    discard: all(({ discard }) => discard),
    resize: parts.length === 1 && store.descriptor.shots.size === 1 && all(({ resize }) => resize),
    compact: all(({ compact }) => compact),
  };
}

function filesOverParents({ parts, shots }: Descriptor): Set<string> {
  const children = [...shots].flatMap(([id, { parent }]) => (parent === null ? [] : [id]));
  return new Set(parts.flatMap(({ files }) => children.flatMap((id) => nameInside(files.get(id)?.file ?? ''))));
}

/** Bytes of a cluster; null: the files have none, or not the same. */
function unitOf({ parts }: Descriptor, id: string): number | null {
  const units = new Set(
    parts.flatMap(({ files, blocksize }) => (files.get(id)?.type === 'Compressed' ? [blocksize] : [])),
  );
  const [unit] = units;
  return unit === undefined || units.size > 1 ? null : unit * SECTOR;
}

function geometryOf({ geometry, size }: Descriptor): Geometry {
  const { cylinders = 0, heads = 0, sectors = 0 } = geometry ?? {};
  const fits = heads > 0 && heads <= 16 && sectors > 0 && sectors <= 63 && cylinders <= 16_383;
  return fits ? { cylinders, heads, sectors } : derivePhysical(size * SECTOR);
}

/** Cylinders, heads and sectors whose product is the size of the disk. */
export function geometryFor(size: number): Geometry {
  const count = size / SECTOR;
  const heads = count % 16 === 0 ? 16 : 1;
  const tracks = count / heads;
  let sectors = 63;
  while (tracks % sectors !== 0) sectors--;
  return { cylinders: tracks / sectors, heads, sectors };
}

function dropped(descriptor: Descriptor, ids: readonly string[]): Descriptor {
  const there = new Set(ids.filter((id) => descriptor.shots.has(id)));
  return there.size === 0 ? descriptor : withoutShots(descriptor, there);
}

type Lists = readonly (readonly MetaWrite[])[];

/** Numbered steps of several files: the first of each together, then the second ones. */
function steps(each: readonly Lists[]): MetaWrite[][] {
  const count = largest(
    each.map(({ length }) => length),
    0,
  );
  return Array.from({ length: count }, (_, step) => each.flatMap((one) => one[step] ?? []));
}

function moved<T extends { readonly guestOffset: number } | null>(
  answer: MaybePromise<T>,
  start: number,
): MaybePromise<T> {
  if (start === 0) return answer;
  const place = (one: T): T => {
    if (one === null) return one;
    return { ...one, guestOffset: one.guestOffset + start };
  };
  return isPromise(answer) ? answer.then(place) : place(answer);
}

function foreignParent(path: string): ImageError {
  return new ImageError('unsupported', 'An image of a bundle has its parent in the bundle', {
    path,
    hint: 'Convert the disk, and name the parent of the copy.',
  });
}
