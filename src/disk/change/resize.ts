/** Resizing of the last image of a chain, so that new space reads as zero whatever is below. */
import { alignUp, largest, SECTOR } from '../../binary/numbers.ts';
import { assert, ImageError } from '../../errors.ts';
import type { Image, ImageChanges, Mapping, Progress } from '../../image/contract.ts';
import { checkGeometry } from '../../image/geometry.ts';
import { isPromise, type OperationOptions } from '../../storage/contract.ts';
import { Turns } from '../../storage/turns.ts';
import { requireSystemLocks } from '../open/locking.ts';
import type { Chain, ChainImage } from '../path/chain.ts';
import { isStored, readStored } from '../path/stored.ts';
import type { WritePath } from '../path/write-path.ts';
import { packAfterCut, tidy } from './compact.ts';
import type { DiskHost } from './host.ts';

/** Options for a resize. */
export interface DiskResizeOptions extends OperationOptions {
  /** Discard data past the new end. */
  readonly shrink?: boolean | undefined;
  /**
   * Geometry to store afterwards. Default: heads and sectors stay, and cylinders, if set, follow the size; null: none.
   */
  readonly geometry?: ImageChanges['geometry'] | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Parameters of a resize. The caller holds the whole disk. */
export interface ResizeJob {
  readonly chain: Chain;
  readonly image: Image;
  readonly writes: WritePath;
  readonly flush: () => Promise<void>;
  /** Records a change of a range; an empty range: only metadata changed. */
  readonly noteChange: (offset: number, length: number) => void;
  readonly size: number;
  readonly options: DiskResizeOptions;
}

/**
 * Bytes before the old end that are stored so that the following ones belong to this image. The last sector is enough,
 * since a part of a unit may be placed separately.
 */
const ANCHOR = 512;

/** Bytes examined at a time. */
const PIECE = 1024 * 1024;

/**
 * Rejects an impossible size, and discarding data without permission. Called before the first change: a refused resize
 * must not give the image a new modification UUID.
 */
export async function checkResize(chain: Chain, size: number, how: DiskResizeOptions): Promise<void> {
  const { image, name: label } = chain.last;
  if (!Number.isSafeInteger(size) || size < SECTOR || size % SECTOR !== 0) {
    throw new ImageError('invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      path: label,
      found: size,
      expected: 'a multiple of 512, at least 512',
    });
  }
  const { virtualSize, blockSize } = image.info;
  if (how.shrink === true || size >= virtualSize) return;
  // A unit that is cut stays; what counts is whether anything stands in its lost part, and everywhere without units.
  const firstWhole = blockSize === null ? virtualSize : Math.min(alignUp(size, blockSize), virtualSize);
  const turns = new Turns(how.signal, 'The resize');
  for (let at = size; at < virtualSize; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const inPart = at < firstWhole;
    const end = inPart ? Math.min(at + PIECE, firstWhole) : virtualSize;
    const answer = image.map(at, end - at);
    const mapping = isPromise(answer) ? await answer : answer;
    const hole = inPart && !chain.filters.active ? await holeIn(mapping) : 0;
    if (isStored(mapping) && hole === 0) {
      const bytes = new Uint8Array(Math.min(mapping.length, PIECE));
      if (inPart) await readStored(image, mapping, at, bytes);
      if (!inPart || !(await chain.filters.standForZeroes(at, bytes))) throw wouldLose(label, at);
    }
    // Without units a disk lies in its file as a whole, and so does a hole.
    at += blockSize === null ? Math.max(hole, mapping.length) : mapping.length;
  }
}

/** Bytes from the start of a run on that its file has as a hole. A run with a beginning of data has none. */
async function holeIn(mapping: Mapping): Promise<number> {
  if (mapping.kind !== 'data') return 0;
  const { data, end } = await mapping.storage.extentAt(mapping.fileOffset);
  return data || end < mapping.fileOffset + mapping.length ? 0 : end - mapping.fileOffset;
}

function wouldLose(label: string, guestOffset: number): ImageError {
  return new ImageError('unsupported', 'The image contains data beyond the new end of the disk', {
    status: 'VERR_VD_SHRINK_NOT_SUPPORTED',
    path: label,
    guestOffset,
    hint: 'To discard this data, shrink explicitly (on the command line: --shrink).',
  });
}

