/**
 * VMDK on disk: the sparse extents of VMware's "Virtual Disk Format 5.0", as VMware, VirtualBox 6.1 and QEMU 7.2 write
 * them, COWD extents of ESX, and seSparse extents. All integers little-endian; the unit of places is the sector of 512
 * bytes.
 */
import { bytes, type StructValue, size64, struct, text, u8, u16, u32, u64 } from '../../binary/struct.ts';

/** "KDMV": a hosted sparse extent. */
export const KDMV = 0x564d_444b;
/** "COWD": a sparse extent of ESX. */
export const COWD = 0x4457_4f43;
/** First word of a seSparse extent; the next one is 0. */
export const SESPARSE = 0xcafe_babe;
/** First word of the volatile header of a seSparse extent. */
export const SESPARSE_VOLATILE = 0xcafe_cafe;

/** Bits of the flags of a hosted sparse extent. */
export const FLAG = {
  newlines: 1 << 0,
  redundant: 1 << 1,
  zeroGrains: 1 << 2,
  compressed: 1 << 16,
  markers: 1 << 17,
} as const;

/** Compression methods. */
export const COMPRESSION = { none: 0, deflate: 1 } as const;

/** Place of the grain directory that stands for "see the footer". */
export const GD_AT_END = 0xffff_ffff_ffff_ffffn;

/** Grain table entries that are not places: unallocated, and zero with the flag for it. */
export const GTE_ABSENT = 0;
export const GTE_ZERO = 1;

/** Entries of a grain table of hosted extents; VMware accepts no other number. */
export const GT_ENTRIES = 512;
/** Entries of a grain table of COWD extents. */
export const COWD_GT_ENTRIES = 4096;
/** Place of the grain directory of COWD extents, in sectors, and the flags of all of them. */
export const COWD_DIRECTORY_SECTOR = 4;
export const COWD_FLAGS = 3;
/** The largest capacity that their header can hold, in sectors. */
export const COWD_SECTORS_MAX = 2 ** 32 - 1;

/** Places are sector numbers of 32 bits, so the file of a sparse extent ends at or before this. */
export const EXTENT_FILE_MAX = 2 ** 32 * 512;

/** Default grain: 64 KiB. */
export const GRAIN_SECTORS = 128;
/** Sectors that the embedded descriptor of a new image may take, after the header. */
export const DESCRIPTOR_SECTORS = 20;

/** Bytes that show a transfer in text mode: a line feed, a blank, and a carriage return with a line feed. */
export const NEWLINES = { single: 0x0a, other: 0x20, first: 0x0d, second: 0x0a } as const;

/** Header of a hosted sparse extent, and the footer of a stream. */
export const SPARSE_HEADER = struct('little', 512, {
  magic: u32(0),
  version: u32(4),
  flags: u32(8),
  capacity: size64(12), // nothing from here on is aligned
  grainSize: size64(20),
  descriptorOffset: size64(28),
  descriptorSize: size64(36),
  entriesPerTable: u32(44),
  redundantOffset: u64(48), // means something with the flag only
  directoryOffset: u64(56), // GD_AT_END in the header of a stream
  overhead: size64(64), // sectors before the first grain
  unclean: u8(72),
  singleEndLine: u8(73),
  nonEndLine: u8(74),
  doubleEndLine1: u8(75),
  doubleEndLine2: u8(76),
  compression: u16(77),
  rest: bytes(79, 433),
});
export type SparseHeader = StructValue<typeof SPARSE_HEADER>;

/** Before each grain of a compressed extent: the place of the grain in the disk, and the bytes that follow. */
export const GRAIN_MARKER = struct('little', 12, {
  lba: size64(0),
  size: u32(8), // of the compressed grain; 0: a marker of metadata
});

/** Before tables and the footer of a stream, one sector. */
export const METADATA_MARKER = struct('little', 512, {
  sectors: size64(0), // of metadata behind it
  size: u32(8), // 0
  type: u32(12),
  rest: bytes(16, 496),
});

/** Types of metadata markers. */
export const MARKER = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const;

/** Header of a COWD extent: four sectors. In a child the name of the parent lies where a base has its geometry. */
export const COWD_HEADER = struct('little', 2048, {
  magic: u32(0),
  version: u32(4),
  flags: u32(8),
  capacity: u32(12),
  grainSize: u32(16),
  directoryOffset: u32(20),
  directoryEntries: u32(24),
  freeSector: u32(28),
  parentName: text(32, 1024),
  parentGeneration: u32(1056),
  generation: u32(1060),
  name: text(1064, 60),
  description: text(1124, 512),
  savedGeneration: u32(1636),
  reserved: bytes(1640, 8),
  unclean: u32(1648),
  rest: bytes(1652, 396),
});

/** Fields of the header of a base, in place of the name of its parent. */
export const COWD_GEOMETRY = struct('little', 12, { cylinders: u32(0), heads: u32(4), sectors: u32(8) });

/** Header of a seSparse extent, as observed: VMware does not document it. Places and sizes in sectors. */
export const SESPARSE_HEADER = struct('little', 512, {
  magic: u64(0),
  version: u64(8),
  capacity: size64(16),
  grainSize: size64(24),
  tableSize: size64(32),
  flags: u64(40),
  reserved1: u64(48),
  reserved2: u64(56),
  reserved3: u64(64),
  reserved4: u64(72),
  volatileOffset: size64(80),
  volatileSize: size64(88),
  journalHeaderOffset: size64(96),
  journalHeaderSize: size64(104),
  journalOffset: size64(112),
  journalSize: size64(120),
  directoryOffset: size64(128),
  directorySize: size64(136),
  tablesOffset: size64(144),
  tablesSize: size64(152),
  freeBitmapOffset: size64(160),
  freeBitmapSize: size64(168),
  backmapOffset: size64(176),
  backmapSize: size64(184),
  grainsOffset: size64(192),
  grainsSize: size64(200),
  rest: bytes(208, 304),
});

/** The part of a seSparse extent that changes: its first fields. */
export const SESPARSE_VOLATILE_HEADER = struct('little', 32, {
  magic: u64(0),
  freeTable: u64(8),
  nextTransaction: u64(16),
  replayJournal: u64(24), // not 0: the journal holds changes
});

/** Sectors of a grain and of a grain table of seSparse extents, the only ones that are known. */
export const SESPARSE_GRAIN_SECTORS = 8;
export const SESPARSE_TABLE_SECTORS = 64;
/** Version of the only seSparse layout that is known. */
export const SESPARSE_VERSION = 0x0000_0002_0000_0001n;
