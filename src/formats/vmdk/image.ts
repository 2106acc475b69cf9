/**
 * An open VMDK image: extents behind each other, and the descriptor.
 *
 * A new content ID, and a new modification UUID, are durable before the first change of the content in a session:
 * children tell by them that their parent changed. Each sparse extent marks itself before its tables change.
 */
import { type ChangeGuard, imageReadOnly } from '../../blocks/guarded.ts';
import type { PageCache } from '../../blocks/metadata-pages.ts';
import { assert, ImageError, printable } from '../../errors.ts';
import type {
  Config,
  Encoder,
  Image,
  ImageCapabilities,
  ImageChanges,
  ImageInfo,
  ImagePart,
  Mapping,
  MetadataExtent,
  MetaWrite,
  ParentLink,
  ResizeOptions,
  SealedMetadata,
  WriteSlot,
} from '../../image/contract.ts';
import type { ImageFiles } from '../../image/files.ts';
import { derivePhysical } from '../../image/geometry.ts';
import { type ParentReference, parentReference } from '../../image/parent.ts';
import { plainInfo } from '../../image/plain-info.ts';
import {
  isPromise,
  type MaybePromise,
  type OpenMode,
  type OperationOptions,
  type ReadTarget,
  type Storage,
} from '../../storage/contract.ts';
import { CONFIG, variantWords } from './config.ts';
import { type ExtentLine, splitName } from './descriptor/extents.ts';
import {
  commentOf,
  contentId,
  geometryOf,
  hasParent,
  KEYS,
  parentContentId,
  parentHint,
  uuidsOf,
} from './descriptor/facts.ts';
import type { DescriptorStore } from './descriptor/store.ts';
import type { DescriptorText } from './descriptor/text.ts';
import { detailsOf } from './details.ts';
import type { Extent } from './extents/extent.ts';
import { SparseExtent } from './extents/sparse.ts';
import type { NewStream } from './extents/stream-new.ts';

/** Parts of an image. */
export interface VmdkParts {
  readonly storage: Storage;
  /** Base of relative names. */
  readonly directory: string;
  /** Null: a sparse extent without one. */
  readonly descriptor: DescriptorStore | null;
  readonly lines: readonly ExtentLine[];
  readonly extents: readonly Extent[];
  readonly parts: readonly ImagePart[];
  readonly mode: OpenMode;
  /** Ends the writing of all files after a failure in one. */
  readonly guard: ChangeGuard;
  /** Holds the tables of all extents; absent: they have none. */
  readonly cache?: PageCache | undefined;
  /** The extent of a new stream. */
  readonly stream?: NewStream | undefined;
  /** Absent: the image gets no further files. */
  readonly files?: Pick<ImageFiles, 'open' | 'parts'> | undefined;
}

/** Code that changes a descriptor, loaded with the first change. */
type DescriptorCode = typeof import('./change.ts');

/** See the head of this file. */
export class VmdkImage implements Image {
  readonly can: ImageCapabilities;
  #parts: VmdkParts;
  #extents: readonly Extent[] = [];
  /** Guest offsets of the extents, and the end of the disk. */
  #starts: readonly number[] = [];
  /** Code for the next identities, once the first ones of this session are durable; null: they are not. */
  #changed: DescriptorCode | null = null;
  /** The content changed since the last flush. */
  #contentChanged = false;
  /** Change tracking that this session ended, for people. */
  #ended: string | null = null;

  constructor(parts: VmdkParts) {
    this.#parts = parts;
    this.#adopt(parts);
    this.can = capabilities(parts);
  }

