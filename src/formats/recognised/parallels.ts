/** Parallels: expandable disks. A bundle is a directory with such files in it. */

import { hasText, u32At, xmlOf } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** Parallels Expandable Image File Format of QEMU's documentation, "Header". */
const MAGICS = { WithoutFreeSpace: 'Parallels disk', WithouFreSpacExt: 'Parallels disk with extensions' } as const;
const VERSION = 16;
/** Of DiskDescriptor.xml: the element at the root. */
const DESCRIPTOR = 'Parallels_disk_image';

/** The disk format of Parallels Desktop, recognised only. */
export const parallels = recognisedFormat({
  name: 'parallels',
  aliases: ['hdd'],
  title: 'Parallels Disk',
  label: 'Parallels',
  extensions: ['hdd', 'hds'],
  recognise,
});

function recognise({ head }: ProbeInput): Recognised | null {
  const version = u32At(head, VERSION, 'little');
  for (const [magic, name] of Object.entries(MAGICS)) {
    if (!hasText(head, 0, magic) || version === null) continue;
    return { match: 'yes', reason: `the signature ${magic}`, detail: `${name} version ${version}` };
  }
  if (xmlOf(head)?.root !== DESCRIPTOR) return null;
  return {
    match: 'yes',
    reason: `the element ${DESCRIPTOR}`,
    detail: 'Parallels disk descriptor (DiskDescriptor.xml)',
  };
}
