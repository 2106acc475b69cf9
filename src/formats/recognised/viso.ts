/** VISO: a command line for an ISO maker, kept in a file. */

import { textOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** VirtualBox User Manual, "Creating ISO images on the fly": the first option of the file, with the image's UUID. */
const MARKER =
  /^\s*--iprt-iso-maker-file-marker(-bourne|-bourne-sh|-ms|-ms-crt)?[=:\s]\s*[{"']?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;
/** Bytes that VirtualBox examines. */
const LOOKED_AT = 1024;

/** VirtualBox's ISO images made on the fly, recognised only. */
export const viso = recognisedFormat({
  name: 'viso',
  aliases: ['vboxisomaker'],
  title: 'VirtualBox ISO Maker File',
  label: 'VISO',
  extensions: ['viso'],
  type: 'optical',
  recognise,
});

function recognise({ head }: ProbeInput): Recognised | null {
  if (!MARKER.test(textOf(head.subarray(0, LOOKED_AT)))) return null;
  return { match: 'yes', reason: 'the ISO maker file marker', detail: 'VISO' };
}
