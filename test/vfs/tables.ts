/** Partition tables by hand, from the specifications: nothing of the code that reads them is used. */

/** An entry of an MBR, in sectors. */
export interface Slot {
  readonly type: number;
  readonly start: number;
  readonly count: number;
  readonly active?: boolean;
}

/** An entry of a GPT, in sectors; `last` belongs to it. */
export interface GptSlot {
  readonly type: string;
  readonly id: string;
  readonly first: number;
  readonly last: number;
  readonly attributes?: bigint;
  readonly name?: string;
}

/** Writes the four entries and the signature into a sector. */
export function putSlots(disk: Uint8Array, at: number, slots: readonly (Slot | null)[]): void {
  const view = new DataView(disk.buffer, disk.byteOffset + at, 512);
  for (const [index, slot] of slots.entries()) {
    if (slot === null) continue;
    const entry = 446 + index * 16;
    view.setUint8(entry, slot.active === true ? 0x80 : 0);
    view.setUint8(entry + 4, slot.type);
    view.setUint32(entry + 8, slot.start, true);
    view.setUint32(entry + 12, slot.count, true);
  }
  view.setUint8(510, 0x55);
  view.setUint8(511, 0xaa);
}

/** CRC-32, bit by bit. */
export function plainCrc(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb8_8320 : 0);
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}

/** The 16 bytes of a GUID, its first three groups little-endian. */
function guidBytes(text: string): number[] {
  const bytes = (text.replaceAll('-', '').match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  return [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map((from) => bytes[from] ?? 0);
}

/** Options for a GPT. */
export interface GptOptions {
  readonly sectorSize?: number;
  readonly entrySize?: number;
  readonly entryCount?: number;
  readonly diskId?: string;
}

/** A disk with a protective MBR and both copies of a GPT. */
export function gptDisk(size: number, slots: readonly (GptSlot | null)[], options: GptOptions = {}): Uint8Array {
  const { sectorSize = 512, entrySize = 128, entryCount = 128, diskId = DISK_ID } = options;
  const disk = new Uint8Array(size);
  const sectors = size / sectorSize;
  putSlots(disk, 0, [{ type: 0xee, start: 1, count: sectors - 1 }]);
  const entries = new Uint8Array(entrySize * entryCount);
  const view = new DataView(entries.buffer);
  for (const [index, slot] of slots.entries()) {
    if (slot === null) continue;
    const at = index * entrySize;
    entries.set(guidBytes(slot.type), at);
    entries.set(guidBytes(slot.id), at + 16);
    view.setBigUint64(at + 32, BigInt(slot.first), true);
    view.setBigUint64(at + 40, BigInt(slot.last), true);
    view.setBigUint64(at + 48, slot.attributes ?? 0n, true);
    for (const [char, unit] of [...(slot.name ?? '')].entries())
      view.setUint16(at + 56 + char * 2, unit.charCodeAt(0), true);
  }
  const tableSectors = Math.ceil(entries.length / sectorSize);
  const places = [
    { own: 1, other: sectors - 1, table: 2 },
    { own: sectors - 1, other: 1, table: sectors - 1 - tableSectors },
  ];
  for (const { own, other, table } of places) {
    const header = new DataView(new ArrayBuffer(92));
    for (const [at, char] of [...'EFI PART'].entries()) header.setUint8(at, char.charCodeAt(0));
    header.setUint32(8, 0x1_0000, true);
    header.setUint32(12, 92, true);
    header.setBigUint64(24, BigInt(own), true);
    header.setBigUint64(32, BigInt(other), true);
    header.setBigUint64(40, BigInt(2 + tableSectors), true);
    header.setBigUint64(48, BigInt(sectors - 2 - tableSectors), true);
    new Uint8Array(header.buffer).set(guidBytes(diskId), 56);
    header.setBigUint64(72, BigInt(table), true);
    header.setUint32(80, entryCount, true);
    header.setUint32(84, entrySize, true);
    header.setUint32(88, plainCrc(entries), true);
    header.setUint32(16, plainCrc(new Uint8Array(header.buffer)), true);
    disk.set(new Uint8Array(header.buffer), own * sectorSize);
    disk.set(entries, table * sectorSize);
  }
  return disk;
}

/** Recomputes the checksum of a changed header; the sector begins at `at`. */
export function resealHeader(disk: Uint8Array, at: number): void {
  const view = new DataView(disk.buffer, disk.byteOffset + at, 512);
  view.setUint32(16, 0, true);
  view.setUint32(16, plainCrc(disk.subarray(at, at + Math.min(view.getUint32(12, true), 512))), true);
}

export const DISK_ID = '11223344-5566-7788-99aa-bbccddeeff00';
export const LINUX = '0fc63daf-8483-4772-8e79-3d69d8477de4';
export const SOME_ID = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
