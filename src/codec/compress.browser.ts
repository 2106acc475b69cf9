/** Compression where there is no Node: nothing that is small enough keeps to the window that disk images ask for. */
import { ImageError } from '../errors.ts';

/** See compress.ts. */
export function deflateRaw(_bytes: Uint8Array): Promise<Uint8Array> {
  return refuse();
}

/** See compress.ts. */
export function zstdCompress(_bytes: Uint8Array): Promise<Uint8Array> {
  return refuse();
}

async function refuse(): Promise<never> {
  throw new ImageError('unsupported', 'Compressing is not to be had in a browser', {
    hint: 'Write the image without compression; it can be compressed in Node.',
  });
}
