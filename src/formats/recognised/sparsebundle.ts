/** Apple's sparse bundles: directories of bands with a property list. */
import { xmlOf } from '../../binary/look.ts';
import { recognisedFormat } from './recognise.ts';

/** In the Info.plist of a bundle. */
const BUNDLE_TYPE = 'com.apple.diskimage.sparsebundle';

/** Property lists of sparse bundles, recognised only. */
export const sparsebundle = recognisedFormat({
  name: 'sparsebundle',
  title: 'Apple Sparse Bundle',
  label: 'Sparse bundle',
  extensions: ['sparsebundle'],
  recognise({ head }) {
    const xml = xmlOf(head);
    if (xml?.root !== 'plist' || !xml.text.includes(BUNDLE_TYPE)) return null;
    return { match: 'yes', reason: `the bundle type ${BUNDLE_TYPE}`, detail: "an Apple sparse bundle's property list" };
  },
});
