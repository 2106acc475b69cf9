/** Tar: the header of a member as POSIX.1-1988 (ustar) and GNU tar have it, and the first tars. */
import { bytes, struct, text, u8 } from '../../../binary/struct.ts';

/** Headers and data come in blocks of this length. */
export const BLOCK = 512;

/** POSIX.1-2017, pax, "ustar Interchange Format". Numbers are octal digits. */
export const HEADER = struct('big', BLOCK, {
  name: bytes(0, 100),
  mode: text(100, 8),
  owner: text(108, 8),
  group: text(116, 8),
  size: bytes(124, 12),
  modified: text(136, 12),
  checksum: text(148, 8),
  type: u8(156),
  linkName: bytes(157, 100),
  magic: bytes(257, 8),
  ownerName: bytes(265, 32),
  groupName: bytes(297, 32),
  deviceMajor: bytes(329, 8),
  deviceMinor: bytes(337, 8),
  /** In ustar alone; what the other forms have here is different. */
  prefix: bytes(345, 155),
  padding: bytes(500, 12),
});

/** GNU tar, "Basic Tar Format", `oldgnu_header`: the list of pieces of a sparse member goes on in further blocks. */
export const GNU_SPARSE = struct('big', BLOCK, { before: bytes(0, 482), goesOn: u8(482), after: bytes(483, 29) });
/** The same, `sparse_header`. */
export const GNU_SPARSE_MORE = struct('big', BLOCK, { pieces: bytes(0, 504), goesOn: u8(504), padding: bytes(505, 7) });

/** Values of the magic. */
export const MAGIC = { ustar: 'ustar\x0000', gnu: 'ustar  \0' } as const;

const OCTAL = /^ *[0-7]+ *$/;

/** True for a text of octal digits. */
export function isOctal(digits: string): boolean {
  return OCTAL.test(digits);
}

/** True when the checksum fits: the sum of all bytes, with blanks in its own place. Some old tars had signed bytes. */
export function checksumFits(block: Uint8Array): boolean {
  const digits = HEADER.get(block, 'checksum');
  if (!isOctal(digits)) return false;
  const { offset, size } = HEADER.fields.checksum;
  let [sum, signed] = [size * 0x20, size * 0x20];
  for (let at = 0; at < BLOCK; at++) {
    if (at >= offset && at < offset + size) continue;
    const byte = block[at] ?? 0;
    sum += byte;
    signed += byte < 0x80 ? byte : byte - 0x100;
  }
  const stored = Number.parseInt(digits.trim(), 8);
  return stored === sum || stored === signed;
}
