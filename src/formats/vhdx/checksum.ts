/** Checksums of VHDX: CRC-32C over a structure whose own field counts as zero. */
import { crc32c } from '../../binary/crc32c.ts';

const FIELD = 4;
const NOTHING = new Uint8Array(4);

/** The checksum of a structure. */
export function checksumOf(bytes: Uint8Array): number {
  const before = crc32c(NOTHING, crc32c(bytes.subarray(0, FIELD)));
  return crc32c(bytes.subarray(FIELD + NOTHING.length), before);
}

/** True when the checksum that a structure has fits. */
export function checksumFits(bytes: Uint8Array): boolean {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(FIELD, true) === checksumOf(bytes);
}

/** Stores the checksum of a structure in it. */
export function putChecksum(bytes: Uint8Array): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(FIELD, checksumOf(bytes), true);
}