  get info(): ImageInfo {
    const { descriptor, extents, storage } = this.#parts;
    const text = descriptor?.text ?? null;
    const size = this.#size;
    const units = extents.flatMap(({ unit }) => (unit === null ? [] : [unit]));
    const isDynamic = extents.some((extent) => extent.isDynamic);
    const parent = text === null ? null : parentOf(text);
    const uuids = text === null ? null : uuidsOf(text);
    return plainInfo({
      format: 'vmdk',
      variant: variantWords(text?.value(KEYS.createType) ?? null, isDynamic),
      allocation: isDynamic ? 'dynamic' : 'fixed',
      virtualSize: size,
      blockSize: units[0] ?? null,
      version: versionOf(extents, text),
      comment: text === null ? null : commentOf(text),
      geometry: {
        physical: (text === null ? null : geometryOf(text, 'physical')) ?? derivePhysical(size),
        logical: text === null ? null : geometryOf(text, 'logical'),
      },
      dirty: dirtyOf(extents),
      differencing: parent !== null,
      parent,
      uuid: uuids?.uuid ?? null,
      modificationUuid: uuids?.modificationUuid ?? null,
      contentId: text === null ? null : contentId(text),
      warnings: [...warningsOf(this.#parts, storage.label), ...(this.#ended === null ? [] : [this.#ended])],
      config: configOf(text, units[0] ?? null),
      details: detailsOf(text, this.#parts.lines),
    });
  }

  get access(): 'random' | 'ascending-once' {
    return this.#parts.stream === undefined ? 'random' : 'ascending-once';
  }

  get encoder(): Encoder | null {
    return this.#parts.stream?.encoder ?? null;
  }

  async finish(): Promise<void> {
    await this.#parts.stream?.finish();
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    const { extent, start } = this.#at(guestOffset);
    const offset = guestOffset - start;
    return extent.map(offset, Math.min(length, extent.length - offset));
  }

  readEncoded(guestOffset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    const { extent, start } = this.#at(guestOffset);
    assert(extent.readEncoded !== undefined, 'only a compressed extent answers with encoded runs');
    return extent.readEncoded(guestOffset - start, target, options);
  }

  prepareWrite(guestOffset: number, length: number): MaybePromise<WriteSlot> {
    this.#parts.guard.check();
    const { extent, start } = this.#at(guestOffset);
    if (extent.prepareWrite === undefined || !extent.isWritten) throw this.#closed(guestOffset);
    const offset = guestOffset - start;
    const slot = extent.prepareWrite(offset, Math.min(length, extent.length - offset));
    const placed = (one: WriteSlot): WriteSlot =>
      start === 0 ? one : { ...one, guestOffset: one.guestOffset + start };
    return isPromise(slot) ? slot.then(placed) : placed(slot);
  }

  unmap(guestOffset: number, length: number, to: 'zero' | 'absent'): MaybePromise<void> {
    this.#parts.guard.check();
    const { extent, start } = this.#at(guestOffset);
    if (extent.unmap === undefined || !extent.isWritten) throw this.#closed(guestOffset);
    const here = Math.min(length, start + extent.length - guestOffset);
    const done = extent.unmap(guestOffset - start, here, to);
    if (here === length) return done;
    const rest = (): MaybePromise<void> => this.unmap(guestOffset + here, length - here, to);
    return isPromise(done) ? done.then(rest) : rest();
  }

  async beginChanges({ content }: { readonly content: boolean }): Promise<void> {
    const { descriptor } = this.#parts;
    // The ID of a new stream is as new as its data.
    if (!content || this.#changed !== null || descriptor === null || this.#parts.stream !== undefined) return;
    const code = await import('./change.ts');
    const text = descriptor.draft();
    const { path } = descriptor;
    const tracking = text.value(KEYS.changeTracking);
    if (tracking !== null) text.set(KEYS.changeTracking, null, path);
    code.changeIdentities(text, path);
    await descriptor.overwrite(text);
    if (tracking !== null) this.#ended = trackingEnded(path, tracking);
    this.#changed = code;
  }

  async endChanges(): Promise<void> {
    if (this.#parts.guard.failed) return;
    for (const extent of this.#extents) await extent.end(this.#changed !== null);
    this.#changed = null;
  }

  noteChange(): void {
    this.#contentChanged = true;
  }

  /** A cut, or a cancel, left the smaller size, and room behind it. */
  get resizePending(): boolean {
    return this.can.resize && (this.#extents.at(-1)?.hasExcess ?? false);
  }

  async checkSize(size: number): Promise<void> {
    const { checkSize } = await import('./resize.ts');
    checkSize(this.#parts, size);
  }

  async resize(size: number, how: ResizeOptions): Promise<void> {
    const { resizeImage } = await import('./resize.ts');
    await resizeImage(this.#parts, size, how, (changed) => this.#adopt({ ...this.#parts, ...changed }));
  }

  async set(changes: ImageChanges): Promise<void> {
    const { descriptor, text } = this.#draft();
    const { changeFacts } = await import('./change.ts');
    if (typeof changes.parentUuid === 'string' && this.info.allocation === 'fixed') throw fixedChild(descriptor.path);
    changeFacts(text, changes, descriptor.path);
    await descriptor.replace(text);
  }

  async relink(parent: ParentLink | null): Promise<void> {
    const { descriptor, text } = this.#draft();
    const { changeParent } = await import('./change.ts');
    if (parent !== null && this.info.allocation === 'fixed') throw fixedChild(descriptor.path);
    changeParent(text, parent, this.#parts.directory, descriptor.path);
    await descriptor.replace(text);
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    const { descriptor, text } = this.#draft();
    const { changeNames } = await import('./change.ts');
    changeNames(text, names, descriptor.path);
    await descriptor.replace(text);
  }

  async amend(values: Config): Promise<void> {
    const { descriptor, text } = this.#draft();
    const { amendFacts } = await import('./change.ts');
    const { storedValues } = await import('./stored-values.ts');
    const current = { ...this.info.config, ...(await storedValues(this.#parts, values)) };
    amendFacts(text, values, descriptor.path, current);
    await descriptor.replace(text);
  }

  get dirtyBytes(): number {
    const bytes = this.#extents.reduce((sum, { dirtyBytes }) => sum + dirtyBytes, 0);
    return Math.max(bytes, this.#parts.cache?.crowding ?? 0);
  }

  seal(): SealedMetadata {
    const identities = this.#sealIdentities();
    const sealed = this.#written.map((extent) => extent.seal());
    const all = (writes: readonly (readonly MetaWrite[])[]): MetaWrite[] => writes.flat();
    const steps = [all(sealed.map(({ publish }) => publish)), all(sealed.map(({ copy }) => copy))];
    return {
      stage: [...identities, ...all(sealed.map(({ stage }) => stage))],
      root: [],
      publish: steps.filter(({ length }) => length > 0),
    };
  }

  settle(_sealed: SealedMetadata, ok: boolean): void {
    this.#parts.guard.settle(ok);
    for (const extent of this.#written) extent.settle(ok);
  }

  get reclaimable(): number {
    return this.#extents.reduce((sum, { reclaimable }) => sum + reclaimable, 0);
  }

  async *movable(how?: OperationOptions): AsyncGenerator<number> {
    for (const [index, extent] of this.#extents.entries()) {
      const start = this.#starts[index] ?? 0;
      for await (const offset of extent.movable(how)) yield start + offset;
    }
  }

  relocate(guestOffset: number): MaybePromise<WriteSlot | null> {
    const { extent, start } = this.#at(guestOffset);
    const slot = extent.relocate(guestOffset - start);
    const placed = (one: WriteSlot | null): WriteSlot | null =>
      one === null ? null : { ...one, guestOffset: one.guestOffset + start };
    return isPromise(slot) ? slot.then(placed) : placed(slot);
  }

  async trim(how: OperationOptions = {}): Promise<void> {
    for (const extent of this.#written) await extent.trim(how);
  }

  parts(): readonly ImagePart[] {
    return this.#parts.parts;
  }

  isPartName(name: string): boolean {
    const last = splitName(this.#parts.lines.at(-1)?.file ?? '');
    const other = splitName(name);
    return last !== null && other !== null && last.stem === other.stem && last.letter === other.letter;
  }

  async *metadata(how: { readonly perUnit: boolean }): AsyncGenerator<MetadataExtent> {
    const { storage, descriptor } = this.#parts;
    if (descriptor !== null && this.#extents.every((extent) => extent.storage !== storage)) {
      yield { storage, fileOffset: 0, length: storage.size, what: 'descriptor', guestOffset: null };
    }
    for (const [index, extent] of this.#extents.entries()) {
      const start = this.#starts[index] ?? 0;
      for await (const one of extent.metadata(how)) {
        yield one.guestOffset === null ? one : { ...one, guestOffset: one.guestOffset + start };
      }
    }
  }

  storages(): readonly Storage[] {
    const all = this.#extents.flatMap(({ storage }) => (storage === null ? [] : [storage]));
    return [...new Set([this.#parts.storage, ...all])];
  }

  async close(): Promise<void> {
    for (const storage of this.storages()) await storage.close();
  }

  #adopt(parts: VmdkParts): void {
    this.#parts = parts;
    this.#extents = parts.extents;
    let end = 0;
    this.#starts = [0, ...parts.extents.map(({ length }) => (end += length))];
  }

  /** Each flush of changed content has its own identities: a child may be made between two of them. */
  #sealIdentities(): MetaWrite[] {
    const { descriptor, stream } = this.#parts;
    if (!this.#contentChanged || this.#changed === null || descriptor === null || stream !== undefined) return [];
    this.#contentChanged = false;
    const text = descriptor.draft();
    this.#changed.changeIdentities(text, descriptor.path);
    return descriptor.seal(text);
  }

  /** The descriptor of an image that may be changed, and a copy of its text. Throws `read-only`, `unsupported`. */
  #draft(): { readonly descriptor: DescriptorStore; readonly text: DescriptorText } {
    const { descriptor, storage, mode } = this.#parts;
    if (mode === 'read') throw imageReadOnly(storage.label);
    if (descriptor !== null) return { descriptor, text: descriptor.draft() };
    throw new ImageError('unsupported', 'The file has no descriptor: it is one extent of an image', {
      path: storage.label,
      hint: 'Change the descriptor that names it, or convert the file into a new image.',
    });
  }

  get #size(): number {
    return this.#starts.at(-1) ?? 0;
  }

  get #written(): readonly Extent[] {
    return this.#extents.filter(({ isWritten }) => isWritten);
  }

  /** The extent that holds a guest offset. */
  #at(guestOffset: number): { readonly extent: Extent; readonly start: number } {
    assert(guestOffset >= 0 && guestOffset < this.#size, 'the offset lies inside the disk');
    let [low, high] = [0, this.#extents.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] ?? 0) <= guestOffset) low = middle;
      else high = middle - 1;
    }
    const extent = this.#extents[low];
    assert(extent !== undefined, 'an image has extents');
    return { extent, start: this.#starts[low] ?? 0 };
  }

  #closed(guestOffset: number): ImageError {
    return new ImageError('read-only', 'The descriptor permits no writing to this part of the disk', {
      path: this.#parts.storage.label,
      guestOffset,
    });
  }
}

function capabilities({ mode, extents, stream, descriptor }: VmdkParts): ImageCapabilities {
  const obstacle = extents.map((extent) => extent.obstacle).find((reason) => reason !== null) ?? null;
  const write = mode === 'write' && obstacle === null && extents.some(({ isWritten }) => isWritten);
  const sparse = write && stream === undefined && extents.some(({ unit }) => unit !== null);
  return {
    write,
    readOnlyReason: mode === 'write' ? obstacle : null,
    allocate: sparse,
    zeroMarker: sparse && extents.every(({ marksZero }) => marksZero),
    discard: sparse && extents.every(({ unit }) => unit !== null),
    resize: write && stream === undefined && descriptor !== null,
    compact: sparse,
  };
}

function fixedChild(path: string): ImageError {
  return new ImageError('unsupported', 'A fixed image cannot have a parent', {
    path,
    hint: 'Convert it to a dynamic image first.',
  });
}

function trackingEnded(path: string, file: string): string {
  return `${path} recorded its changes in ${printable(file)}, which other programs keep: the entry was removed, so the next incremental backup must be a full one.`;
}

function configOf(text: DescriptorText | null, unit: number | null): NonNullable<ImageInfo['config']> {
  const values = {
    [CONFIG.adapterType]: text?.value(KEYS.adapterType) ?? null,
    [CONFIG.hardwareVersion]: text?.value(KEYS.hardwareVersion) ?? null,
    [CONFIG.grainSize]: unit,
  };
  return Object.fromEntries(
    Object.entries(values).filter((entry): entry is [string, string | number] => entry[1] !== null),
  );
}

function parentOf(text: DescriptorText): ParentReference | null {
  if (!hasParent(text)) return null;
  const { parentUuid: uuid, parentModificationUuid: modificationUuid } = uuidsOf(text);
  const hint = parentHint(text);
  const id = parentContentId(text);
  return parentReference({
    names: hint === null ? [] : [hint],
    // ESX and Windows store paths of another system; an ID tells whether a file of that name is meant.
    beside: hint === null || id === null ? null : lastPart(hint),
    uuid,
    modificationUuid,
    format: text.value(KEYS.parentFormat) ?? 'vmdk',
    contentId: id,
  });
}

/** The last part of a path in the writing of any system; null where there is nothing before it. */
function lastPart(name: string): string | null {
  const part = name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
  return part === '' || part === name || part === '.' || part === '..' ? null : part;
}

function versionOf(extents: readonly Extent[], text: DescriptorText | null): string | null {
  const sparse = extents.find((extent) => extent instanceof SparseExtent);
  return sparse instanceof SparseExtent ? String(sparse.layout.version) : (text?.value(KEYS.version) ?? null);
}

function dirtyOf(extents: readonly Extent[]): boolean | null {
  const sparse = extents.filter((extent) => extent instanceof SparseExtent);
  return sparse.length === 0 ? null : sparse.some(({ unclean }) => unclean);
}

function warningsOf({ descriptor, extents }: VmdkParts, path: string): string[] {
  const warnings = extents.flatMap((extent) => extent.warnings);
  if (descriptor === null) return [`${path} has no descriptor: it is one extent of an image.`, ...warnings];
  const { codePage } = descriptor.text;
  if (!codePage.known) warnings.push(`${path}: the code page ${codePage.name} is not known; names are read as UTF-8.`);
  if (contentId(descriptor.text) === null) warnings.push(`${path} has no content ID.`);
  const tracking = descriptor.text.value(KEYS.changeTracking);
  if (tracking !== null) {
    warnings.push(
      `${path} records its changes in ${printable(tracking)}: a write ends that, since vdkit does not keep it.`,
    );
  }
  return warnings;
}
