/** QCOW version 1 on disk, as QEMU 7.2 and VirtualBox 6.1 read and write it. All integers big-endian. */
import { type StructValue, struct, u8, u16, u32, u64 } from '../../binary/struct.ts';

/** The text "QFI" and the byte FB; QCOW2 has it, too. */
export const MAGIC = 0x5146_49fb;
export const VERSION = 1;

export const HEADER = struct('big', 48, {
  magic: u32(0x00),
  version: u32(0x04),
  backingOffset: u64(0x08), // 0: there is no backing file
  backingLength: u32(0x10),
  modified: u32(0x14), // of the backing file, once; not used
  size: u64(0x18),
  clusterBits: u8(0x20),
  l2Bits: u8(0x21), // of the number of entries of an L2 table
  padding: u16(0x22),
  cryptMethod: u32(0x24),
  l1Offset: u64(0x28),
});
export type Header = StructValue<typeof HEADER>;

/** Values of the encryption method. */
export const CRYPT = { none: 0, aes: 1 } as const;

/** QEMU writes a part of an absent cluster without what the backing file has around it, but for clusters of a sector. */
export const CLUSTER_BITS = { min: 9, max: 16, default: 12, overBacking: 9 } as const;
export const L2_BITS = { min: 6, max: 13 } as const;

/** Longest name of a backing file in bytes. */
export const BACKING_NAME_MAX = 1023;

/** Bits of an L2 table of the images that QEMU and VirtualBox make: a cluster of entries, or QEMU's 4096 in 32 KiB. */
export function l2BitsFor(clusterBits: number): number {
  return clusterBits === CLUSTER_BITS.min ? 12 : clusterBits - 3;
}
