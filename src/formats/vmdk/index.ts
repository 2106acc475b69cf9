/** VMDK: the disk images of VMware. */
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { looksLikeDescriptor } from './descriptor/text.ts';
import { KDMV } from './layout.ts';

/** The VMDK format. */
export const vmdk: Format = defineFormat({
  name: 'vmdk',
  title: 'VMware Virtual Disk',
  can: { uuid: true, preferred: true, write: true, discard: true, compact: true },
  extensions: [{ extension: 'vmdk', type: 'hdd' }],
  probe,
  ...loadedMethods(() => import('./driver.ts'), ['open']),
});

function probe({ head }: ProbeInput): ProbeAnswer {
  if (head.length >= 4 && new DataView(head.buffer, head.byteOffset).getUint32(0, true) === KDMV) {
    return { match: 'yes', reason: 'signature "KDMV" of a sparse extent', detail: 'VMDK sparse extent', type: 'hdd' };
  }
  if (looksLikeDescriptor(head)) {
    return { match: 'yes', reason: 'first line of a VMDK descriptor', detail: 'VMDK descriptor', type: 'hdd' };
  }
  return { match: 'no', reason: 'neither a sparse extent nor a descriptor' };
}
