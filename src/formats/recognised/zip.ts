/** Zip: archives, and what begins with something else and ends as one. */

import { hasText, lastPlacesOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { END, ENTRY, SIGNATURE } from './inside/zip-layout.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** PKWARE's APPNOTE 6.3, 4.3: a file, an empty archive, a part of one in several volumes. */
const STARTS = ['PK\x03\x04', 'PK\x05\x06', 'PK\x07\x08PK\x03\x04'];
/** Zip archives: a stored disk is read in place, a compressed one unpacked. */
export const zip = recognisedFormat({
  name: 'zip',
  title: 'Zip Archive',
  label: 'Zip',
  extensions: ['zip'],
  unwrap: async (storage, options) => (await import('./inside/zip.ts')).unwrapZip(storage, options),
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
  for (const at of lastPlacesOf(tail, SIGNATURE.end)) {
    if (at + END.size > tail.length) continue;
    const { commentLength, entries, directorySize, directoryOffset } = END.decode(tail, at);
    if (at + END.size + commentLength !== tail.length) continue;
    const place = size - tail.length + at;
    if (entries === 0 || directorySize < entries * ENTRY.size || directoryOffset + directorySize > place) continue;
    // What stands last in a raw disk is the guest's.
    return {
      match: 'maybe',
      reason: 'the end of a zip archive at the end',
      detail: 'a zip archive behind something else',
    };
  }
  return null;
}
