/** Commits: options, and the last image after its data went further down. See merge.ts for the rest. */
import { assert, throwIfAborted } from '../../errors.ts';
import type { Progress } from '../../image/contract.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import type { ActiveImage } from '../path/active-image.ts';
import { packAfterCut } from './compact.ts';

/** Options for a commit. */
export interface CommitOptions extends OperationOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Number of the image that receives the data of the last one, 0 = base. Default: its parent. */
  readonly base?: number | undefined;
  /** Keep the data in the last image. */
  readonly keep?: boolean | undefined;
  /** Commit even if images outside the chain, or internal snapshots, depend on one that changes. */
  readonly force?: boolean | undefined;
}

/** Units freed between two flushes. */
const EMPTIED_UNITS = 65_536;
/** Unit of targets without units. */
export const UNIT = 64 * 1024;

/** Frees all data of the last image. It reads the same as its parent, however far this gets. */
export async function emptyLast(head: ActiveImage, signal: AbortSignal | undefined): Promise<void> {
  const { image } = head.last;
  const { blockSize, virtualSize } = image.info;
  assert(image.unmap !== undefined, 'an image with a parent can show it');
  await head.beginMoving();
  const step = (blockSize ?? UNIT) * EMPTIED_UNITS;
  for (let at = 0; at < virtualSize; at += step) {
    throwIfAborted(signal, 'The commit');
    await image.unmap(at, Math.min(step, virtualSize - at), 'absent');
    head.flusher.noteChange();
    await head.flusher.flush();
  }
  if (image.can.compact) await packAfterCut(head, signal);
}
