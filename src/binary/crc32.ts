/** CRC-32 as zlib, Ethernet and UDIF images use it. */
import { makeCrc } from './crc.ts';

const POLYNOMIAL = 0xedb8_8320;

const compute = makeCrc(POLYNOMIAL);

/** The checksum of `bytes`. `previous` is the checksum of what came before them. */
export function crc32(bytes: Uint8Array, previous = 0): number {
  return compute(bytes, previous);
}
