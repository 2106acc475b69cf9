/** A temporary file with what a compressed file contains. */
import * as os from 'node:os';
import { isImageError, withContext } from '../../errors.ts';
import type { Storage } from '../contract.ts';
import { type SpoolOptions, stdinSpool } from './pipe.ts';

/** A temporary file, and its place for messages. */
export interface UnpackedFile {
  readonly storage: Storage;
  readonly directory: string;
}

/**
 * Writes chunks into an unnamed temporary file, zeroes as holes. It disappears when the storage is closed or the process
 * ends. Throws `no-space`, `io`, and what the chunks throw.
 */
export async function unpackedFile(
  chunks: AsyncIterable<Uint8Array>,
  options: Pick<SpoolOptions, 'label' | 'signal'>,
): Promise<UnpackedFile> {
  const directory = os.tmpdir();
  try {
    return { storage: await stdinSpool(chunks, { ...options, directory }), directory };
  } catch (error) {
    if (!isImageError(error) || error.kind !== 'no-space') throw error;
    throw withContext(error, {
      hint: `The temporary file is in ${directory}: free space there, or set TMPDIR to a directory with more.`,
    });
  }
}
