/** Bundles of Parallels: a directory with disks, and a file that describes how they belong together. */

import { xmlOf } from '../../binary/look.ts';
import { recognisedFormat } from './recognise.ts';

/** Of DiskDescriptor.xml: the element at the root. */
const DESCRIPTOR = 'Parallels_disk_image';

/** The descriptor of a bundle, recognised only. The disks beside it are a format with a driver. */
export const parallelsBundle = recognisedFormat({
  name: 'parallelsbundle',
  title: 'Parallels disk descriptor',
  label: 'Parallels disk descriptor',
  extensions: [],
  remedy: 'Name the disk beside it, a file that ends in .hds',
  recognise: ({ head }) =>
    xmlOf(head)?.root === DESCRIPTOR
      ? {
          match: 'yes',
          reason: `the element ${DESCRIPTOR}`,
          detail: 'Parallels disk descriptor (DiskDescriptor.xml)',
        }
      : null,
});
