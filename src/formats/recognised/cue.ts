/** CUE: a text that names the files and tracks of a disc. */

import { textOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** CDRWIN User's Guide, appendix "Cuesheet commands". Keywords in any case, as found in real files. */
const REMARK = /^REM\b/i;
const BEFORE_FILE = /^(CATALOG|CDTEXTFILE|TITLE|PERFORMER|SONGWRITER)\b/i;
const FILE = /^FILE[ \t].*[ \t](BINARY|MOTOROLA|WAVE|AIFF|MP3)$/i;
const TRACK =
  /^TRACK[ \t]+\d{1,2}[ \t]+(AUDIO|CDG|MODE1\/2048|MODE1\/2352|MODE2\/2048|MODE2\/2336|MODE2\/2352|CDI\/2336|CDI\/2352)$/i;
/** Maximum line length of a cue sheet; longer ones are not searched. */
const LONGEST_LINE = 1024;

/** Cue sheets, recognised only. */
export const cue = recognisedFormat({
  name: 'cue',
  title: 'Cue Sheet',
  label: 'CUE',
  extensions: ['cue'],
  type: 'optical',
  recognise,
});

/** A FILE line comes first, except for lines about the whole disc; a TRACK line follows it. */
function recognise({ head }: ProbeInput): Recognised | null {
  let file = false;
  for (const line of linesOf(head)) {
    if (line.length > LONGEST_LINE) return null;
    if (line === '' || REMARK.test(line) || (!file && BEFORE_FILE.test(line))) continue;
    if (file) {
      const match = TRACK.test(line) ? 'yes' : 'maybe';
      return { match, reason: 'a cue sheet with a FILE line', detail: 'CUE sheet' };
    }
    if (!FILE.test(line)) return null;
    file = true;
  }
  return file ? { match: 'maybe', reason: 'a cue sheet without tracks', detail: 'CUE sheet' } : null;
}

function linesOf(head: Uint8Array): string[] {
  // A disc or a disk has NULs soon; a sheet has none.
  if (head.includes(0)) return [];
  return textOf(head)
    .split(/\r?\n/)
    .map((line) => line.trim());
}
