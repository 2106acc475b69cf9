/** Bochs redologs on disk, after `iodev/hdimage/hdimage.h` of Bochs. All integers little-endian. */
import { size64, struct, text, u32 } from '../../binary/struct.ts';

export const MAGIC = 'Bochs Virtual HD Image';
export const TYPE = 'Redolog';
export const VERSION_1 = 0x0001_0000;
export const VERSION_2 = 0x0002_0000;

/** Kinds of redologs: a disk, and changes of another disk that are kept or thrown away. */
export const SUBTYPES = ['Growing', 'Undoable', 'Volatile'] as const;

/** `standard_header_t` and the start of the header of redologs. */
export const HEADER = struct('little', 84, {
  magic: text(0, 32),
  type: text(32, 16),
  subtype: text(48, 16),
  version: u32(64),
  headerSize: u32(68), // offset of the catalog
  catalogEntries: u32(72),
  bitmapBytes: u32(76),
  extentBytes: u32(80),
});
/** The rest of the header; in version 1 nothing lies before the size of the disk. */
export const REST = {
  1: struct('little', 8, { diskSize: size64(0) }),
  2: struct('little', 12, { reserved: u32(0), diskSize: size64(4) }),
} as const;

/** Bytes that a header takes at least, of which most are padding. */
export const HEADER_MIN = 512;
/** Catalog entry of an extent that is not stored. */
export const ENTRY_FREE = 0xffff_ffff;

/** QEMU's bounds. */
export const LIMITS = { catalogEntries: 2 ** 20, extentBytes: 8 * 1024 * 1024 } as const;
/** Bitmaps of extents that are kept in memory, in bytes. */
export const BITMAP_CACHE_BYTES = 1024 * 1024;
