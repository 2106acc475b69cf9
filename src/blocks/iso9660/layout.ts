/**
 * Structures of an ISO 9660 image (ECMA-119), of Joliet, Rock Ridge (SUSP, RRIP) and El Torito. Numbers marked "both" are
 * stored little-endian and then big-endian.
 */
import { bytes, type Field, struct, u8, u16, u32 } from '../../binary/struct.ts';

/** Bytes of a logical sector and block. */
export const BLOCK = 2048;
/** Blocks that no file system uses; the first descriptor follows. */
export const SYSTEM_BLOCKS = 16;
/** Zero blocks behind the data: drives that read ahead fail at the very end. */
export const PAD_BLOCKS = 150;
/** Bytes of a piece of a file that is longer than 32 bits tell: whole blocks. */
export const LONGEST_EXTENT = 0xffff_f800;

/** 32 bits in both orders. */
function both32(offset: number): Field<number> {
  return {
    offset,
    size: 8,
    read: (view, at) => view.getUint32(at, true),
    write(view, at, value) {
      if (typeof value !== 'number' || value < 0 || value > 0xffff_ffff) throw new RangeError('at most 2^32 - 1');
      view.setUint32(at, value, true);
      view.setUint32(at + 4, value, false);
    },
  };
}

/** 16 bits in both orders. */
function both16(offset: number): Field<number> {
  return {
    offset,
    size: 4,
    read: (view, at) => view.getUint16(at, true),
    write(view, at, value) {
      if (typeof value !== 'number' || value < 0 || value > 0xffff) throw new RangeError('at most 65535');
      view.setUint16(at, value, true);
      view.setUint16(at + 2, value, false);
    },
  };
}

/** 32 bits, big-endian in a table of little-endian fields. */
function big32(offset: number): Field<number> {
  return {
    offset,
    size: 4,
    read: (view, at) => view.getUint32(at, false),
    write: (view, at, value) => view.setUint32(at, Number(value), false),
  };
}

/** Types of volume descriptors. */
export const DESCRIPTOR = { boot: 0, primary: 1, supplementary: 2, end: 255 } as const;
export const STANDARD_ID = 'CD001';
export const EL_TORITO = 'EL TORITO SPECIFICATION';
/** Escape sequences of Joliet by level. */
export const JOLIET_ESCAPES = { 1: '%/@', 2: '%/C', 3: '%/E' } as const;
/** Platforms of El Torito. */
export const PLATFORM = { x86: 0, ppc: 1, mac: 2, efi: 0xef } as const;

/** Primary and supplementary descriptor: ECMA-119 8.4, 8.5. Texts are padded with blanks. */
export const VOLUME = struct('little', BLOCK, {
  type: u8(0),
  id: bytes(1, 5),
  version: u8(6),
  flags: u8(7),
  system: bytes(8, 32),
  volume: bytes(40, 32),
  unused: bytes(72, 8),
  blocks: both32(80),
  escapes: bytes(88, 32),
  setSize: both16(120),
  sequence: both16(124),
  blockSize: both16(128),
  pathTableBytes: both32(132),
  pathTable: u32(140),
  pathTableCopy: u32(144),
  pathTableBig: big32(148),
  pathTableBigCopy: u32(152),
  root: bytes(156, 34),
  volumeSet: bytes(190, 128),
  publisher: bytes(318, 128),
  preparer: bytes(446, 128),
  application: bytes(574, 128),
  copyright: bytes(702, 37),
  abstract: bytes(739, 37),
  bibliography: bytes(776, 37),
  created: bytes(813, 17),
  modified: bytes(830, 17),
  expires: bytes(847, 17),
  effective: bytes(864, 17),
  structure: u8(881),
  reserved: u8(882),
  applicationUse: bytes(883, 512),
  rest: bytes(1395, 653),
});

/** Boot record: El Torito 2.0. */
export const BOOT_RECORD = struct('little', 75, {
  type: u8(0),
  id: bytes(1, 5),
  version: u8(6),
  system: bytes(7, 32),
  unused: bytes(39, 32),
  catalog: u32(71),
});

/** Directory record, up to its name: ECMA-119 9.1. */
export const RECORD = struct('little', 33, {
  length: u8(0),
  attributeLength: u8(1),
  extent: both32(2),
  bytes: both32(10),
  date: bytes(18, 7),
  flags: u8(25),
  unit: u8(26),
  gap: u8(27),
  sequence: both16(28),
  nameLength: u8(32),
});
export const FLAG = { directory: 2, associated: 4, more: 0x80 } as const;
/** Names of the first two records of a directory. */
export const SELF = Uint8Array.of(0);
export const PARENT = Uint8Array.of(1);

const PATH_FIELDS = { nameLength: u8(0), attributeLength: u8(1), extent: u32(2), parent: u16(6) };
/** Entry of a path table, up to its name: ECMA-119 9.4. */
export const PATH_ENTRY = { little: struct('little', 8, PATH_FIELDS), big: struct('big', 8, PATH_FIELDS) } as const;

/** Fields of a system use entry after its head of tag, length and version: SUSP 1.10, RRIP 1.10, without the serial numbers of later versions. */
export const SP = struct('little', 3, { check: bytes(0, 2), skip: u8(2) });
export const CE = struct('little', 24, { block: both32(0), offset: both32(8), length: both32(16) });
export const PX = struct('little', 32, { mode: both32(0), links: both32(8), user: both32(16), group: both32(24) });

/** Place of a directory that was moved: RRIP 4.1.5.1. */
export const CL = struct('little', 8, { block: both32(0) });
/** Bits of a time stamps entry (TF): the modification time follows that of creation; times of 17 bytes. */
export const TIMES = { creation: 1, modification: 2, long: 0x80 } as const;
/** Bits of a part of a link target (SL). */
export const TARGET = { continues: 1, self: 2, parent: 4, root: 8 } as const;
/** Bits of the mode in PX that tell what an entry is. */
export const KIND = { mask: 0o170000, directory: 0o040000, file: 0o100000, link: 0o120000 } as const;

/** Validation entry of a boot catalog. */
export const VALIDATION = struct('little', 32, {
  header: u8(0),
  platform: u8(1),
  reserved: u16(2),
  id: bytes(4, 24),
  checksum: u16(28),
  key: bytes(30, 2),
});
/** Default and section entry of a boot catalog. */
export const BOOT_ENTRY = struct('little', 32, {
  indicator: u8(0),
  media: u8(1),
  segment: u16(2),
  system: u8(4),
  unused: u8(5),
  sectors: u16(6),
  block: u32(8),
  selection: bytes(12, 20),
});
/** Header of a section of a boot catalog. */
export const SECTION = struct('little', 32, { header: u8(0), platform: u8(1), entries: u16(2), id: bytes(4, 28) });
/** Boot information table, at offset 8 of a boot image. */
export const BOOT_INFO = struct('little', 16, { descriptor: u32(0), block: u32(4), length: u32(8), checksum: u32(12) });
export const BOOT_INFO_AT = 8;
/** Bytes of that table with what is kept free behind it: the checksum begins there. */
export const BOOT_INFO_END = 64;
