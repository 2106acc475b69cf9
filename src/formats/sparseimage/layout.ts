/** Apple's sparse images on disk. All integers big-endian. */
import { bytes, size64, struct, text, u32 } from '../../binary/struct.ts';

export const MAGIC = 'sprs';
export const VERSION = 3;

/** Header, and each further index: fields, then band numbers up to the end of the node. */
export const NODE_BYTES = 4096;
export const ENTRY_BYTES = 4;

/** Start of the file, the first node. */
export const HEADER = struct('big', 64, {
  magic: text(0, 4),
  version: u32(4),
  bandSectors: u32(8),
  flags: u32(12), // 1 in all files seen
  sectorsLow: u32(16), // low half of `sectors`
  nextNode: size64(20), // 0: none
  sectors: size64(28),
  reserved: bytes(36, 28),
});

/** Start of every other node. */
export const INDEX = struct('big', 56, {
  magic: text(0, 4),
  number: u32(4), // from 0
  flags: u32(8),
  nextNode: size64(12),
  reserved: bytes(20, 36),
});

/** Entry that is free; all others are a band's number plus one. */
export const ENTRY_FREE = 0;

/** Bounds: a band of a disk and its slot in the file are kept as one number. */
export const LIMITS = { sectors: 2 ** 43, bandBytes: 256 * 1024 * 1024, bands: 2 ** 30, slots: 2 ** 23 } as const;
