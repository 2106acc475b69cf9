/**
 * VHD on disk: Microsoft's "Virtual Hard Disk Image Format Specification" 1.0, as VirtualBox 6.1, QEMU 7.2 and Hyper-V write
 * it. All integers big-endian; entries of the block allocation table (BAT) count sectors of 512 bytes.
 */
import { bytes, guid, type StructValue, size64, struct, u8, u16, u32, u64 } from '../../binary/struct.ts';

/** "conectix": a footer. */
export const FOOTER_COOKIE = 0x636f_6e65_6374_6978n;
/** "cxsparse": the header of a dynamic or differencing image. */
export const HEADER_COOKIE = 0x6378_7370_6172_7365n;
/** Footers of versions before Virtual PC 2004 lack the last byte, which is zero. */
export const SHORT_FOOTER = 511;
/** "There is none". */
export const NO_OFFSET = 0xffff_ffff_ffff_ffffn;
/** Version 1.0 of footer and header. */
export const VERSION_1_0 = 0x0001_0000;
/** Bit 1 of the features is always set. */
export const FEATURES = 2;

/** Types of images. */
export const DISK_TYPE = { fixed: 2, dynamic: 3, differencing: 4 } as const;

/** BAT entry of a block that is not stored. */
export const BAT_UNUSED = 0xffff_ffff;
/** Default block: 2 MiB. */
export const BLOCK_BYTES = 2 * 1024 * 1024;

/** Seconds from the Unix epoch to the epoch of this format, 2000-01-01. */
export const EPOCH = 946_684_800;

/** Creators: four characters, as a number. */
export const CREATOR = {
  windows: 0x7769_6e20,
  virtualPc: 0x7670_6320,
  virtualServer: 0x7673_2020,
  qemu: 0x7165_6d75,
  qemuForced: 0x7165_6d32, // "qem2"
  disk2vhd: 0x6432_7620, // "d2v "
  xenServer: 0x7461_7000, // "tap"
  xenConverter: 0x4354_5853, // "CTXS"
} as const;
/** Version of Windows that new images name: 10. Every reader takes their current size. */
export const CREATOR_VERSION = 0x000a_0000;
/** "Wi2k". */
export const CREATOR_OS = 0x5769_326b;

/** Hard disk footer, at the end of the file; a copy is at its start, but not in fixed images. */
export const FOOTER = struct('big', 512, {
  cookie: u64(0),
  features: u32(8),
  version: u32(12),
  dataOffset: u64(16), // of the header; NO_OFFSET in fixed images
  timestamp: u32(24),
  creator: u32(28),
  creatorVersion: u32(32),
  creatorOs: u32(36),
  originalSize: size64(40),
  currentSize: size64(48),
  cylinders: u16(56),
  heads: u8(58),
  sectors: u8(59),
  type: u32(60),
  checksum: u32(64),
  uuid: guid(68, 'mixed'), // as VirtualBox has it in memory
  savedState: u8(84),
  rest: bytes(85, 427),
});
export type Footer = StructValue<typeof FOOTER>;

/** Number of parent locators in a header. */
export const LOCATORS = 8;

/** Header of a dynamic or differencing image. */
export const HEADER = struct('big', 1024, {
  cookie: u64(0),
  next: u64(8), // NO_OFFSET
  tableOffset: size64(16), // of the BAT, in bytes
  version: u32(24),
  entries: u32(28),
  blockSize: u32(32),
  checksum: u32(36),
  parentUuid: guid(40, 'mixed'),
  parentTimestamp: u32(56),
  reserved: u32(60),
  parentName: bytes(64, 512), // UTF-16, big-endian
  locators: bytes(576, 192), // LOCATORS of LOCATOR
  rest: bytes(768, 256),
});
export type Header = StructValue<typeof HEADER>;

/** A parent locator: the name of the parent for one platform. */
export const LOCATOR = struct('big', 24, {
  platform: u32(0),
  space: u32(4), // bytes, or sectors in files that follow the specification
  length: u32(8), // bytes
  reserved: u32(12),
  fileOffset: size64(16),
});
export type Locator = StructValue<typeof LOCATOR>;

/** Platforms of locators. Names for Windows are UTF-16, little-endian, without a NUL. */
export const PLATFORM = {
  relative: 0x5732_7275, // "W2ru"
  absolute: 0x5732_6b75, // "W2ku"
  oldRelative: 0x5769_3272, // "Wi2r", in the code page of the machine
  oldAbsolute: 0x5769_326b, // "Wi2k"
  mac: 0x4d61_6320, // "Mac ": an alias
  url: 0x4d61_6358, // "MacX": a file URL in UTF-8
} as const;
