/** Changing the size of the last image of a chain, so that new space reads zero whatever lies below. */
import { assert } from '../errors.ts';
import type { Image, Progress } from '../image/contract.ts';
import { isPromise, type OperationOptions } from '../storage/contract.ts';
import type { Chain } from './chain.ts';
import type { WritePath } from './write-path.ts';

/** How a disk changes its size. */
export interface DiskResizeOptions extends OperationOptions {
  /** Give up data beyond the new end. */
  readonly shrink?: boolean;
  readonly onProgress?: (progress: Progress) => void;
}

/** What a resize works on. The caller holds the whole disk. */
export interface ResizeJob {
  readonly chain: Chain;
  readonly image: Image;
  readonly writes: WritePath;
  readonly flush: () => Promise<void>;
  readonly noteChange: () => void;
  readonly size: number;
  readonly options: DiskResizeOptions;
}

/** Bytes of a unit's beginning that are stored so that its hidden end belongs to this image. One sector is enough. */
const ANCHOR = 512;

/** Resizes the last image. A longer parent stays hidden: new units are marked zero, a unit that was cut is stored. */
export async function resizeLast(job: ResizeJob): Promise<void> {
  const { chain, image, size, options } = job;
  assert(image.resize !== undefined, 'an image that can be resized has resize');
  const old = image.info.virtualSize;
  const longerParent = size > old && chain.hasParent(chain.top);
  if (longerParent) await storeCutUnit(job, old);
  job.noteChange();
  await job.flush();
  await image.resize(size, {
    fill: longerParent ? 'zero' : 'absent',
    shrink: options.shrink ?? false,
    signal: options.signal,
    onProgress: options.onProgress,
  });
}

/** The old end may lie inside a unit that the parent answers for: its rest would show what the parent has there. */
async function storeCutUnit(job: ResizeJob, old: number): Promise<void> {
  const unit = job.image.info.blockSize ?? 0;
  const inside = unit === 0 ? 0 : old % unit;
  if (inside === 0) return;
  const start = old - inside;
  const answer = job.image.map(start, 1);
  const mapping = isPromise(answer) ? await answer : answer;
  if (mapping.kind === 'absent') await job.writes.materialize(start, Math.min(ANCHOR, inside));
}
