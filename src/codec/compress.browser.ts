/** Compression in browsers: unsupported, since no small library keeps to the window size that disk images need. */
import { ImageError } from '../errors.ts';

/** Always rejects: unsupported in a browser. */
export function deflateRaw(_bytes: Uint8Array): Promise<Uint8Array> {
  return refuse();
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
