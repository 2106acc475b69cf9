/** TOC: cdrdao's text that names the files and tracks of a disc. */
import { textOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** cdrdao(1), "TOC-FILES": the kind of the disc, then its tracks. */
const KIND = /^CD_(DA|ROM|ROM_XA|I)$/;
const TRACK = /^TRACK\s+(AUDIO|MODE[012])/;
const OTHER = /^(\/\/|CATALOG\b|$)/;

/** TOC files, recognised only. */
export const toc = recognisedFormat({
  name: 'toc',
  title: 'cdrdao TOC File',
  label: 'TOC',
  extensions: ['toc'],
  type: 'optical',
  remedy: 'Make a cue sheet of it (toc2cue), and open that',
  recognise,
});

/** The kind of the disc comes first, beside a catalog number and comments. */
function recognise({ head }: ProbeInput): Recognised | null {
  if (head.includes(0)) return null;
  let kind = false;
  for (const line of textOf(head).split(/\r?\n/)) {
    const text = line.trim();
    if (kind && TRACK.test(text)) return { match: 'yes', reason: 'the kind of a disc and a track', detail: 'TOC file' };
    if (KIND.test(text)) kind = true;
    else if (!kind && !OTHER.test(text)) return null;
  }
  return kind ? { match: 'maybe', reason: 'the kind of a disc', detail: 'TOC file' } : null;
}
