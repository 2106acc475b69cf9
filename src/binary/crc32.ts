/** CRC-32 as used by zlib, Ethernet and UDIF images. */
import { makeCrc } from './crc.ts';

const POLYNOMIAL = 0xedb8_8320;

const compute = makeCrc(POLYNOMIAL);

/** The checksum of `bytes`. `previous` is the checksum of the preceding bytes. */
export function crc32(bytes: Uint8Array, previous = 0): number {
  return compute(bytes, previous);
}
