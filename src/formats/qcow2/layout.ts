/**
 * QCOW2 on disk, versions 2 and 3, after QEMU's "qcow2 image file format" specification (docs/interop/qcow2.txt). All
 * integers big-endian. Offsets count from the start of the file; a cluster is as long in the file as in the guest.
 */
import { bytes, type StructValue, size64, struct, text, u8, u16, u32, u64 } from '../../binary/struct.ts';

/**
 * `QFI\xfb`, shared with version 1, which is a different format.
 */
export const MAGIC = 0x5146_49fb;
export const VERSION_2 = 2;
export const VERSION_3 = 3;

/** Bytes of a version 2 header: it ends before the feature words. */
export const HEADER_LENGTH_2 = 72;
/** The shortest header of version 3: it ends before the compression type. */
export const HEADER_LENGTH_3_MIN = 104;

/** The header; section "Header". A field whose offset is not below the header length is absent and reads 0. */
export const HEADER = struct('big', 112, {
  magic: u32(0),
  version: u32(4),
  backingOffset: size64(8),
  backingLength: u32(16), // undefined when there is no backing file
  clusterBits: u32(20),
  size: size64(24),
  cryptMethod: u32(32),
  l1Entries: u32(36), // these two change in one write of 12 bytes
  l1Offset: size64(40),
  refcountTableOffset: size64(48), // and these two
  refcountTableClusters: u32(56),
  snapshotCount: u32(60), // and these two
  snapshotsOffset: size64(64),
  incompatible: u64(72), // version 3 from here on
  compatible: u64(80),
  autoclear: u64(88),
  refcountOrder: u32(96),
  headerLength: u32(100),
  compressionType: u8(104),
  padding: bytes(105, 7),
});
export type RawHeader = StructValue<typeof HEADER>;

/** Values of the encryption method. */
export const CRYPT = { none: 0, aes: 1, luks: 2 } as const;
/** Values of the compression type. */
export const COMPRESSION = { zlib: 0, zstd: 1 } as const;

/** Section "Header", incompatible features: an image with unknown ones must not be opened. */
export const INCOMPATIBLE = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  dataFile: 1n << 2n,
  compression: 1n << 3n,
  extendedL2: 1n << 4n,
} as const;
export const INCOMPATIBLE_KNOWN = 0x1fn;
/** Compatible features: may be ignored, must be preserved. */
export const COMPATIBLE = { lazyRefcounts: 1n << 0n } as const;
/** Role of the file that contains the guest data. */
export const DATA_FILE = 'external data file';

/** Autoclear features: a writer clears unknown ones before its first write. */
export const AUTOCLEAR = { bitmaps: 1n << 0n, dataFileRaw: 1n << 1n } as const;

/** Section "Header extensions": type and length of one; its data is padded to a multiple of 8. */
export const EXTENSION = struct('big', 8, { type: u32(0), length: u32(4) });
export const EXTENSION_ALIGNMENT = 8;
export const EXTENSION_TYPE = {
  end: 0x0000_0000,
  backingFormat: 0xe279_2aca,
  featureNames: 0x6803_f857,
  bitmaps: 0x2385_2875,
  encryption: 0x0537_be77,
  dataFile: 0x4441_5441,
} as const;

/** Section "Feature name table": one entry. */
export const FEATURE_NAME = struct('big', 48, { kind: u8(0), bit: u8(1), name: text(2, 46) });
export const FEATURE_KIND = { incompatible: 0, compatible: 1, autoclear: 2 } as const;

/** Section "Bitmaps extension". */
export const BITMAPS = struct('big', 24, {
  count: u32(0),
  reserved: u32(4),
  directoryBytes: size64(8),
  directoryOffset: size64(16),
});

/** Section "Full disk encryption header pointer". */
export const ENCRYPTION = struct('big', 16, { offset: size64(0), length: size64(8) });

