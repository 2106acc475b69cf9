/** Apple's sparse bundles: a directory with a property list and a file for each band of the disk that was written. */
import { xmlOf } from '../../binary/look.ts';
import type { DirectoryProbeInput, Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';

/** The layout module has all names. */
const BUNDLE_TYPE = 'com.apple.diskimage.sparsebundle';
const LISTS = ['Info.plist', 'Info.bckup'] as const;
const TOKEN = 'token';

/** Sparse bundles, read only. */
export const sparsebundle: Format = defineFormat({
  name: 'sparsebundle',
  title: 'Apple Sparse Bundle',
  extensions: [{ extension: 'sparsebundle', type: 'hdd' }],
  probe,
  probeDirectory,
  directoryMain: LISTS[0],
  ...loadedMethods(() => import('./driver.ts'), ['open']),
});

/** The property list of a bundle, which is named instead of its directory. */
function probe({ head }: ProbeInput): ProbeAnswer {
  const xml = xmlOf(head);
  if (xml?.root !== 'plist' || !xml.text.includes(BUNDLE_TYPE)) {
    return { match: 'no', reason: `no property list with the bundle type ${BUNDLE_TYPE}` };
  }
  const detail = "an Apple sparse bundle's property list";
  return { match: 'yes', reason: `the bundle type ${BUNDLE_TYPE}`, detail, type: 'hdd' };
}

function probeDirectory({ name, names }: DirectoryProbeInput): ProbeAnswer {
  const list = LISTS.find((one) => names.includes(one));
  if (list === undefined) return { match: 'no', reason: `it does not contain ${LISTS[0]}` };
  const others = [...LISTS, TOKEN].filter((one) => one !== list && names.includes(one));
  const isSure = others.length > 0 || /\.sparsebundle[/\\]*$/i.test(name);
  const reason = `it contains ${[list, ...others].join(', ')}`;
  return { match: isSure ? 'yes' : 'maybe', reason, detail: 'Apple sparse bundle', type: 'hdd' };
}
