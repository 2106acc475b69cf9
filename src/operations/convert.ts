/** Conversion: copies the data of one disk, with its chain flattened, into a new image or an existing one. */
import { checkArguments } from '../arguments.ts';
import { type BlockDevice, requireRandom } from '../disk/device.ts';
import { ChainDisk } from '../disk/disk.ts';
import { isDevice, SOURCE, SOURCE_OR_DEVICE } from '../disk/kinds.ts';
import { type Resolved, resolve } from '../disk/open/environment.ts';
import type { UnwrapOnce } from '../disk/open/open-image.ts';
import type { ConvertOptions, ConvertResult, ImageSource } from '../disk/options.ts';
import { ImageError, throwIfAborted } from '../errors.ts';
import { keyWithRole } from '../image/config.ts';
import type { ConfigKey, Format, ImageInfo } from '../image/contract.ts';
import { type FileAttributes, isPromise, type Source } from '../storage/contract.ts';
import { differenceWithin } from './compare.ts';
import { type CopyOptions, type CopyResult, parallelFor, type StartedCopy, startCopy } from './copy-engine.ts';
import { holdParent, stageImage, targetFormat } from './create.ts';
import { refuseCut } from './cut.ts';
import { ForwardDisk } from './forward-disk.ts';
import { lostOf } from './lost.ts';
import { diskOfNew } from './new-disk.ts';
import { openIn } from './open.ts';
import { OPTIONS } from './option-kinds.ts';

/** Also qemu-img's default: shorter runs of zeroes are not worth a seek. */
const SPARSE_SIZE = 4096;

/**
 * Copies the data of `source` into `target`. A new target appears only when it is complete and durable; after a failure
 * or an abort nothing is left of it. With `into` an existing image is overwritten in place, and its data past the end
 * of the source is kept. A target smaller than the source is refused, unless `shrink`. Throws the errors of opening,
 * creating and I/O; never changes the source.
 */
export async function convert(
  source: ImageSource | BlockDevice,
  target: ImageSource,
  options: ConvertOptions = {},
): Promise<ConvertResult> {
  checkArguments('convert', {
    source: [source, SOURCE_OR_DEVICE],
    target: [target, SOURCE],
    options: [options, OPTIONS],
  });
  const own = await resolve(options);
  throwIfAborted(own.environment.signal, 'The conversion');
  const place = own.environment.sourceOf(target);
  if (isDevice(source)) return convertDevice(source, place, own, source instanceof ForwardDisk ? source.warnings : []);
  const once = { surprised: false };
  if (readsOnce(own)) {
    try {
      return await convertImage(source, place, own, once);
    } catch (error) {
      if (!once.surprised) throw error;
      // Nothing is left of the target: again, with what is unpacked in a file.
    }
  }
  return convertImage(source, place, own, true);
}

async function convertImage(
  source: ImageSource,
  place: Source,
  options: Resolved<ConvertOptions>,
  unwrap: true | UnwrapOnce,
): Promise<ConvertResult> {
  const disk = await openSource(source, options, unwrap);
  try {
    return await convertDevice(disk, place, options, disk.warnings);
  } finally {
    await disk.close();
  }
}

/** True when each byte of the source is read once, and the target is new: it is gone after a failure. */
function readsOnce(options: Resolved<ConvertOptions>): boolean {
  const { into, verify, salvage, shrink, size, parent, sourceParent, sourceSnapshot, sourceCache } = options;
  const flags = [into, verify, salvage, shrink];
  const values = [size, parent, sourceParent, sourceSnapshot, sourceCache];
  return !flags.includes(true) && values.every((value) => value === undefined);
}

function openSource(
  source: ImageSource,
  options: Resolved<ConvertOptions>,
  unwrap: true | UnwrapOnce,
): Promise<ChainDisk> {
  const { environment, sourceFormat, sourceParent, sourceParentFormat, sourceSnapshot, sourceCache, forceShare } =
    options;
  const { sourceConfig } = options;
  return openIn(sourceConfig === undefined ? source : { image: source, config: sourceConfig }, {
    environment,
    forceShare,
    format: sourceFormat,
    parent: sourceParent,
    parentFormat: sourceParentFormat,
    snapshot: sourceSnapshot,
    cache: sourceCache,
    withoutDamagedParents: options.salvage,
    unwrap,
  });
}

