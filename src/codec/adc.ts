/** Apple Data Compression, of old disk images: literals and matches at whole bytes. Decoding only. */
import { ImageError } from '../errors.ts';

/** Bytes made per step. */
const STEP = 256 * 1024;

/**
 * Decodes a chunk, which fills `bytes`, in steps of some hundred microseconds: the caller lets others run between them. Throws
 * `corrupt` for one that is damaged, or makes less or more.
 */
export function* decodeAdc(stored: Uint8Array, bytes: Uint8Array): Generator<void> {
  const size = bytes.length;
  let [at, filled] = [0, 0];
  let mark = STEP;
  while (at < stored.length) {
    if (filled >= mark) {
      mark = filled + STEP;
      yield;
    }
    const code = stored[at++] ?? 0;
    if ((code & 0x80) !== 0) {
      const length = (code & 0x7f) + 1;
      if (at + length > stored.length || filled + length > size) throw corrupt();
      bytes.set(stored.subarray(at, at + length), filled);
      at += length;
      filled += length;
      continue;
    }
    const isLong = (code & 0x40) !== 0;
    if (at + (isLong ? 2 : 1) > stored.length) throw corrupt();
    const length = isLong ? (code & 0x3f) + 4 : (code >> 2) + 3;
    const high = isLong ? (stored[at++] ?? 0) : code & 3;
    const distance = high * 256 + (stored[at++] ?? 0) + 1;
    if (distance > filled || filled + length > size) throw corrupt();
    // Byte by byte: a match may reach into what it makes.
    for (const end = filled + length; filled < end; filled++) bytes[filled] = bytes[filled - distance] ?? 0;
  }
  if (filled !== size) throw corrupt();
}

function corrupt(): ImageError {
  return new ImageError('corrupt', 'The ADC data is damaged, or makes less or more than expected');
}
