/** Cue sheets: a text that names the files and tracks of a disc. */
import { textOf } from '../../binary/look.ts';
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';

/** CDRWIN User's Guide, appendix "Cuesheet commands". Keywords in any case, as found in real files. */
const REMARK = /^REM\b/i;
const BEFORE_FILE = /^(CATALOG|CDTEXTFILE|TITLE|PERFORMER|SONGWRITER)\b/i;
const FILE = /^FILE\s.*\s(BINARY|MOTOROLA|WAVE|AIFF|MP3|FLAC|OGG)$/i;
const TRACK = /^TRACK\s+\d+\s+(AUDIO|CDG|MODE[12]\/2|CDI\/2)/i;
const KEY = { mandatory: false, expert: false, createOnly: false, default: null } as const;

/** Cue sheets with their tracks, read only. */
export const cue: Format = defineFormat({
  name: 'cue',
  title: 'Cue Sheet',
  extensions: [{ extension: 'cue', type: 'optical' }],
  configKeys: [
    {
      ...KEY,
      name: 'track',
      valueType: 'integer',
      description: 'Track to read.',
    },
    {
      ...KEY,
      name: 'sectors',
      valueType: 'string',
      values: ['raw', 'data'],
      description: 'Stored sectors or user data (default: raw; of a track: data).',
    },
  ],
  probe,
  ...loadedMethods(() => import('./driver.ts'), ['open']),
});

/** A FILE line comes first, except for lines about the whole disc; a TRACK line follows it. */
function probe({ head }: ProbeInput): ProbeAnswer {
  let file = false;
  for (const line of linesOf(head)) {
    if (line === '' || REMARK.test(line) || (!file && BEFORE_FILE.test(line))) continue;
    if (file) return answer(TRACK.test(line) ? 'yes' : 'maybe', 'a cue sheet with a FILE line');
    if (!FILE.test(line)) break;
    file = true;
  }
  return file ? answer('maybe', 'a cue sheet without tracks') : { match: 'no', reason: 'no CUE signature' };
}

function answer(match: 'yes' | 'maybe', reason: string): ProbeAnswer {
  return { match, reason, detail: 'CUE sheet', type: 'optical' };
}

function linesOf(head: Uint8Array): string[] {
  // A disc or a disk has NULs soon; a sheet has none.
  if (head.includes(0)) return [];
  return textOf(head)
    .split(/\r?\n|\r/)
    .map((line) => line.trim());
}
