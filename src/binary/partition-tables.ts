/** Layouts of partition tables: the PC's MBR, and UEFI 2.10, chapter 5, "GUID Partition Table". */
import { bytes, guid, type StructValue, struct, text, u8, u16, u32, u64 } from './struct.ts';

/** Offset and number of the entries in an MBR. */
export const MBR_ENTRIES = 446;
export const MBR_ENTRY_COUNT = 4;

/** The last bytes of the first sector. */
export const BOOT_SECTOR = struct('little', 512, {
  code: bytes(0, 440),
  diskId: u32(440),
  reserved: u16(444),
  entries: bytes(446, 64),
  signature: u16(510),
});
export const BOOT_SIGNATURE = 0xaa55;

/** One entry. Cylinder, head and sector addresses are obsolete. */
export const MBR_ENTRY = struct('little', 16, {
  status: u8(0),
  firstAddress: bytes(1, 3),
  type: u8(4),
  lastAddress: bytes(5, 3),
  start: u32(8),
  sectorCount: u32(12),
});
export type MbrEntry = StructValue<typeof MBR_ENTRY>;

/** Types that contain a chain of further tables. */
export const EXTENDED_TYPES: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);
/** Type of the MBR entry that protects a GPT. */
export const PROTECTIVE_TYPE = 0xee;

/** `EFI PART`. */
export const GPT_SIGNATURE = 0x5452_4150_2049_4645n;
export const GPT_HEADER = struct('little', 92, {
  signature: u64(0),
  revision: u32(8),
  headerSize: u32(12),
  headerCrc: u32(16),
  reserved: u32(20),
  ownSector: u64(24),
  otherSector: u64(32),
  firstUsable: u64(40),
  lastUsable: u64(48),
  diskId: guid(56, 'mixed'),
  entriesSector: u64(72),
  entryCount: u32(80),
  entrySize: u32(84),
  entriesCrc: u32(88),
});
export type GptHeader = StructValue<typeof GPT_HEADER>;

/** An entry, without the extra bytes of larger ones. The name is UTF-16. */
export const GPT_ENTRY = struct('little', 128, {
  type: guid(0, 'mixed'),
  id: guid(16, 'mixed'),
  first: u64(32),
  last: u64(40),
  attributes: u64(48),
  name: bytes(56, 72),
});

/** Name of the file system in a boot sector without a partition table: FAT and NTFS. */
export const VOLUME_SECTOR = struct('little', 90, {
  before: bytes(0, 3),
  system: text(3, 8),
  between: bytes(11, 43),
  fatName: text(54, 8),
  more: bytes(62, 20),
  fat32Name: text(82, 8),
});
