/** Medium type of a raw file: from the descriptors of an optical disc, otherwise from extension and size. */
import type { MediumType, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { extensionOf } from '../../image/registry.ts';
import { FLOPPY_MAX, OPTICAL_MIN, OPTICAL_SECTOR } from './layout.ts';

const OPTICAL = new Set(['iso', 'cdr']);
const FLOPPY = new Set(['img', 'ima', 'dsk', 'flp', 'vfd']);

/** Always `maybe` for a non-empty file: no content proves that it is raw. Never throws. */
export function probeRaw(input: ProbeInput): ProbeAnswer {
  if (input.size === 0) return { match: 'no', reason: 'the file is empty' };
  const { type, reason } = medium(input);
  return { match: 'maybe', reason, detail: `raw ${type} image`, type };
}

/** The medium type. Content takes precedence over the name. */
export function mediumType(input: ProbeInput): MediumType {
  return medium(input).type;
}

function medium(input: ProbeInput): { type: MediumType; reason: string } {
  const roomy = input.size > OPTICAL_MIN;
  const wholeSectors = input.size % OPTICAL_SECTOR === 0 && roomy;
  const extension = extensionOf(input.name);
  const named = `the extension .${extension} and a size that fits`;
  // Tools append to discs, and cut them: the descriptors tell more than the length.
  if (roomy && hasOpticalDescriptors(input)) return { type: 'optical', reason: 'ISO 9660 or UDF descriptors' };
  if (wholeSectors && OPTICAL.has(extension)) return { type: 'optical', reason: named };
  if (FLOPPY.has(extension) && input.size <= FLOPPY_MAX) return { type: 'floppy', reason: named };
  return { type: 'hdd', reason: 'no format signature was found' };
}

/**
 * ECMA-119 8: a sequence of volume descriptors from sector 16, with a primary one before the terminator. ECMA-167 2/9:
 * BEA01, NSR02 or NSR03, TEA01 in the same place.
 */
export function hasOpticalDescriptors(input: ProbeInput): boolean {
  let primary = false;
  let extended = false;
  let udf = false;
  for (let at = 16 * OPTICAL_SECTOR; at + OPTICAL_SECTOR <= input.head.length; at += OPTICAL_SECTOR) {
    const type = input.head[at];
    const name = new TextDecoder('latin1').decode(input.head.subarray(at + 1, at + 6));
    if (name === 'CD001') {
      if (type === 1) primary = true;
      if (type === 255 && primary) return true;
    } else if (name === 'BEA01') extended = true;
    else if (name === 'NSR02' || name === 'NSR03') udf = extended;
    else if (name === 'TEA01') return udf;
    else if (name !== 'BOOT2') return false;
  }
  return false;
}
