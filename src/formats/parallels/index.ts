/** Parallels: the expandable disks of Parallels Desktop and Virtuozzo. */
import { hasText, xmlOf } from '../../binary/look.ts';
import type { Format } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { BUNDLE, DESCRIPTOR, DESCRIPTOR_ROOT, MAGIC } from './layout.ts';

const TITLES = [
  [MAGIC.classic, 'Parallels disk'],
  [MAGIC.extended, 'Parallels disk with the extended signature'],
] as const;

/** The Parallels format. */
export const parallels: Format = defineFormat({
  name: 'parallels',
  aliases: ['hdd'],
  title: 'Parallels Disk',
  can: { write: true, discard: true, resize: true, compact: true },
  extensions: [
    { extension: 'hdd', type: 'hdd' },
    { extension: 'hds', type: 'hdd' },
  ],
  configKeys: [
    {
      name: 'cluster_size',
      role: 'unit',
      valueType: 'integer',
      default: '1048576',
      mandatory: false,
      expert: false,
      createOnly: true,
      description: 'Bytes of a cluster, a multiple of 512.',
    },
  ],
  variants: [
    {
      word: 'dynamic',
      description:
        'clusters get room when they are first written (default), with the classic signature, which all programs read; disks of about 2 TiB and more get the extended one',
      allocation: 'dynamic',
    },
    { word: BUNDLE, description: 'a directory with a descriptor and the disk file, to which snapshots can be added' },
    { word: 'ext', description: 'with the extended signature, which VirtualBox takes for a raw disk' },
  ],
  probe({ head }) {
    const found = TITLES.find(([magic]) => hasText(head, 0, magic));
    if (found === undefined && xmlOf(head)?.root === DESCRIPTOR_ROOT) {
      const detail = `Parallels disk descriptor (${DESCRIPTOR})`;
      return { match: 'yes', reason: `the element ${DESCRIPTOR_ROOT}`, detail, type: 'hdd' };
    }
    if (found === undefined) return { match: 'no', reason: 'no Parallels signature' };
    return { match: 'yes', reason: `the signature ${found[0]}`, detail: found[1], type: 'hdd' };
  },
  probeDirectory: ({ names }) =>
    names.includes(DESCRIPTOR)
      ? { match: 'yes', reason: `it contains ${DESCRIPTOR}`, detail: 'Parallels bundle', type: 'hdd' }
      : { match: 'no', reason: `it does not contain ${DESCRIPTOR}` },
  directoryMain: DESCRIPTOR,
  makesDirectory: ({ variant }) => variant.includes(BUNDLE),
  ...loadedMethods(() => import('./open.ts'), ['open', 'extendDirectory']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./check.ts'), ['check', 'repair']),
});
