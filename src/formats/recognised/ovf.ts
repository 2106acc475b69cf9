/** OVF: the text that describes an appliance and names its disks. */

import { xmlOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** DMTF DSP0243: the element at the root, with any prefix, and the namespace that it is in. */
const ROOT = 'Envelope';
const NAMESPACE = /\bovf\b/i;

/** Descriptions of appliances, recognised only. */
export const ovf = recognisedFormat({
  name: 'ovf',
  title: 'Open Virtualization Format Description',
  label: 'OVF',
  extensions: ['ovf'],
  recognise,
});

function recognise({ head }: ProbeInput): Recognised | null {
  const xml = xmlOf(head);
  if (xml?.root.split(':').at(-1) !== ROOT || !NAMESPACE.test(xml.text)) return null;
  return { match: 'yes', reason: 'an OVF envelope', detail: 'the description of an appliance (OVF)' };
}