/** Resizes the last image of the disk, for `disk.resize`. */
export async function resizeOf(host: DiskHost, size: number, options: DiskResizeOptions): Promise<void> {
  const { last } = host.head;
  const { image, name, format } = last;
  if (!image.can.resize) {
    const { allocation, blockSize } = image.info;
    const placed = 'The device or partition that holds it decides its size: copy it to a file (convert).';
    const hint = allocation === 'fixed' ? 'Convert it to a dynamic image.' : blockSize === null ? placed : undefined;
    throw new ImageError('unsupported', `This ${format} image cannot be resized`, { path: name, hint });
  }
  checkGeometry(options.geometry ?? {});
  host.head.chain.filters.checkSymmetric(name, 'Resizing');
  if (size !== host.head.chain.size || image.resizePending === true) {
    await checkResize(host.head.chain, size, options);
    await image.checkSize?.(size);
    await host.changing(() => resizeAlone(host, size, options));
  }
  const { geometry } = options;
  if (geometry !== undefined) await host.exclusive(() => setGeometry(host, geometry));
}

async function resizeAlone(host: DiskHost, size: number, options: DiskResizeOptions): Promise<void> {
  const { head } = host;
  const { chain, last, writes, flusher } = head;
  await requireSystemLocks(last.image.storages(), host.options);
  await head.pushOut();
  const cuts = size < chain.size || last.image.resizePending === true;
  await resizeLast({
    chain,
    image: last.image,
    writes,
    flush: () => flusher.flush(),
    noteChange: (offset, length) => head.noteChange(offset, length),
    size,
    options,
  });
  // What was cut off left room at the end, which no hole tells of.
  if (cuts) await packAfterCut(head, options.signal);
  else await tidy(head, options.signal);
}

async function setGeometry(host: DiskHost, geometry: NonNullable<ImageChanges['geometry']>): Promise<void> {
  const { image } = host.head.last;
  await host.quiesce();
  await image.set?.({ geometry });
}

/** The size, if the parent of a merge gets another one; null: it has it. Throws `unsupported`, `limit`. Touches nothing. */
export async function checkGrowth({ image, name }: ChainImage, size: number): Promise<number | null> {
  const { virtualSize } = image.info;
  if (size === virtualSize) return null;
  if (size < virtualSize || !image.can.resize) {
    throw new ImageError('unsupported', 'The two images have different sizes, and the parent cannot be resized', {
      path: name,
      found: `${virtualSize} bytes`,
      expected: `${size} bytes`,
      hint: 'Merge forward, or resize first.',
    });
  }
  await image.checkSize?.(size);
  return size;
}

/** Resizes the last image. A longer parent stays hidden: new units are marked as zero, a partial unit is stored. */
export async function resizeLast(job: ResizeJob): Promise<void> {
  const { chain, image, size, options } = job;
  assert(image.resize !== undefined, 'an image that can be resized has resize');
  const old = image.info.virtualSize;
  const hidden = hiddenUpTo(chain);
  const longerParent = size > old && hidden > old;
  await storeCutUnit(job, Math.min(old, size), longerParent);
  await job.flush();
  try {
    await image.resize(size, {
      fill: longerParent ? 'zero' : 'absent',
      fillEnd: Math.min(hidden, size),
      shrink: options.shrink ?? false,
      signal: options.signal,
      onProgress: options.onProgress,
    });
  } finally {
    // Done, or ended halfway, when the size may have changed all the same: the next flush has something to make durable.
    chain.resized();
    // What is new may have been something else before the disk was cut there.
    job.noteChange(old, Math.max(chain.size - old, 0));
  }
  // Room that is there already, such as a fixed image's or the rest of a unit, holds zeroes that filters would not read so.
  if (size > old && chain.filters.active) await zeroStored(job, old);
}

/** Zeroes the stored data from `start` on. */
async function zeroStored({ image, size, writes }: ResizeJob, start: number): Promise<void> {
  for (let at = start; at < size; ) {
    const answer = image.map(at, size - at);
    const mapping = isPromise(answer) ? await answer : answer;
    if (isStored(mapping)) await writes.zero(at, mapping.length, false);
    at += mapping.length;
  }
}

/** End of the images below; unknown for images that were not opened. */
function hiddenUpTo(chain: Chain): number {
  if (chain.incomplete !== null) return Number.MAX_SAFE_INTEGER;
  return largest(
    chain.images.slice(0, -1).map(({ image }) => image.info.virtualSize),
    0,
  );
}

/**
 * The new end may lie inside a unit whose rest must read as zero. To be written there, the unit is stored again if it
 * is compressed or shared, and if a longer parent supplies it (`hides`), since that would expose the parent's data past
 * the end.
 */
async function storeCutUnit(job: ResizeJob, end: number, hides: boolean): Promise<void> {
  const unit = job.image.info.blockSize ?? 0;
  if (unit === 0 || end % unit === 0) return;
  const start = end - ANCHOR;
  const answer = job.image.map(start, 1);
  const mapping = isPromise(answer) ? await answer : answer;
  const stored = isStored(mapping)
    ? mapping.kind === 'encoded' || !mapping.writable
    : mapping.kind === 'absent' && hides;
  if (stored) await job.writes.materialize(start, ANCHOR);
}
