/** Zip: archives, and what begins with something else and ends as one. */

import { hasText, lastPlacesOf, u16At, u32At } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** PKWARE's APPNOTE 6.3, 4.3: a file, an empty archive, a part of one in several volumes. */
const STARTS = ['PK\x03\x04', 'PK\x05\x06', 'PK\x07\x08PK\x03\x04'];
/** The same, 4.3.16: end of central directory record. */
const END = {
  signature: 'PK\x05\x06',
  size: 22,
  entries: 10,
  directorySize: 12,
  directoryOffset: 16,
  comment: 20,
} as const;
/** The same, 4.3.12: smallest entry of the directory. */
const ENTRY_SIZE = 46;

/** Zip archives, recognised only. */
export const zip = recognisedFormat({
  name: 'zip',
  title: 'Zip Archive',
  label: 'Zip',
  extensions: ['zip'],
  recognise: (input) => atStart(input) ?? atEnd(input),
});

function atStart({ head }: ProbeInput): Recognised | null {
  const found = STARTS.some((start) => hasText(head, 0, start));
  return found ? { match: 'yes', reason: 'the signature PK', detail: 'a zip archive' } : null;
}

/**
 * Zip archives after other content, such as self-extracting programs. The end record, with its comment, ends with the
 * file.
 */
function atEnd({ size, tail }: ProbeInput): Recognised | null {
  for (const at of lastPlacesOf(tail, END.signature)) {
    const comment = u16At(tail, at + END.comment, 'little');
    if (comment === null || at + END.size + comment !== tail.length) continue;
    const place = size - tail.length + at;
    const entries = u16At(tail, at + END.entries, 'little') ?? 0;
    const directory = u32At(tail, at + END.directorySize, 'little') ?? 0;
    const offset = u32At(tail, at + END.directoryOffset, 'little') ?? 0;
    if (entries === 0 || directory < entries * ENTRY_SIZE || offset + directory > place) continue;
    // What stands last in a raw disk is the guest's.
    return {
      match: 'maybe',
      reason: 'the end of a zip archive at the end',
      detail: 'a zip archive behind something else',
    };
  }
  return null;
}
