/** Apple's older sparse images: one file, or a directory of bands with a property list. */

import { hasText, u32At, xmlOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** Apple publishes no layout; these bytes are in every file. */
const MAGIC = 'sprs';
const VERSION = { offset: 4, known: 3 } as const;
/** In the Info.plist of a bundle. */
const BUNDLE_TYPE = 'com.apple.diskimage.sparsebundle';

/** Sparse images and the property lists of sparse bundles, recognised only. */
export const sparseimage = recognisedFormat({
  name: 'sparseimage',
  aliases: ['sparsebundle'],
  title: 'Apple Sparse Image',
  label: 'Sparse image',
  extensions: ['sparseimage', 'sparsebundle'],
  recognise: (input) => image(input) ?? bundle(input),
});

function image({ head }: ProbeInput): Recognised | null {
  const version = u32At(head, VERSION.offset, 'big');
  if (!hasText(head, 0, MAGIC) || version === null) return null;
  const match = version === VERSION.known ? 'yes' : 'maybe';
  return { match, reason: `the signature ${MAGIC}`, detail: `an Apple sparse image version ${version}` };
}

function bundle({ head }: ProbeInput): Recognised | null {
  const xml = xmlOf(head);
  if (xml?.root !== 'plist' || !xml.text.includes(BUNDLE_TYPE)) return null;
  return { match: 'yes', reason: `the bundle type ${BUNDLE_TYPE}`, detail: "an Apple sparse bundle's property list" };
}
