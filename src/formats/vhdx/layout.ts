/**
 * VHDX on disk: [MS-VHDX], as Hyper-V and QEMU 7.2 write it. All integers little-endian. Everything behind the first MiB
 * begins at a multiple of 1 MiB.
 */
import { bytes, guid, type StructValue, struct, u16, u32, u64 } from '../../binary/struct.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
/** Metadata is written, and logged, in pages of this length. */
export const PAGE = 4 * KIB;

/** "vhdxfile". */
export const FILE_SIGNATURE = 'vhdxfile';
/** File offsets of the two headers, of the two region tables, and of what follows them. */
export const HEADER_OFFSETS = [64 * KIB, 128 * KIB] as const;
export const REGION_OFFSETS = [192 * KIB, 256 * KIB] as const;
export const REGION_TABLE_BYTES = 64 * KIB;
export const REGIONS_END = 320 * KIB;

/** "head", "regi", "loge", "zero", "desc", "data". */
export const HEADER_SIGNATURE = 0x6461_6568;
export const REGION_SIGNATURE = 0x6967_6572;
export const LOG_SIGNATURE = 0x6567_6f6c;
export const ZERO_SIGNATURE = 0x6f72_657a;
export const DATA_SIGNATURE = 0x6373_6564;
export const SECTOR_SIGNATURE = 0x6174_6164;
/** "metadata". */
export const METADATA_SIGNATURE = 0x6174_6164_6174_656dn;

export const VERSION = 1;
export const LOG_VERSION = 0;

/** File type identifier at the start of the file; zeroes follow. Never changed after creation. */
export const IDENTIFIER = struct('little', 520, {
  signature: bytes(0, 8),
  creator: bytes(8, 512), // UTF-16
});

/** Header: the current one is the valid one with the greater sequence number. */
export const HEADER = struct('little', 4096, {
  signature: u32(0),
  checksum: u32(4), // CRC-32C of the 4096 bytes
  sequence: u64(8),
  fileWriteGuid: guid(16, 'mixed'),
  dataWriteGuid: guid(32, 'mixed'), // the identity that children store
  logGuid: guid(48, 'mixed'), // all zero: the log is empty
  logVersion: u16(64),
  version: u16(66),
  logLength: u32(68),
  logOffset: u64(72),
  reserved: bytes(80, 4016),
});
export type Header = StructValue<typeof HEADER>;

/** Region table; entries follow. */
export const REGION_TABLE = struct('little', 16, {
  signature: u32(0),
  checksum: u32(4), // CRC-32C of the 64 KiB
  count: u32(8),
  reserved: u32(12),
});

export const REGION = struct('little', 32, {
  id: guid(0, 'mixed'),
  fileOffset: u64(16),
  length: u32(24),
  flags: u32(28), // bit 0: required
});
export const REGION_REQUIRED = 1;

export const REGION_IDS = {
  bat: '2dc27766-f623-4200-9d64-115e9bfd4a08',
  metadata: '8b7ca206-4790-4b9a-b8fe-575f050f886e',
} as const;

/** Metadata table at the start of its region; entries follow. Items lie behind its 64 KiB. */
export const METADATA_TABLE_BYTES = 64 * KIB;
export const METADATA_TABLE = struct('little', 32, {
  signature: u64(0),
  reserved: u16(8),
  count: u16(10),
  rest: bytes(12, 20),
});

export const METADATA_ENTRY = struct('little', 32, {
  id: guid(0, 'mixed'),
  offset: u32(16), // from the start of the region
  length: u32(20),
  flags: u32(24),
  reserved: u32(28),
});
export const ITEM_FLAGS = { user: 1, virtualDisk: 2, required: 4 } as const;

export const ITEM_IDS = {
  parameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  diskSize: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  diskId: 'beca12ab-b2e6-4523-93ef-c309e000c746', // SCSI page 83
  logicalSector: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physicalSector: 'cda348c7-445d-4471-9cc9-e9885251c556',
  parentLocator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
} as const;

export const PARAMETERS = struct('little', 8, {
  blockSize: u32(0),
  flags: u32(4),
});
export const PARAMETER_FLAGS = { leaveAllocated: 1, hasParent: 2 } as const;

/** Parent locator: pairs of keys and values follow, then their texts in UTF-16 without NUL. */
export const LOCATOR = struct('little', 20, {
  type: guid(0, 'mixed'),
  reserved: u16(16),
  count: u16(18),
});
export const LOCATOR_TYPE = 'b04aefb7-d19e-4a81-b789-25b8e9445913';
export const LOCATOR_ENTRY = struct('little', 12, {
  keyOffset: u32(0), // from the start of the locator
  valueOffset: u32(4),
  keyLength: u16(8), // bytes
  valueLength: u16(10),
});

/** Bits of a BAT entry: the state, and the MiB where the block begins. */
export const STATE_BITS = 3;
export const STATE = {
  notPresent: 0,
  undefined: 1,
  zero: 2,
  unmapped: 3,
  /** "Unmapped" in a draft of the specification. */
  oldUnmapped: 5,
  present: 6,
  partial: 7,
} as const;

/** Bits of a sector bitmap block of 1 MiB: one for each sector of a chunk, the lowest of a byte first. */
export const BITMAP_BYTES = MIB;
export const CHUNK_SECTORS = BITMAP_BYTES * 8;

/** Header of a log entry; descriptors follow, and from the next page on a data sector for each data descriptor. */
export const LOG_ENTRY = struct('little', 64, {
  signature: u32(0),
  checksum: u32(4), // CRC-32C of the whole entry
  length: u32(8),
  tail: u32(12), // of the oldest entry that was needed when this one was written
  sequence: u64(16),
  count: u32(24),
  reserved: u32(28),
  logGuid: guid(32, 'mixed'),
  flushedSize: u64(48), // the file was at least that long
  lastSize: u64(56), // the file is at least that long after a replay
});
export type LogEntryHeader = StructValue<typeof LOG_ENTRY>;

export const DESCRIPTOR_BYTES = 32;
export const DATA_DESCRIPTOR = struct('little', DESCRIPTOR_BYTES, {
  signature: u32(0),
  trailing: bytes(4, 4), // the last four bytes of the page
  leading: bytes(8, 8), // the first eight
  fileOffset: u64(16),
  sequence: u64(24),
});
export const ZERO_DESCRIPTOR = struct('little', DESCRIPTOR_BYTES, {
  signature: u32(0),
  reserved: u32(4),
  length: u64(8),
  fileOffset: u64(16),
  sequence: u64(24),
});
export const DATA_SECTOR = struct('little', PAGE, {
  signature: u32(0),
  sequenceHigh: u32(4),
  middle: bytes(8, 4084),
  sequenceLow: u32(4092),
});