async function convertDevice(
  source: BlockDevice,
  target: Source,
  options: Resolved<ConvertOptions>,
  warnings: readonly string[],
): Promise<ConvertResult> {
  if (options.verify === true) requireRandom(source, 'Verifying a copy');
  const result =
    options.into === true ? await convertInto(source, target, options) : await convertNew(source, target, options);
  return { ...result, warnings: [...warnings, ...lostIn(source, options), ...result.warnings] };
}

/** Facts that the source has in addition to its data. An existing image keeps its own comment and geometry. */
function lostIn(source: BlockDevice, { into, comment, geometry, sourceSnapshot }: Resolved<ConvertOptions>): string[] {
  const last = originalOf(source);
  if (last === undefined) return [];
  const own = into === true ? last.info : { comment: comment ?? null, geometry: geometryOf(geometry) };
  return lostOf(last.info, last.name, { ...own, config: {}, oneState: sourceSnapshot !== undefined });
}

function originalOf(source: BlockDevice): { readonly info: ImageInfo; readonly name: string } | undefined {
  if (source instanceof ForwardDisk) return { info: source.info, name: source.label };
  return source instanceof ChainDisk ? source.images.at(-1) : undefined;
}

function geometryOf(geometry: ConvertOptions['geometry']): ImageInfo['geometry'] {
  return { physical: geometry?.physical ?? null, logical: geometry?.logical ?? null };
}

/**
 * Copies the data of a device into a new image. `continues`: the file that the image replaces, whose attributes it
 * gets.
 */
export async function convertNew(
  source: BlockDevice,
  place: Source,
  options: Resolved<ConvertOptions>,
  continues?: FileAttributes,
): Promise<ConvertResult> {
  const { parent } = options;
  if (parent === undefined) return convertOver(undefined, source, place, options, continues);
  await using held = await holdParent(parent, options);
  return await convertOver(held.source, source, place, options, continues);
}

async function convertOver(
  parent: Source | undefined,
  source: BlockDevice,
  place: Source,
  options: Resolved<ConvertOptions>,
  continues: FileAttributes | undefined,
): Promise<ConvertResult> {
  const { size = source.size, shrink, environment, parentChain } = options;
  const { signal } = environment;
  await refuseCut(source, { size, path: source.label, shrink, signal });
  const { own, keep } = source instanceof ChainDisk ? await replaceable(source, place) : NOTHING_READ;
  const sources = source instanceof ChainDisk ? await source.attributes() : [];
  const config = compressedConfig(place, options);
  // What is compressed is cut into units that only the target knows. Anything else is read while the target is made.
  const inUnits = compresses(options) || encodesAlways(place, options);
  const copy = inUnits ? null : startCopy(source, copyOptions(source, Math.min(source.size, size), options));
  try {
    const made = await stageImage(
      place,
      { ...options, ...config, size },
      {
        own,
        keep,
        sources,
        sizeOfSource: size === source.size,
        parentChain,
        parent,
        continues,
      },
    );
    try {
      const disk = await diskOfNew(made, parent, options);
      const copied = await copyAndClose(source, disk, options, copy);
      const lost = await made.staged.publish();
      return {
        size,
        written: copied.written,
        unreadable: copied.unreadable,
        warnings: [...made.warnings, ...disk.warnings, ...lost],
      };
    } catch (error) {
      await made.staged.discard();
      throw error;
    }
  } catch (error) {
    await copy?.cancel();
    throw error;
  }
}

