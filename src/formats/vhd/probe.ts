/** VHD: a footer at the end of the file, with a copy at its start unless the image is fixed. */

import { hasText, u32At, u64At } from '../../binary/look.ts';
import type { ProbeAnswer, ProbeInput } from '../../image/contract.ts';

/** Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format". */
const FOOTER = {
  size: 512,
  /** Written by versions before Virtual PC 2004. */
  oldSize: 511,
  cookie: 'conectix',
  dataOffset: 16,
  diskType: 60,
  checksum: 64,
} as const;
/** The same, "Dynamic Disk Header Format". */
const DYNAMIC_HEADER = { size: 1024, cookie: 'cxsparse', checksum: 36 } as const;
/** The same, "Disk Type". */
const FIXED = 2;
const TYPES: ReadonlyMap<number | null, string> = new Map([
  [FIXED, 'fixed'],
  [3, 'dynamic'],
  [4, 'differencing'],
]);

/** The answer for a file: the first certain match, otherwise the first uncertain one. */
export function probeVhd(input: ProbeInput): ProbeAnswer {
  const found = [atEnd(input, FOOTER.size), atStart(input), atEnd(input, FOOTER.oldSize)];
  const best = found.find((one) => one?.match === 'yes') ?? found.find((one) => one !== null);
  return best ?? { match: 'no', reason: 'no VHD signature' };
}

function atEnd(input: ProbeInput, size: number): ProbeAnswer | null {
  const start = input.tail.length - size;
  if (!hasText(input.tail, start, FOOTER.cookie)) return null;
  // The short form lacks the last byte, which is zero.
  const footer = new Uint8Array(FOOTER.size);
  footer.set(input.tail.subarray(start));
  const detail = nameOf(u32At(footer, FOOTER.diskType, 'big'));
  if (checksumFits(footer, FOOTER.checksum)) {
    return { match: 'yes', reason: `a VHD footer in the last ${size} bytes`, detail, type: 'hdd' };
  }
  return { match: 'maybe', reason: 'a VHD footer at the end whose checksum does not fit', detail, type: 'hdd' };
}

/**
 * The copy counts only for images that have one, and with the header that follows it: the first sector of a raw disk or
 * of a fixed VHD belongs to the guest.
 */
function atStart({ head }: ProbeInput): ProbeAnswer | null {
  const type = u32At(head, FOOTER.diskType, 'big');
  if (!hasText(head, 0, FOOTER.cookie) || type === FIXED) return null;
  const dataOffset = u64At(head, FOOTER.dataOffset, 'big');
  if (dataOffset === null || dataOffset > BigInt(head.length)) return null;
  const header = head.subarray(Number(dataOffset), Number(dataOffset) + DYNAMIC_HEADER.size);
  if (!hasText(header, 0, DYNAMIC_HEADER.cookie)) return null;
  // Of a file that was cut off, part of the header may be left.
  const whole = header.length === DYNAMIC_HEADER.size && checksumFits(header, DYNAMIC_HEADER.checksum);
  const fits = whole && checksumFits(head.subarray(0, FOOTER.size), FOOTER.checksum);
  const detail = `${nameOf(type)} without its footer`;
  return {
    match: fits ? 'yes' : 'maybe',
    reason: 'a VHD footer copy at the start and its cxsparse header',
    detail,
    type: 'hdd',
  };
}

function nameOf(type: number | null): string {
  const known = TYPES.get(type);
  return known === undefined ? `VHD of unknown type ${type}` : `${known} VHD`;
}

/** True when the checksum fits: the complement of the sum of all other bytes. */
function checksumFits(bytes: Uint8Array, field: number): boolean {
  let sum = 0;
  for (let at = 0; at < bytes.length; at++) if (at < field || at >= field + 4) sum += bytes[at] ?? 0;
  return u32At(bytes, field, 'big') === ~sum >>> 0;
}
