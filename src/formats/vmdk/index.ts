/** VMDK: the disk images of VMware. */
import type { ConfigKey, Format } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { PREALLOCATION_KEY } from '../../image/preallocation-key.ts';
import { encodesAlways, LEVELS } from './config.ts';
import { isStream, probeVmdk } from './probe.ts';

/** The VMDK format. */
export const vmdk: Format = defineFormat({
  name: 'vmdk',
  title: 'VMware Virtual Disk',
  can: { uuid: true, preferred: true, write: true, discard: true, resize: true, compact: true },
  extensions: [{ extension: 'vmdk', type: 'hdd' }],
  configKeys: [
    key('subformat', null, 'Subformat by its createType, as in qemu-img; otherwise by the variant words.'),
    key('adapter_type', 'ide', 'Adapter that the disk is meant for: ide, buslogic, lsilogic, legacyESX.'),
    key('hwversion', '4', 'Version of the virtual hardware.'),
    { ...key('zeroed_grain', 'off', 'Mark grains as zero; VirtualBox refuses such images.'), expert: true },
    {
      ...key(
        'grain_size',
        '65536',
        'Bytes of a grain, a power of two from 4 KiB to 2 MiB; delta files of ESX have 512.',
      ),
      valueType: 'integer',
      role: 'unit',
    },
    PREALLOCATION_KEY,
    {
      ...key('compression_level', '5', 'Level at which the grains of a stream are compressed: 1, fast, to 9, small.'),
      ...{ valueType: 'integer', role: 'compression level', values: LEVELS },
    },
  ],
  amendKeys: [
    amendKey('adapter_type', 'Adapter that the disk is meant for: ide, buslogic, lsilogic, legacyESX.'),
    amendKey('hwversion', 'Version of the virtual hardware.'),
  ],
  variants: [
    { word: 'dynamic', description: 'grains get room when they are first written (default)', allocation: 'dynamic' },
    {
      word: 'fixed',
      description: 'flat files; they take no space before it is written, unless preallocation asks for it',
      allocation: 'fixed',
    },
    { word: 'split', description: 'extents of at most 2047 MiB; dynamic, or fixed,split' },
    { word: 'stream', description: 'streamOptimized: compressed, written once', allocation: 'dynamic' },
    { word: 'esx', description: 'the flavour of ESX: fixed, or a delta file (COWD) with dynamic or over a parent' },
    { word: 'diff', description: 'stores what differs from a parent', differencing: true },
  ],
  probe: probeVmdk,
  encodesAlways,
  writesForwards: encodesAlways,
  readsForwards: isStream,
  ...loadedMethods(() => import('./open.ts').then(({ openVmdk }) => ({ open: openVmdk })), ['open']),
  ...loadedMethods(() => import('./forwards.ts'), ['openForwards']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./raw-disk.ts'), ['describeDevice']),
  ...loadedMethods(
    () => import('./check.ts').then(({ checkVmdk, repairVmdk }) => ({ check: checkVmdk, repair: repairVmdk })),
    ['check', 'repair'],
  ),
});

function key(name: string, usual: string | null, description: string): ConfigKey {
  return { name, valueType: 'string', default: usual, mandatory: false, expert: false, createOnly: true, description };
}

function amendKey(name: string, description: string): ConfigKey {
  return { ...key(name, null, description), createOnly: false };
}
