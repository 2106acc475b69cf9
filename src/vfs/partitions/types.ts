/** Names of common partition types. */

const MBR_TYPES: Readonly<Record<number, string>> = {
  1: 'FAT12',
  4: 'FAT16, small',
  5: 'extended',
  6: 'FAT16',
  7: 'NTFS or exFAT',
  11: 'FAT32',
  12: 'FAT32 (LBA)',
  14: 'FAT16 (LBA)',
  15: 'extended (LBA)',
  17: 'hidden FAT12',
  18: 'OEM recovery',
  20: 'hidden FAT16, small',
  22: 'hidden FAT16',
  23: 'hidden NTFS',
  27: 'hidden FAT32',
  28: 'hidden FAT32 (LBA)',
  30: 'hidden FAT16 (LBA)',
  39: 'Windows recovery',
  66: 'Windows dynamic disk',
  99: 'UNIX System V',
  130: 'Linux swap',
  131: 'Linux',
  133: 'Linux extended',
  142: 'Linux LVM',
  165: 'FreeBSD',
  166: 'OpenBSD',
  168: 'macOS UFS',
  169: 'NetBSD',
  171: 'macOS boot',
  175: 'HFS or HFS+',
  191: 'Solaris',
  235: 'BeOS',
  238: 'protective GPT',
  239: 'EFI system',
  251: 'VMware VMFS',
  253: 'Linux RAID',
};

const GPT_TYPES: Readonly<Record<string, string>> = {
  'c12a7328-f81f-11d2-ba4b-00a0c93ec93b': 'EFI system',
  '21686148-6449-6e6f-744e-656564454649': 'BIOS boot',
  '024dee41-33e7-11d3-9d69-0008c781f39f': 'MBR partition table',
  'e3c9e316-0b5c-4db8-817d-f92df00215ae': 'Microsoft reserved',
  'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7': 'Microsoft basic data',
  'de94bba4-06d1-4d40-a16a-bfd50179d6ac': 'Windows recovery',
  '5808c8aa-7e8f-42e0-85d2-e1e90434cfb3': 'Windows LDM metadata',
  'af9b60a0-1431-4f62-bc68-3311714a69ad': 'Windows LDM data',
  '0fc63daf-8483-4772-8e79-3d69d8477de4': 'Linux',
  '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f': 'Linux swap',
  '44479540-f297-41b2-9af7-d131d5f0458a': 'Linux root (x86)',
  '4f68bce3-e8cd-4db1-96e7-fbcaf984b709': 'Linux root (x86-64)',
  'b921b045-1df0-41c3-af44-4c6f280d3fae': 'Linux root (ARM64)',
  '933ac7e1-2eb4-4f13-b844-0e14e2aef915': 'Linux home',
  'bc13c2ff-59e6-4262-a352-b275fd6f7172': 'Linux extended boot',
  'e6d6d379-f507-44c2-a23c-238f2a3df928': 'Linux LVM',
  'a19d880f-05fc-4d3b-a006-743f0f84911e': 'Linux RAID',
  'ca7d7ccb-63ed-4c53-861c-1742536059cc': 'LUKS',
  '48465300-0000-11aa-aa11-00306543ecac': 'HFS+',
  '7c3457ef-0000-11aa-aa11-00306543ecac': 'APFS',
  '516e7cb6-6ecf-11d6-8ff8-00022d09712b': 'FreeBSD UFS',
  '516e7cba-6ecf-11d6-8ff8-00022d09712b': 'FreeBSD ZFS',
  'aa31e02a-400f-11db-9590-000c2911d1b8': 'VMware VMFS',
};

/** Name of an MBR type; null when unknown. */
export function mbrTypeName(type: number): string | null {
  return MBR_TYPES[type] ?? null;
}

/** Name of a GPT type, by GUID; null when unknown. */
export function gptTypeName(type: string): string | null {
  return GPT_TYPES[type] ?? null;
}
