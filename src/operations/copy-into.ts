/** Copies the data of a chain into an existing disk, only where the two may differ. */
import { checkArguments } from '../arguments.ts';
import type { BlockDevice, Extent } from '../disk/device.ts';
import type { ChainDisk } from '../disk/disk.ts';
import { DISK, NUMBER_OF_IMAGE } from '../disk/kinds.ts';
import { ImageError, isImageError, throwIfAborted } from '../errors.ts';
import type { ImageChanges, ImageInfo, Progress } from '../image/contract.ts';
import { logicalForSize, physicalForSize } from '../image/geometry.ts';
import { isPromise, type MaybePromise, type OperationOptions } from '../storage/contract.ts';
import { copyContent, parallelFor } from './copy-engine.ts';
import { refuseCut } from './cut.ts';
import { OPTIONS } from './option-kinds.ts';

/** Facts about the two disks, and options for the target. */
export interface CopyIntoOptions extends OperationOptions {
  /**
   * Images 0 to this number of the source read the same as images 0 to `toSame` of the target. Wrong numbers make a
   * wrong copy.
   */
  readonly fromSame?: number | undefined;
  readonly toSame?: number | undefined;
  /** Resize the target to the size of the source first. */
  readonly resize?: boolean | undefined;
  /** Bytes to copy. Default: all of the source. */
  readonly length?: number | undefined;
  /** Permit a smaller target if the source ends in zeroes. */
  readonly shrink?: boolean | undefined;
  readonly parallel?: number | undefined;
  /** Maximum bytes per second. */
  readonly rateLimit?: number | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Result of the copy. */
export interface CopyIntoResult {
  /** Bytes written, without holes and zeroes. */
  readonly written: number;
}

/**
 * Makes the target read as one of the source's images (0 = base), durably. Data past the end of the source stays. The
 * target gets the modification UUID and, if it can store it, the geometry. After a failure or an abort the target has
 * part of the copy. Throws `invalid-argument` for impossible numbers, and for a smaller target unless `shrink`;
 * `read-only`, `unsupported`, and I/O errors. Never changes the source.
 */
export async function copyInto(
  source: ChainDisk,
  number: number | 'last',
  target: ChainDisk,
  options: CopyIntoOptions = {},
): Promise<CopyIntoResult> {
  checkArguments('copyInto', {
    source: [source, DISK],
    number: [number, NUMBER_OF_IMAGE],
    target: [target, DISK],
    options: [options, OPTIONS],
  });
  throwIfAborted(options.signal, 'The copy');
  const last = number === 'last' ? source.images.length - 1 : number;
  const info = source.images[last]?.info;
  if (info === undefined) throw noSuch(source, 'image', last, source.images.length - 1);
  checkSame(source, last, target, options);
  await refuseShared(source, target);
  const whole = source.layers(0, last);
  if (options.resize === true) await target.resize(whole.size, { signal: options.signal });
  const length = await lengthOf(whole, target, options);
  const { fromSame, toSame } = options;
  const from =
    fromSame === undefined || toSame === undefined
      ? whole
      : new Differing(whole, source.layers(fromSame + 1, last), layersAbove(target, toSame));
  const { written } = await copyContent(from, target, {
    length,
    targetIsZero: false,
    skipAbsent: fromSame !== undefined,
    sparseSize: 0,
    parallel: options.parallel ?? parallelFor(whole),
    rateLimit: options.rateLimit ?? 0,
    salvage: false,
    signal: options.signal,
    operation: 'copy',
    onProgress: options.onProgress,
  });
  await target.flush();
  await takeOver(target, info);
  return { written };
}

/** The source, as far as the target may differ. The rest is reported as absent, which a copy leaves alone. */
class Differing implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly can: BlockDevice['can'];
  readonly blockSize = 0;
  readonly read: BlockDevice['read'];
  readonly write: BlockDevice['write'];
  readonly zero: BlockDevice['zero'];
  readonly flush: BlockDevice['flush'];
  readonly close: BlockDevice['close'];
  readonly #whole: ChainDisk;
  readonly #above: ChainDisk;
  readonly #target: ChainDisk | null;

