/** The descriptors of all formats that can be read. */
import type { HostileDescriptor } from './descriptor.ts';
import { qcow2 } from './qcow2.ts';
import { vdi } from './vdi.ts';

/** One for each format that has structures of its own; a test compares the list with the formats. */
export const DESCRIPTORS: readonly HostileDescriptor[] = [vdi, qcow2];

/** Formats without a descriptor, and why. */
export const WITHOUT: Readonly<Record<string, string>> = {
  raw: 'no byte of a raw file means anything to vdkit: there is nothing to be wrong',
};
