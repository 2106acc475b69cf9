/** Recognition of VMDK: sparse extents of three kinds, and the text file that names extents. */
import { hasText, textOf, u32At, u64At } from '../../binary/look.ts';
import type { ProbeAnswer, ProbeInput } from '../../image/contract.ts';

/** VMware Virtual Disk Format 5.0, hosted sparse extents: SparseExtentHeader. */
const HOSTED = {
  magic: 'KDMV',
  version: 4,
  flags: 8,
  descriptorOffset: 28,
  flagCompressed: 0x0001_0000,
  flagMarkers: 0x0002_0000,
} as const;
/** ESX Server sparse extents: COWDisk_Header. */
const ESX = { magic: 'COWD', version: 4 } as const;
/** Space-efficient sparse extents. VMware publishes no layout; these bytes are in every file. */
const SE_SPARSE_MAGIC = 0xcafe_babe;
/** VMware Virtual Disk Format 5.0, the disk descriptor file: its first line, with blanks as found in real files. */
const FIRST_LINE = /^\s*#[ \t]*disk[ \t]*descriptor[ \t]*file[ \t]*(\r?\n|$)/i;
/** QEMU takes this as the first line that is neither blank nor a comment. */
const VERSION_LINE = /^version[ \t]*=[ \t]*[123][ \t]*\r?$/i;
const CREATE_TYPE = /^[ \t]*createType[ \t]*=[ \t]*"?(\w{1,40})"?[ \t]*\r?$/im;
/** Bytes of a descriptor that are examined. */
const DESCRIPTOR_BYTES = 20 * 1024;
const NO: ProbeAnswer = { match: 'no', reason: 'neither a sparse extent nor a descriptor' };

/** The answer for the first bytes of a file. */
export function probeVmdk({ head }: ProbeInput): ProbeAnswer {
  return hosted(head) ?? esx(head) ?? seSparse(head) ?? descriptor(head) ?? NO;
}

/** True if the first bytes of a file are those of a descriptor. */
export function looksLikeDescriptor(head: Uint8Array): boolean {
  return descriptor(head) !== null;
}

/** True if the first bytes of a file are those of a stream, whose grains say where they belong. */
export function isStream(head: Uint8Array): boolean {
  const flags = u32At(head, HOSTED.flags, 'little') ?? 0;
  const needed = HOSTED.flagCompressed | HOSTED.flagMarkers;
  return hasText(head, 0, HOSTED.magic) && (flags & needed) === needed;
}

function hosted(head: Uint8Array): ProbeAnswer | null {
  const version = u32At(head, HOSTED.version, 'little');
  const flags = u32At(head, HOSTED.flags, 'little');
  if (!hasText(head, 0, HOSTED.magic) || version === null || flags === null) return null;
  const kind = (flags & HOSTED.flagCompressed) === 0 ? 'sparse extent' : 'stream-optimised extent';
  const detail = `VMDK ${kind} version ${version}`;
  const isPiece = u64At(head, HOSTED.descriptorOffset, 'little') === 0n;
  return { match: 'yes', reason: 'the VMDK signature KDMV', detail, type: 'hdd', isPiece };
}

function esx(head: Uint8Array): ProbeAnswer | null {
  const version = u32At(head, ESX.version, 'little');
  if (!hasText(head, 0, ESX.magic) || version === null) return null;
  // Four letters alone are met by chance.
  const match = version === 1 ? 'yes' : 'maybe';
  return { match, reason: 'the VMDK signature COWD', detail: `VMDK ESX sparse extent version ${version}`, type: 'hdd' };
}

function seSparse(head: Uint8Array): ProbeAnswer | null {
  if (u64At(head, 0, 'little') !== BigInt(SE_SPARSE_MAGIC)) return null;
  return { match: 'yes', reason: 'the seSparse signature 0xcafebabe', detail: 'VMDK seSparse extent', type: 'hdd' };
}

function descriptor(head: Uint8Array): ProbeAnswer | null {
  const text = textOf(head.subarray(0, DESCRIPTOR_BYTES));
  const createType = CREATE_TYPE.exec(text)?.[1];
  const detail = createType === undefined ? 'VMDK descriptor file' : `VMDK descriptor file (${createType})`;
  if (FIRST_LINE.test(text))
    return { match: 'yes', reason: 'the first line of a VMDK descriptor', detail, type: 'hdd' };
  const first = firstContentLine(text);
  if (first === null || !VERSION_LINE.test(first)) return null;
  // Other text files begin so too; with a createType it is no accident.
  return {
    match: createType === undefined ? 'maybe' : 'yes',
    reason: 'the version line of a VMDK descriptor',
    detail,
    type: 'hdd',
  };
}

function firstContentLine(text: string): string | null {
  for (const line of text.split('\n')) if (!/^\s*(#|$)/.test(line)) return line;
  return null;
}
