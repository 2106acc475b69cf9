/**
 * Parallels expandable disks: "Parallels Expandable Image File Format" of QEMU's documentation. All integers little-endian;
 * a sector is 512 bytes.
 */
import { bytes, type StructValue, struct, text, u32, u64 } from '../../binary/struct.ts';

/** Signatures: entries of the table count sectors in classic images, clusters in those with the extended signature. */
export const MAGIC = { classic: 'WithoutFreeSpace', extended: 'WithouFreSpacExt' } as const;
export const VERSION = 2;

/** Marks of an image that is open, of one that was closed, and of one closed by a program without format extensions. */
export const IN_USE = { open: 0x746f_6e59, closed: 0x312e_3276, unaware: 0 } as const;
/** The image holds nothing. */
export const FLAG_EMPTY = 1;

export const HEADER = struct('little', 64, {
  magic: text(0x00, 16),
  version: u32(0x10),
  heads: u32(0x14),
  cylinders: u32(0x18),
  tracks: u32(0x1c), // sectors of a cluster
  entries: u32(0x20),
  sectors: u32(0x24), // of the disk
  sectorsHigh: u32(0x28), // rubbish in classic images
  inUse: u32(0x2c),
  dataOffset: u32(0x30), // sectors; 0 in classic images: behind the table
  flags: u32(0x34),
  extensionOffset: u64(0x38), // sectors; 0: there is none
});
export type Header = StructValue<typeof HEADER>;

/** Width of an entry of the block allocation table, which follows the header. */
export const ENTRY_BYTES = 4;
/** The entry of a cluster that is not stored. */
export const ENTRY_FREE = 0;

/** Usual bytes of a cluster, and heads of the geometry in the header. */
export const CLUSTER_DEFAULT = 1024 * 1024;
export const HEADS = 16;
/** Sectors of a track in the geometry of the header, which has no field for them. */
export const TRACK_SECTORS = 32;

/** The format extension: one cluster. Sections follow this header. */
export const EXTENSION_MAGIC = 0xab23_4cef_23dc_ea87n;
export const EXTENSION = struct('little', 24, {
  magic: u64(0),
  md5: bytes(8, 16), // of everything behind it in the cluster
});

/** Header of a section; data follows, padded to 8 bytes. A section without an id is the last one. */
export const SECTION = struct('little', 24, {
  id: u64(0),
  flags: u64(8),
  dataSize: u32(16),
  zero: u32(20),
});
/** A program that cannot load the section must not change the image. */
export const SECTION_NECESSARY = 1n;
/** A program that does not know the section keeps it. */
export const SECTION_TRANSIT = 2n;

export const BITMAP_ID = 0x2038_5fae_252c_b34an;
/** Data of a section with a dirty bitmap. An entry of 64 bits for each cluster of the bitmap follows. */
export const BITMAP = struct('little', 32, {
  sectors: u64(0), // of the disk
  uuid: bytes(8, 16),
  granularity: u32(24), // sectors of a bit
  entries: u32(28),
});
/** Entries of a bitmap that are not places: all bits are 0, or 1. */
export const BITMAP_ZEROES = 0n;
export const BITMAP_ONES = 1n;

/** Name of the file in a bundle that describes it, and its element at the root. */
export const DESCRIPTOR = 'DiskDescriptor.xml';
export const DESCRIPTOR_ROOT = 'Parallels_disk_image';
/** Variant of new images: a bundle. */
export const BUNDLE = 'bundle';