  constructor(whole: ChainDisk, above: ChainDisk, target: ChainDisk | null) {
    this.#whole = whole;
    this.#above = above;
    this.#target = target;
    this.label = whole.label;
    this.size = whole.size;
    this.can = whole.can;
    this.read = whole.read.bind(whole);
    this.write = whole.write.bind(whole);
    this.zero = whole.zero.bind(whole);
    this.flush = whole.flush.bind(whole);
    this.close = whole.close.bind(whole);
  }

  extentAt(offset: number, end: number): MaybePromise<Extent> {
    const own = this.#above.extentAt(offset, end);
    return isPromise(own) ? own.then((found) => this.#judge(found)) : this.#judge(own);
  }

  async #judge(own: Extent): Promise<Extent> {
    if (own.state !== 'absent' || this.#target === null) return own;
    const rest = this.#target.size - own.offset;
    if (rest <= 0) return own;
    const there = await this.#target.extentAt(own.offset, own.offset + Math.min(own.length, rest));
    if (there.state === 'absent') return { ...own, length: there.length };
    // The target has data here: it must read what stands further down in the source.
    const found = await this.#whole.extentAt(own.offset, own.offset + there.length);
    return found.state === 'absent' ? { ...found, state: 'zero' } : found;
  }
}

function layersAbove(target: ChainDisk, number: number): ChainDisk | null {
  const top = target.images.length - 1;
  return number === top ? null : target.layers(number + 1, top);
}

function checkSame(source: ChainDisk, last: number, target: ChainDisk, { fromSame, toSame }: CopyIntoOptions): void {
  if (fromSame === undefined && toSame === undefined) return;
  if (fromSame === undefined || toSame === undefined) {
    throw new ImageError('invalid-argument', 'fromSame and toSame must be given together', {
      path: source.label,
      expected: 'both fromSame and toSame, or neither',
    });
  }
  if (!Number.isInteger(fromSame) || fromSame < 0 || fromSame >= last)
    throw noSuch(source, 'fromSame', fromSame, last - 1);
  const most = target.images.length - 1;
  if (!Number.isInteger(toSame) || toSame < 0 || toSame > most) throw noSuch(target, 'toSame', toSame, most);
}

function noSuch({ label }: ChainDisk, what: string, found: number, most: number): ImageError {
  return new ImageError('invalid-argument', `The chain has no image with that number (${what})`, {
    status: 'VERR_VD_IMAGE_NOT_FOUND',
    path: label,
    found,
    expected: most < 0 ? 'nothing: the image has no parent' : `0 to ${most}`,
  });
}

/** Throws when the target is being read: writing would destroy both. A common base is only read. */
async function refuseShared(source: ChainDisk, target: ChainDisk): Promise<void> {
  const own = await source.identities();
  for (const key of await target.identities('last')) {
    if (!own.has(key)) continue;
    throw new ImageError('invalid-argument', 'The target is an image of the source chain', {
      path: target.label,
    });
  }
}

async function lengthOf(source: ChainDisk, target: ChainDisk, options: CopyIntoOptions): Promise<number> {
  const { length, shrink, signal } = options;
  const most = Math.min(source.size, target.size);
  if (length !== undefined) {
    if (Number.isSafeInteger(length) && length >= 0 && length <= most) return length;
    throw new ImageError('invalid-argument', 'The length to copy is not valid', {
      path: target.label,
      found: length,
      expected: `0 to ${most}`,
    });
  }
  await refuseCut(source, { size: target.size, path: target.label, shrink, signal });
  return most;
}

/** Copies the source's metadata, as far as the target can store it. */
async function takeOver(target: ChainDisk, { geometry, modificationUuid }: ImageInfo): Promise<void> {
  const { size } = target;
  const physical = geometry.physical === null ? null : physicalForSize(geometry.physical, size);
  const logical = logicalForSize(geometry.logical, size);
  const facts: ImageChanges[] = [
    ...(physical === null ? [] : [{ geometry: { physical } }]),
    ...(logical === null ? [] : [{ geometry: { logical } }]),
    ...(modificationUuid === null ? [] : [{ modificationUuid }]),
  ];
  for (const fact of facts) {
    try {
      await target.set('last', fact);
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'unsupported') throw error;
    }
  }
}
