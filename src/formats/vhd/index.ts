/** VHD: the disk images of Virtual PC, Hyper-V and Azure. */
import type { Format } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { PREALLOCATION_KEY } from '../../image/preallocation-key.ts';
import { AZURE_UNIT } from './azure.ts';
import { probeVhd } from './probe.ts';

/** The VHD format. */
export const vhd: Format = defineFormat({
  name: 'vhd',
  aliases: ['vpc'],
  title: 'Microsoft Virtual Hard Disk',
  can: { uuid: true, preferred: true, write: true, discard: true, compact: true, resize: true },
  extensions: [
    { extension: 'vhd', type: 'hdd' },
    { extension: 'avhd', type: 'hdd' },
    { extension: 'vud', type: 'hdd' },
  ],
  configKeys: [
    {
      name: 'block_size',
      role: 'unit',
      valueType: 'integer',
      default: '2097152',
      mandatory: false,
      expert: false,
      createOnly: true,
      description: 'Bytes of a block, a power of two. Windows takes 512 KiB and 2 MiB.',
    },
    PREALLOCATION_KEY,
  ],
  variants: [
    { word: 'dynamic', description: 'blocks get room when they are first written (default)', allocation: 'dynamic' },
    {
      word: 'fixed',
      description:
        'a file as long as the disk, which takes no space before it is written, unless preallocation says so',
      allocation: 'fixed',
    },
    {
      word: 'azure',
      description: 'fixed, of whole MiB, as Azure takes it',
      allocation: 'fixed',
      sizeUnit: AZURE_UNIT,
    },
    { word: 'diff', description: 'stores what differs from a parent', differencing: true },
  ],
  probe: probeVhd,
  ...loadedMethods(() => import('./open.ts'), ['open']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./check.ts'), ['check', 'repair']),
});
