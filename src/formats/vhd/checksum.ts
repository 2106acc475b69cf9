/** The checksum of footers and headers: the complement of the sum of all bytes but those of the checksum. */

/** The checksum of a structure whose checksum field begins at `field`. */
export function checksumOf(bytes: Uint8Array, field: number): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  for (let at = field; at < field + 4; at++) sum -= bytes[at] ?? 0;
  return ~sum >>> 0;
}
