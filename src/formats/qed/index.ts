/** QED: QEMU's enhanced disk. */
import { hasText } from '../../binary/look.ts';
import type { Format } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';

/** The signature, as text. */
const SIGNATURE = 'QED\0';

/** The QED format. */
export const qed: Format = defineFormat({
  name: 'qed',
  title: 'QEMU Enhanced Disk',
  can: { write: true, discard: true, resize: true, compact: true },
  extensions: [{ extension: 'qed', type: 'hdd' }],
  configKeys: [
    {
      name: 'cluster_size',
      role: 'unit',
      valueType: 'integer',
      default: '65536',
      mandatory: false,
      expert: false,
      createOnly: true,
      description: 'Bytes of a cluster, a power of two from 4 KiB to 64 MiB.',
    },
    {
      name: 'table_size',
      valueType: 'integer',
      default: '4',
      mandatory: false,
      expert: true,
      createOnly: true,
      description: 'Clusters of the L1 table and of each L2 table: 2, 4, 8 or 16.',
    },
  ],
  variants: [
    { word: 'dynamic', description: 'clusters get room when they are first written (default)', allocation: 'dynamic' },
    { word: 'diff', description: 'stores what differs from a backing file', differencing: true },
  ],
  probe: ({ head }) =>
    hasText(head, 0, SIGNATURE)
      ? { match: 'yes', reason: 'the signature QED\\0', detail: 'QED', type: 'hdd' }
      : { match: 'no', reason: 'no signature QED\\0' },
  ...loadedMethods(() => import('./open.ts'), ['open']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./check.ts'), ['check', 'repair']),
});
