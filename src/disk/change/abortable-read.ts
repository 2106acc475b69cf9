/** Reads of long operations on the structure of a disk, which end with the signal whatever the storage does. */
import { orAborted } from '../../storage/or-aborted.ts';
import type { Chain } from '../path/chain.ts';

/** The operation that reads. */
export interface Reader {
  readonly signal: AbortSignal | undefined;
  /** Subject of messages: `The merge`. */
  readonly what: string;
}

/**
 * Reads from image `level` down. A storage that ignores the signal may deliver after the abort: then the buffer must not be
 * used again.
 */
export async function readUntilAborted(
  chain: Chain,
  level: number,
  offset: number,
  bytes: Uint8Array,
  { signal, what }: Reader,
): Promise<void> {
  const options = { signal };
  await orAborted(chain.read(level, offset, [bytes], bytes.length, {}, options), options, what);
}
