/** QED on disk: the specification of QEMU, "QED Image File Format". All integers little-endian. */
import { type StructValue, size64, struct, u32, u64 } from '../../binary/struct.ts';

/** The text "QED" and a NUL. */
export const MAGIC = 0x0044_4551;

/** Incompatible features. */
export const FEATURE = {
  /** The image has a backing file. */
  backing: 1n,
  /** Not closed: the image must be checked before it is written. */
  needCheck: 2n,
  /** The backing file is a raw disk, whatever it looks like. */
  backingRaw: 4n,
} as const;
export const FEATURES_KNOWN = FEATURE.backing | FEATURE.needCheck | FEATURE.backingRaw;

export const HEADER = struct('little', 64, {
  magic: u32(0x00),
  clusterSize: u32(0x04),
  tableSize: u32(0x08), // clusters of the L1 table and of each L2 table
  headerSize: u32(0x0c), // clusters of header and backing file name
  features: u64(0x10),
  compatible: u64(0x18),
  autoclear: u64(0x20),
  l1Offset: u64(0x28),
  imageSize: size64(0x30),
  backingOffset: u32(0x38),
  backingLength: u32(0x3c),
});
export type Header = StructValue<typeof HEADER>;

/** Entries of L2 tables that are not file offsets: nothing is stored, and zeroes that hide the backing file. */
export const L2_ABSENT = 0;
export const L2_ZERO = 1;

/** Cluster sizes in bytes, and clusters of a table: powers of two. */
export const CLUSTER_MIN = 4096;
export const CLUSTER_MAX = 64 * 1024 * 1024;
export const TABLE_MAX = 16;
export const CLUSTER_DEFAULT = 65_536;
export const TABLE_DEFAULT = 4;
/** Smallest number of table clusters that QEMU opens again. */
export const TABLE_MIN_QEMU = 2;

/** Longest name of a backing file in bytes. */
export const BACKING_NAME_MAX = 1023;

/** Entries of the L1 table that are kept: with any cluster size they cover more than the largest disk that there can be. */
export const L1_ENTRIES_MAX = 2 ** 18;