/** Beginning of the LUKS header (version 1) that it leads to: `LUKS`, then BA BE. */
export const LUKS_MAGIC = 0x4c55_4b53;
export const LUKS = struct('big', 72, {
  magic: u32(0),
  tag: u16(4),
  version: u16(6),
  cipher: text(8, 32),
  mode: text(40, 32),
});

/** Section "Snapshots": the fixed part of one entry; extra data, id and name follow, padded to a multiple of 8. */
export const SNAPSHOT = struct('big', 40, {
  l1Offset: size64(0),
  l1Entries: u32(8),
  idLength: u16(12),
  nameLength: u16(14),
  seconds: u32(16),
  nanoseconds: u32(20),
  guestNanoseconds: u64(24),
  vmStateSize32: u32(32), // superseded by the one in the extra data
  extraLength: u32(36),
});
/** The known extra data; each field exists only as far as the extra data reaches. */
export const SNAPSHOT_EXTRA = struct('big', 24, { vmStateSize: size64(0), diskSize: size64(8), icount: u64(16) });
/** The first two fields are mandatory in version 3. */
export const SNAPSHOT_EXTRA_3 = 16;

/** Section "Bitmap directory": the fixed part of one entry; extra data and name follow, padded to a multiple of 8. */
export const BITMAP = struct('big', 24, {
  tableOffset: size64(0),
  tableEntries: u32(8),
  flags: u32(12),
  type: u8(16),
  granularityBits: u8(17),
  nameLength: u16(18),
  extraLength: u32(20),
});
export const BITMAP_FLAG = { inUse: 1, auto: 2, extraCompatible: 4 } as const;
export const BITMAP_FLAGS_KNOWN = 7;
/** Dirty tracking, the only type. */
export const BITMAP_TYPE = 1;

/** Entries of variable length begin at multiples of this. */
export const ENTRY_ALIGNMENT = 8;

/**
 * L1 and L2 entries (sections "L1 table" and "L2 tables"), as two 32-bit halves: a bigint for each of a million entries
 * would cost more than all else. The offset is bits 9 to 55.
 */
export const ENTRY_BYTES = 8;
/** Size of an L2 entry with subclusters: the bitmap follows. */
export const EXTENDED_ENTRY_BYTES = 16;
export const OFFSET_HIGH = 0x00ff_ffff;
export const OFFSET_LOW = 0xffff_fe00;
/** Bit 63: the refcount is exactly 1. Meaningful in active tables only, and never trusted for writing. */
export const COPIED_HIGH = 0x8000_0000;
/** Bit 62: a compressed cluster, with a different entry form. */
export const COMPRESSED_HIGH = 0x4000_0000;
/** Bit 0, version 3 without subclusters: reads as zero, whatever the offset. */
export const ZERO_LOW = 1;
/** Section "Extended L2 entries". */
export const SUBCLUSTERS = 32;

/** Compressed entries (section "Compressed Clusters Descriptor"): the offset has this many bits, the sectors follow. */
export function compressedOffsetBits(clusterBits: number): number {
  return 62 - (clusterBits - 8);
}

/** Refcount table entries: bits 9 to 63 are the offset of a block. */
export const REFCOUNT_OFFSET = 0xffff_ffff_ffff_fe00n;

/** Bounds of the format, most of them QEMU's. */
export const CLUSTER_BITS_MIN = 9;
export const CLUSTER_BITS_MAX = 21;
/** Subclusters must not be smaller than a sector. */
export const CLUSTER_BITS_EXTENDED_MIN = 14;
export const REFCOUNT_ORDER_MAX = 6;
export const REFCOUNT_ORDER_2 = 4;
export const BACKING_NAME_MAX = 1023;
export const BACKING_FORMAT_MAX = 15;
export const SNAPSHOT_EXTRA_MAX = 1024;
/** QEMU's programs keep names of 255 bytes. */
export const SNAPSHOT_NAME_MAX = 255;
export const BITMAP_NAME_MAX = 1023;
export const GRANULARITY_BITS_MIN = 9;
export const GRANULARITY_BITS_MAX = 31;
