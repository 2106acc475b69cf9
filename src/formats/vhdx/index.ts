/** VHDX: the disk images of Hyper-V since Windows 8. */
import { hasText } from '../../binary/look.ts';
import type { Format } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { PREALLOCATION_KEY } from '../../image/preallocation-key.ts';

/** The file identifier. */
const SIGNATURE = 'vhdxfile';

/** The VHDX format. */
export const vhdx: Format = defineFormat({
  name: 'vhdx',
  title: 'Microsoft Virtual Hard Disk v2',
  can: { preferred: true, write: true, discard: true, resize: true, compact: true },
  extensions: [
    { extension: 'vhdx', type: 'hdd' },
    { extension: 'avhdx', type: 'hdd' },
  ],
  configKeys: [
    {
      name: 'block_size',
      role: 'unit',
      valueType: 'integer',
      default: null,
      mandatory: false,
      expert: false,
      createOnly: true,
      description: 'Bytes of a block, a power of two from 1 to 256 MiB (default: by the size of the disk).',
    },
    {
      name: 'logical_sector_size',
      valueType: 'integer',
      default: '512',
      mandatory: false,
      expert: false,
      createOnly: true,
      description: 'Bytes of a sector of the disk.',
      values: [512, 4096],
    },
    PREALLOCATION_KEY,
    {
      name: 'log_size',
      valueType: 'integer',
      default: '1048576',
      mandatory: false,
      expert: true,
      createOnly: true,
      description: 'Bytes of the log, a multiple of 1 MiB.',
    },
  ],
  variants: [
    { word: 'dynamic', description: 'blocks get room when they are first written (default)', allocation: 'dynamic' },
    {
      word: 'fixed',
      description: 'all blocks have places, which take no space before they are written, unless preallocation says so',
      allocation: 'fixed',
    },
    { word: 'diff', description: 'stores what differs from a parent', differencing: true },
  ],
  probe: ({ head }) =>
    hasText(head, 0, SIGNATURE)
      ? { match: 'yes', reason: `the signature ${SIGNATURE}`, detail: 'VHDX', type: 'hdd' }
      : { match: 'no', reason: `no signature ${SIGNATURE}` },
  ...loadedMethods(() => import('./open.ts'), ['open']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./check.ts'), ['check', 'repair']),
});
