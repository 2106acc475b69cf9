/**
 * VCI: VirtualBox's format of cache images, as its sources intend it. VirtualBox's own writer produces unreadable
 * files, so no others exist; this follows the intended layout, with the counts of the block map in the order of their
 * names and in full width. Little-endian. A block has 512 bytes; addresses count blocks of the file.
 */
import { bytes, guid, size64, struct, u8, u32 } from '../../binary/struct.ts';

/** Bytes of a block. */
export const BLOCK = 512;
/** "VCI\0". */
export const SIGNATURE = 0x0049_4356;
export const VERSION = 1;
/** Caches are sized in multiples of the range covered by one block of the bitmap. */
export const GRANULARITY = BLOCK * 8 * BLOCK;
/** 64 GiB. A larger cache would need too much memory for its index. */
export const MAX_BLOCKS = 2 ** 27;

/** Values of the type field. */
export const TYPE = { dynamic: 1, fixed: 2 } as const;

/** The header: blocks 0 and 1. */
export const HEADER = struct('little', 1024, {
  signature: u32(0x00),
  version: u32(0x04),
  blockCount: size64(0x08), // the file has at most this many, metadata included
  unclean: u8(0x10),
  type: u32(0x11),
  rootAddress: size64(0x15),
  mapAddress: size64(0x1d),
  mapBlocks: u32(0x25), // its head included
  imageUuid: guid(0x29, 'mixed'),
  modificationUuid: guid(0x39, 'mixed'),
  reserved: bytes(0x49, 951),
});
export const HEADER_BLOCKS = HEADER.size / BLOCK;

/** "VBLK". */
export const MAP_SIGNATURE = 0x4b4c_4256;

/** Head of the block map, followed by a bit for each block, 1 = in use. */
export const MAP_HEAD = struct('little', BLOCK, {
  signature: u32(0x00),
  version: u32(0x04),
  blockCount: size64(0x08),
  freeBlocks: size64(0x10),
  metadataBlocks: size64(0x18),
  dataBlocks: size64(0x20),
  reserved: bytes(0x28, 472),
});

/** Blocks of a map for `blockCount` blocks, its head included. */
export function mapBlocksOf(blockCount: number): number {
  return 1 + Math.ceil(Math.ceil(blockCount / 8) / BLOCK);
}

/** A node of the tree: one byte for its kind, then slots. Slots in use come first, in ascending order. */
export const NODE = 4096;
export const NODE_BLOCKS = NODE / BLOCK;
export const NODE_TYPE = { internal: 1, leaf: 2 } as const;
/** Maximum depth of a tree for an addressable file. */
export const MAX_DEPTH = 8;

/** A slot of an internal node. */
export const CHILD = struct('little', 20, {
  first: size64(0), // guest block
  count: u32(8),
  address: size64(12),
});
export const CHILDREN = Math.floor((NODE - 1) / CHILD.size);

/** A slot of a leaf: blocks of the disk, consecutive on the disk and in the file. */
export const EXTENT = struct('little', 38, {
  older: size64(0x00), // never read
  newer: size64(0x08),
  flags: u8(0x10),
  reserved: u8(0x11),
  first: size64(0x12), // guest block
  count: u32(0x1a),
  address: size64(0x1e),
});
export const EXTENTS = Math.floor((NODE - 1) / EXTENT.size);