async function convertInto(
  source: BlockDevice,
  place: Source,
  options: Resolved<ConvertOptions>,
): Promise<ConvertResult> {
  const { environment, format, shareable } = options;
  if (typeof options.compress === 'number') {
    throw new ImageError('unsupported', 'A level of compression is for new images', {
      path: place.name,
      hint: 'Remove the level (on the command line: --compress alone).',
    });
  }
  const present = await place.provider.lookUp(place.name);
  if (present !== null) await refuseSameFile(source, place.name, [present.key]);
  const disk = await openIn(place, {
    environment,
    mode: 'write',
    shareable,
    format,
  });
  try {
    await refuseSameFile(source, disk.label, await disk.identities('last'));
    await refuseCut(source, { size: disk.size, path: disk.label, shrink: options.shrink, signal: environment.signal });
  } catch (error) {
    await closeAfter(disk);
    throw error;
  }
  const rest = await restOf(disk, source.size);
  const copied = await copyAndClose(source, disk, options, null);
  const { written, unreadable } = copied;
  return { size: disk.size, written, unreadable, warnings: [...disk.warnings, ...rest] };
}

/** Warning if a larger target has data past the end of the copy. Stored zeroes are not searched for. */
async function restOf(disk: ChainDisk, end: number): Promise<string[]> {
  for (let at = end; at < disk.size; ) {
    const answer = disk.extentAt(at, disk.size);
    const { state, length } = isPromise(answer) ? await answer : answer;
    if (state === 'data') {
      return [`${disk.label} is larger than the source: its data from byte ${end} on is unchanged.`];
    }
    at += length;
  }
  return [];
}

/** Keys of files that the source is read from. */
interface ReadFiles {
  /** They may be replaced all the same. */
  readonly own: ReadonlySet<string>;
  readonly keep: ReadonlySet<string>;
}

const NOTHING_READ: ReadFiles = { own: new Set(), keep: new Set() };

/**
 * The image itself may be replaced, all files of it, by what it reads. Throws when the target is another file of its
 * chain.
 */
async function replaceable(source: ChainDisk, { provider, name }: Source): Promise<ReadFiles> {
  const present = await provider.lookUp(name);
  const inUse = await source.filesInUse();
  if (present !== null && present.key === source.lastKey) {
    const own = await source.identities('last');
    return { own, keep: new Set([...inUse].filter((key) => !own.has(key))) };
  }
  if (present === null || !inUse.has(present.key)) return { own: new Set(), keep: inUse };
  throw new ImageError('exists', 'The new image would replace a file of the source', {
    path: name,
    hint: 'Choose another name.',
  });
}

/** Throws when the target is being read: writing would destroy both. A common base is only read. */
async function refuseSameFile(source: BlockDevice, target: string, keys: Iterable<string>): Promise<void> {
  if (!(source instanceof ChainDisk)) return;
  const read = await source.identities();
  for (const key of keys) {
    if (!read.has(key)) continue;
    throw new ImageError('invalid-argument', 'The target is a file of the source', { path: target });
  }
}

/** Closes after a failure, which matters more than a failure to close. */
async function closeAfter(disk: ChainDisk): Promise<void> {
  await disk.close({ incomplete: true }).catch(() => {});
}

async function copyAndClose(
  source: BlockDevice,
  disk: ChainDisk,
  options: Resolved<ConvertOptions>,
  started: StartedCopy | null,
): Promise<CopyResult> {
  try {
    const copied = await copyInto(source, disk, options, started);
    await disk.close();
    return copied;
  } catch (error) {
    await closeAfter(disk);
    throw error;
  }
}

/**
 * The key of the method, or of the level if that is asked for. Null: an image that is all compressed, in the way of its
 * format. Throws `unsupported`.
 */
export function compressionKey(
  format: Format,
  { compress, variant = [], config = {} }: Pick<ConvertOptions, 'compress' | 'variant' | 'config'>,
): ConfigKey | null {
  const isLevel = typeof compress === 'number';
  const key = keyWithRole(format.configKeys, isLevel ? 'compression level' : 'compression');
  const always = format.encodesAlways?.({ variant, config });
  if (key !== undefined && always !== false) return key;
  if (always === true && !isLevel) return null;
  const what = isLevel && always !== false ? 'has no levels of compression' : 'cannot store compressed data';
  const word = format.variants.find((one) => format.encodesAlways?.({ variant: [one.word] }) === true)?.word;
  throw new ImageError('unsupported', `The format ${format.name} ${what}`, {
    hint:
      word === undefined
        ? 'Remove the compression, or its level (on the command line: --compress).'
        : `Choose variant ${word} (on the command line: --variant ${word}), or remove the compression (--compress).`,
  });
}

