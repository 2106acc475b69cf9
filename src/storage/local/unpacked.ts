/** A temporary file with what a compressed file contains. */
import * as os from 'node:os';
import { ImageError, isImageError } from '../../errors.ts';
import type { Storage } from '../contract.ts';
import { type SpoolOptions, stdinSpool } from './pipe.ts';

/** A temporary file, and its place for messages. */
export interface UnpackedFile {
  readonly storage: Storage;
  readonly directory: string;
}

/** By the kind of the failure. */
const HINTS: Readonly<Record<string, string>> = {
  'no-space': 'free space there, or set TMPDIR to a directory with more',
  'not-found': 'set TMPDIR to a directory that exists',
  denied: 'set TMPDIR to a directory that may be written',
  'read-only': 'set TMPDIR to a directory that may be written',
};

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
    if (!isImageError(error)) throw error;
    const hint = HINTS[error.kind];
    if (hint === undefined) throw error;
    const { kind, message, context } = error;
    throw new ImageError(kind, message, {
      ...context,
      hint: `The temporary file is in ${directory}: ${hint}.`,
      cause: error,
    });
  }
}
