/** The CRC-32 of long runs of zeroes, in time that grows with the number of their digits. */

const POLYNOMIAL = 0xedb8_8320;

/** A map of 32 bits to 32 bits: the image of each bit. */
type Matrix = Uint32Array;

/** The checksum after `length` further zero bytes; `previous` is the checksum of the preceding bytes. */
export function crc32Zeroes(length: number, previous = 0): number {
  let step = oneByte();
  let crc = ~previous >>> 0;
  for (let left = length; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) crc = times(step, crc);
    step = step.map((bit) => times(step, bit));
  }
  return ~crc >>> 0;
}

/** The effect of one zero byte. */
function oneByte(): Matrix {
  return Uint32Array.from({ length: 32 }, (_, bit) => {
    let value = (1 << bit) >>> 0;
    for (let shift = 0; shift < 8; shift++) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
    return value >>> 0;
  });
}

function times(matrix: Matrix, value: number): number {
  let product = 0;
  for (let bit = 0; bit < 32; bit++) if (((value >>> bit) & 1) === 1) product ^= matrix[bit] ?? 0;
  return product >>> 0;
}

/** The checksum of bytes with the checksum `first`, followed by `length` bytes with the checksum `second`. */
export function crc32Joined(first: number, second: number, length: number): number {
  // Both are inverted at their start and their end, which cancels out.
  return (crc32Zeroes(length, ~first >>> 0) ^ 0xffff_ffff ^ second) >>> 0;
}
