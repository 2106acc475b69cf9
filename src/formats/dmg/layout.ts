/**
 * Apple's UDIF on disk. Apple publishes no layout; this one follows the structures of libdmg-hfsplus and observation. All
 * integers big-endian.
 */
import { bytes, size64, struct, text, u32 } from '../../binary/struct.ts';

export const MAGIC = 'koly';
export const VERSION = 4;

/** `UDIFResourceFile`: the last 512 bytes. */
export const TRAILER = struct('big', 512, {
  magic: text(0, 4),
  version: u32(4),
  headerSize: u32(8),
  flags: u32(12),
  runningOffset: size64(16),
  dataOffset: size64(24), // data fork: added to the offset of every chunk
  dataLength: size64(32),
  forkOffset: size64(40), // resource fork
  forkLength: size64(48),
  segment: u32(56),
  segments: u32(60),
  segmentId: bytes(64, 16),
  dataSumKind: u32(80),
  dataSumBits: u32(84),
  dataSum: u32(88),
  dataSumRest: bytes(92, 124),
  xmlOffset: size64(216),
  xmlLength: size64(224),
  reserved1: bytes(232, 64),
  signatureOffset: size64(296),
  signatureLength: size64(304),
  reserved2: bytes(312, 40),
  masterSumKind: u32(352),
  masterSumBits: u32(356),
  masterSum: u32(360),
  masterSumRest: bytes(364, 124),
  variant: u32(488), // 1: a device, 2: a partition
  sectorCount: size64(492),
  reserved3: bytes(500, 12),
});
/** Offset and length of what lies before the trailer. */
export const PARTS = [0x18, 0x28, 0xd8, 0x128] as const;

export const TABLE_MAGIC = 'mish';
/** `BLKXTable`: the header of a block table, before its chunks. */
export const TABLE = struct('big', 204, {
  magic: text(0, 4),
  version: u32(4),
  firstSector: size64(8),
  sectorCount: size64(16),
  dataOffset: size64(24), // added to the offset of every chunk
  buffers: u32(32),
  descriptor: u32(36),
  reserved: bytes(40, 24),
  sumKind: u32(64),
  sumBits: u32(68),
  sum: u32(72),
  sumRest: bytes(76, 124),
  chunkCount: u32(200),
});
/** `BLKXRun`: a chunk. */
export const CHUNK = struct('big', 40, {
  type: u32(0),
  comment: u32(4),
  sector: size64(8), // counted from the first sector of the table
  sectorCount: size64(16),
  offset: size64(24),
  length: size64(32),
});

/** Kinds of chunks. */
export const TYPE = {
  zero: 0,
  raw: 1,
  ignore: 2,
  adc: 0x8000_0004,
  zlib: 0x8000_0005,
  bzip2: 0x8000_0006,
  lzfse: 0x8000_0007,
  lzma: 0x8000_0008,
  comment: 0x7fff_fffe,
  end: 0xffff_ffff,
} as const;

/** Kinds of checksums. */
export const SUM = { none: 0, crc32: 2 } as const;
export const SUM_BITS = 32;

/** `resource_header` of a classic resource fork. */
export const FORK = struct('big', 16, {
  dataOffset: u32(0),
  mapOffset: u32(4),
  dataLength: u32(8),
  mapLength: u32(12),
});

/** Encrypted images: version 2 begins with its header, version 1 ends with it. */
export const ENCRYPTED_START = 'encrcdsa';
export const ENCRYPTED_END = 'cdsaencr';
/** The XAR archive format: its header. */
export const ARCHIVE = 'xar!';

/** Bounds that protect memory and time. */
export const DMG_LIMITS = {
  /** Bytes of the property list or the resource fork, as QEMU has it: room for 300,000 chunks. */
  tablesBytes: 16 * 1024 * 1024,
  /** Elements of the property list inside each other; those of Apple have 5. */
  depth: 32,
  /** Files of one image. */
  segments: 999,
  /** Decoded bytes of a chunk that is held as a whole: ADC, LZFSE. Those of other codecs may be of any length. */
  chunkBytes: 256 * 1024 * 1024,
} as const;
