/** Tar: archives, and the appliances (OVA) that are tar archives. */

import { hasText, textOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { extensionOf } from '../../image/registry.ts';
import { checksumFits, HEADER, isOctal, MAGIC } from './inside/tar-layout.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** Numbers that the first tars had as well, which had no magic. */
const NUMBERS = ['mode', 'owner', 'group', 'size', 'modified'] as const;

/** Tar archives: found out what is inside, and read in place. */
export const tar = recognisedFormat({
  name: 'tar',
  aliases: ['ova'],
  title: 'Tar Archive or Appliance (OVA)',
  label: 'Tar',
  extensions: ['tar', 'ova'],
  unwrap: async (storage, options) => (await import('./inside/tar.ts')).unwrapTar(storage, options),
  recognise,
});

function recognise({ name, head }: ProbeInput): Recognised | null {
  if (head.length < HEADER.size) return null;
  const magic = Object.values(MAGIC).some((one) => hasText(head, HEADER.fields.magic.offset, one));
  const sums = checksumFits(head);
  const numbers = NUMBERS.every((field) => isOctal(textOf(fieldBytes(head, field))));
  if (!magic && !(sums && numbers)) return null;
  const member = textOf(fieldBytes(head, 'name'));
  const appliance = extensionOf(name) === 'ova' || extensionOf(member) === 'ovf';
  const detail = appliance ? 'an appliance (OVA): an archive of disks and their description' : 'a tar archive';
  const reason = magic ? 'the signature ustar' : 'a header of a tar archive';
  return { match: magic && sums ? 'yes' : 'maybe', reason, detail };
}

function fieldBytes(head: Uint8Array, name: keyof typeof HEADER.fields): Uint8Array {
  const { offset, size } = HEADER.fields[name];
  return head.subarray(offset, offset + size);
}
