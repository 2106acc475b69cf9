/** Zip: the records of PKWARE's APPNOTE 6.3. */
import { size64, struct, text, u16, u32 } from '../../../binary/struct.ts';

/** 4.3.16: end of central directory record. A comment follows. */
export const END = struct('little', 22, {
  signature: text(0, 4),
  volume: u16(4),
  directoryVolume: u16(6),
  entriesHere: u16(8),
  entries: u16(10),
  directorySize: u32(12),
  directoryOffset: u32(16),
  commentLength: u16(20),
});

/** 4.3.15: zip64 end of central directory locator, directly in front of the end record. */
export const LOCATOR = struct('little', 20, {
  signature: text(0, 4),
  volume: u32(4),
  endOffset: size64(8),
  volumes: u32(16),
});

/** 4.3.14: zip64 end of central directory record, without what may follow. */
export const END64 = struct('little', 56, {
  signature: text(0, 4),
  recordSize: size64(4),
  madeBy: u16(12),
  needed: u16(14),
  volume: u32(16),
  directoryVolume: u32(20),
  entriesHere: size64(24),
  entries: size64(32),
  directorySize: size64(40),
  directoryOffset: size64(48),
});

/** 4.3.12: entry of the central directory. Name, extra fields and comment follow. */
export const ENTRY = struct('little', 46, {
  signature: text(0, 4),
  madeBy: u16(4),
  needed: u16(6),
  flags: u16(8),
  method: u16(10),
  time: u16(12),
  date: u16(14),
  crc: u32(16),
  storedSize: u32(20),
  size: u32(24),
  nameLength: u16(28),
  extraLength: u16(30),
  commentLength: u16(32),
  volume: u16(34),
  internal: u16(36),
  external: u32(38),
  localOffset: u32(42),
});

/** 4.3.7: header in front of the data. Name and extra fields follow. */
export const LOCAL = struct('little', 30, {
  signature: text(0, 4),
  needed: u16(4),
  flags: u16(6),
  method: u16(8),
  time: u16(10),
  date: u16(12),
  crc: u32(14),
  storedSize: u32(18),
  size: u32(22),
  nameLength: u16(26),
  extraLength: u16(28),
});

/** 4.5.1: header of an extra field. */
export const EXTRA = struct('little', 4, { id: u16(0), length: u16(2) });
/** 4.5.3: the zip64 extended information. */
export const ZIP64_EXTRA = 1;

/** Signatures, one byte per letter. */
export const SIGNATURE = {
  end: 'PK\x05\x06',
  locator: 'PK\x06\x07',
  end64: 'PK\x06\x06',
  entry: 'PK\x01\x02',
  local: 'PK\x03\x04',
} as const;

/** Values of 32-bit and 16-bit fields whose number stands in a zip64 record. */
export const ELSEWHERE = { u32: 0xffff_ffff, u16: 0xffff } as const;

/** 4.4.4: bits of the flags. */
export const FLAG = { encrypted: 1, sizesBehind: 1 << 3, patch: 1 << 5, strong: 1 << 6, masked: 1 << 13 } as const;

/** 4.4.5: methods. */
export const METHOD = { stored: 0, deflate: 8 } as const;

/** Names of the methods that are not decoded. */
export const METHOD_NAMES: Readonly<Partial<Record<number, string>>> = {
  1: 'Shrink',
  2: 'Reduce',
  3: 'Reduce',
  4: 'Reduce',
  5: 'Reduce',
  6: 'Implode',
  9: 'Deflate64',
  10: 'PKWARE Implode',
  12: 'bzip2',
  14: 'LZMA',
  16: 'IBM z/OS CMPSC',
  18: 'IBM TERSE',
  19: 'IBM LZ77',
  20: 'Zstandard',
  93: 'Zstandard',
  94: 'MP3',
  95: 'xz',
  96: 'JPEG',
  97: 'WavPack',
  98: 'PPMd',
  99: 'AES encryption',
};
