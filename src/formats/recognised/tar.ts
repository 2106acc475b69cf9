/** Tar: archives, and the appliances (OVA) that are tar archives. */

import { fieldAt, hasText } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { extensionOf } from '../../image/registry.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** POSIX ustar and GNU tar: the header of a member. */
const HEADER = { size: 512, name: 0, nameSize: 100, checksum: 148, checksumSize: 8, magic: 257 } as const;
const MAGICS = ['ustar\x0000', 'ustar  \0'];
/** Numbers of the first tars, in octal, which had no magic: mode, owner, group, size, time. */
const NUMBERS = [
  [100, 8],
  [108, 8],
  [116, 8],
  [124, 12],
  [136, 12],
] as const;
const OCTAL = /^ *[0-7]+ *$/;

/** Tar archives, recognised only. */
export const tar = recognisedFormat({
  name: 'tar',
  aliases: ['ova'],
  title: 'Tar Archive or Appliance (OVA)',
  label: 'Tar',
  extensions: ['tar', 'ova'],
  recognise,
});

function recognise({ name, head }: ProbeInput): Recognised | null {
  if (head.length < HEADER.size) return null;
  const magic = MAGICS.some((one) => hasText(head, HEADER.magic, one));
  const sums = checksumFits(head);
  const numbers = NUMBERS.every(([offset, size]) => OCTAL.test(fieldAt(head, offset, size) ?? ''));
  if (!magic && !(sums && numbers)) return null;
  const member = fieldAt(head, HEADER.name, HEADER.nameSize) ?? '';
  const appliance = extensionOf(name) === 'ova' || extensionOf(member) === 'ovf';
  const detail = appliance ? 'an appliance (OVA): an archive of disks and their description' : 'a tar archive';
  const reason = magic ? 'the signature ustar' : 'a header of a tar archive';
  return { match: magic && sums ? 'yes' : 'maybe', reason, detail };
}

/** True when the checksum fits: the sum of all bytes, with blanks in its own place. */
function checksumFits(head: Uint8Array): boolean {
  const text = fieldAt(head, HEADER.checksum, HEADER.checksumSize) ?? '';
  if (!OCTAL.test(text)) return false;
  let sum = HEADER.checksumSize * 0x20;
  for (const [at, byte] of head.subarray(0, HEADER.size).entries()) {
    if (at < HEADER.checksum || at >= HEADER.checksum + HEADER.checksumSize) sum += byte;
  }
  return Number.parseInt(text.trim(), 8) === sum;
}
