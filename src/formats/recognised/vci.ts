/** VCI: VirtualBox's cache images, which contain no disk. */

import { hasText, u32At } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** The VCI header as VirtualBox declares it. */
const MAGIC = 'VCI\0';
const VERSION = 4;

/** VirtualBox's cache format, recognised only. */
export const vci = recognisedFormat({
  name: 'vci',
  title: 'VirtualBox Cache Image',
  label: 'VCI',
  extensions: ['vci'],
  recognise,
});

function recognise({ head }: ProbeInput): Recognised | null {
  const version = u32At(head, VERSION, 'little');
  if (!hasText(head, 0, MAGIC) || version === null) return null;
  return { match: 'yes', reason: 'the signature VCI\\0', detail: `VCI cache image version ${version}` };
}