/** Config values of a new compressed image. Throws `unsupported`, `invalid-argument`. */
function compressedConfig(target: Source, options: Resolved<ConvertOptions>): Pick<ConvertOptions, 'config'> {
  const { compress = false, config = {} } = options;
  if (compress === false) return {};
  const format = targetFormat(target, options);
  const key = compressionKey(format, options);
  if (key === null || compress === true) return {};
  const { name, values = [compress] } = key;
  if (!values.includes(compress)) {
    throw new ImageError('unsupported', `The format ${format.name} does not compress with ${compress}`, {
      hint: `Supported methods: ${values.join(', ')}.`,
    });
  }
  const given = config[name];
  if (given !== undefined && given !== compress) {
    throw new ImageError('invalid-argument', `The value of ${name} contradicts option compress`, {
      field: name,
      found: String(given),
      expected: compress,
      hint: 'Omit one of them.',
    });
  }
  return { config: { ...config, [name]: compress } };
}

/** Rejects an image without compression, or with another method than requested. */
function checkCompression({ compress = false }: Pick<ConvertOptions, 'compress'>, disk: ChainDisk): void {
  if (compress === false) return;
  const method = disk.compression?.method ?? null;
  if (method !== null && (compress === true || compress === method || typeof compress === 'number')) return;
  const what = method === null ? 'cannot store compressed data' : `compresses with ${method}, not with ${compress}`;
  throw new ImageError('unsupported', `The image ${what}`, { path: disk.label });
}

async function copyInto(
  source: BlockDevice,
  disk: ChainDisk,
  options: Resolved<ConvertOptions>,
  started: StartedCopy | null,
): Promise<CopyResult> {
  const length = Math.min(source.size, disk.size);
  checkCompression(options, disk);
  const { compression } = disk;
  const unit = compresses(options) || compression?.must === true ? compression?.unit : undefined;
  const copied = await (started ?? startCopy(source, copyOptions(source, length, options, unit))).into(disk);
  // Behind the end of the source a new image reads zero, not what its parent holds there.
  if (options.into !== true && options.parent !== undefined && options.skipAbsent !== true && length < disk.size)
    await disk.zero(length, disk.size - length);
  await disk.flush();
  if (options.verify === true && copied.unreadable.length === 0) await verify(source, disk, options);
  return copied;
}

function copyOptions(
  source: BlockDevice,
  length: number,
  options: Resolved<ConvertOptions>,
  compress = 0,
): CopyOptions {
  return {
    length,
    targetIsZero: readsZeroAtFirst(options),
    skipAbsent: options.skipAbsent ?? false,
    compress,
    sparseSize: options.sparseSize ?? SPARSE_SIZE,
    parallel: options.parallel ?? parallelFor(source),
    rateLimit: options.rateLimit ?? 0,
    salvage: options.salvage ?? false,
    signal: options.environment.signal,
    operation: 'convert',
    onProgress: options.onProgress,
  };
}

/** True for a new image without a parent, which reads as zero. */
function readsZeroAtFirst({ into, parent }: Pick<ConvertOptions, 'into' | 'parent'>): boolean {
  return into !== true && parent === undefined;
}

function encodesAlways(target: Source, options: Resolved<ConvertOptions>): boolean {
  const { variant = [], config = {} } = options;
  return targetFormat(target, options).encodesAlways?.({ variant, config }) ?? false;
}

function compresses({ compress = false }: Pick<ConvertOptions, 'compress'>): boolean {
  return compress !== false;
}

async function verify(source: BlockDevice, disk: ChainDisk, options: Resolved<ConvertOptions>): Promise<void> {
  const { signal } = options.environment;
  // What an image that was there holds behind the end of the source is its own.
  const difference = await differenceWithin(source, disk, options.into === true ? source.size : disk.size, { signal });
  if (difference === null) return;
  throw new ImageError('io', 'Verification failed: target differs from source', {
    path: disk.label,
    guestOffset: difference,
    hint: 'The storage device or the memory of this computer may be faulty.',
  });
}
