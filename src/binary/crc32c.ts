/** CRC-32C (Castagnoli), which guards every structure of a VHDX file. */
import { makeCrc } from './crc.ts';

const POLYNOMIAL = 0x82f6_3b78;

const compute = makeCrc(POLYNOMIAL);

/** The checksum of `bytes`. `previous` is the checksum of the preceding bytes. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  return compute(bytes, previous);
}
