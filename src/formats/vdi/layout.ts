/**
 * VDI on disk, as VirtualBox 6.1 and QEMU 7.2 read and write it. All integers little-endian, GUIDs in Microsoft's
 * mixed order. Offsets count from the start of the file.
 */
import { bytes, guid, type StructValue, size64, struct, text, u32 } from '../../binary/struct.ts';

/** Bytes 7F 10 DA BE at 0x40: the only magic number. The text before it is never checked. */
export const SIGNATURE = 0xbeda_107f;
/** Version words: major in the high half. */
export const VERSION_1_1 = 0x0001_0001;
export const VERSION_0_2 = 0x0000_0002;

/** Sizes of the 1.1 header as stored in its size field (counted from 0x48). The second adds the logical geometry. */
export const HEADER_SIZE_1_1 = 384;
export const HEADER_SIZE_1_1_PLUS = 400;
/** Start of the range counted by the header's size field. */
export const PREHEADER = 0x48;

/** Values of the type field. */
export const IMAGE_TYPE = { dynamic: 1, fixed: 2, undo: 3, diff: 4 } as const;

/** New blocks are filled with zeroes on the medium before use. */
export const FLAG_ZERO_EXPAND = 0x0000_0001;
/** The same flag in vd.h's creation flags; some writers store that word unchanged. */
export const FLAG_ZERO_EXPAND_CREATION = 0x0000_0100;
/** VirtualBox rejects any other bit. */
export const FLAGS_KNOWN = 0x0000_0301;

/** Map entries that are not slots: unallocated (read the parent), and zero (hides the parent). */
export const ENTRY_FREE = 0xffff_ffff;
export const ENTRY_ZERO = 0xffff_fffe;

/** VirtualBox's default. */
export const DEFAULT_BLOCK_SIZE = 1024 * 1024;
export const DEFAULT_ALIGNMENT = 1024 * 1024;

/** Maximum length of the comment, without the NUL. */
export const COMMENT_MAX = 255;

/** Pre-header and 1.1 / 1.1+ header: the whole first sector, so that a rewrite preserves unknown bytes. */
export const HEADER = struct('little', 512, {
  text: text(0x000, 64),
  signature: u32(0x040),
  version: u32(0x044),
  headerSize: u32(0x048), // 384 or 400; more is accepted, its extra bytes are kept
  type: u32(0x04c),
  flags: u32(0x050),
  comment: text(0x054, 256),
  mapOffset: u32(0x154),
  dataOffset: u32(0x158),
  physicalCylinders: u32(0x15c), // "legacy geometry": 0 in modern files
  physicalHeads: u32(0x160),
  physicalSectors: u32(0x164),
  physicalSectorSize: u32(0x168), // QEMU refuses anything but 512
  unused: u32(0x16c),
  diskSize: size64(0x170),
  blockSize: u32(0x178),
  blockExtra: u32(0x17c), // private bytes before each block's payload
  blockCount: u32(0x180),
  blocksAllocated: u32(0x184),
  uuid: guid(0x188, 'mixed'),
  modificationUuid: guid(0x198, 'mixed'),
  parentUuid: guid(0x1a8, 'mixed'),
  parentModificationUuid: guid(0x1b8, 'mixed'),
  logicalCylinders: u32(0x1c8), // the logical geometry exists from header size 400 on
  logicalHeads: u32(0x1cc),
  logicalSectors: u32(0x1d0),
  logicalSectorSize: u32(0x1d4),
  rest: bytes(0x1d8, 40),
});
export type Header = StructValue<typeof HEADER>;

/** Header of versions before 1.0. The map follows immediately, the data follows the map, unaligned. */
export const OLD_HEADER = struct('little', 420, {
  text: text(0x000, 64),
  signature: u32(0x040),
  version: u32(0x044),
  type: u32(0x048),
  flags: u32(0x04c),
  comment: text(0x050, 256),
  physicalCylinders: u32(0x150),
  physicalHeads: u32(0x154),
  physicalSectors: u32(0x158),
  physicalSectorSize: u32(0x15c),
  diskSize: size64(0x160),
  blockSize: u32(0x168),
  blockCount: u32(0x16c),
  blocksAllocated: u32(0x170),
  uuid: guid(0x174, 'mixed'),
  modificationUuid: guid(0x184, 'mixed'),
  parentUuid: guid(0x194, 'mixed'),
});
