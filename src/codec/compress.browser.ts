/**
 * Compression in browsers: zlib streams only, since no small library keeps to the window size that other disk images
 * need.
 */
import { ImageError } from '../errors.ts';

/** Always rejects: unsupported in a browser. */
export function deflateRaw(_bytes: Uint8Array): Promise<Uint8Array> {
  return refuse();
}

/** Compresses into a zlib stream (RFC 1950). `level`: 0, stored, 1, fastest, to 9, smallest. */
export async function deflateZlib(bytes: Uint8Array, level: number): Promise<Uint8Array> {
  const { zlibSync } = await import('fflate');
  return zlibSync(bytes, { level: Math.min(Math.max(Math.round(level), 0), 9) as 6 });
}

/** Always rejects: unsupported in a browser. */
export function zstdCompress(_bytes: Uint8Array): Promise<Uint8Array> {
  return refuse();
}

async function refuse(): Promise<never> {
  throw new ImageError('unsupported', 'Compression is not available in a browser', {
    hint: 'Write the image without compression; it can be compressed in Node.',
  });
}
