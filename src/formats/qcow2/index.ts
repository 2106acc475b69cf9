/** QCOW2: QEMU's disk image. */
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { AMEND_KEYS, CONFIG_KEYS } from './config.ts';
import { HEADER, MAGIC } from './layout.ts';

/** The QCOW2 format, versions 2 and 3, with all features except encryption. */
export const qcow2: Format = defineFormat({
  name: 'qcow2',
  title: 'QEMU Copy-On-Write, version 2 and 3',
  can: { preferred: true, write: true, discard: true, resize: true, compact: true },
  extensions: [
    { extension: 'qcow2', type: 'hdd' },
    { extension: 'qcow', type: 'hdd' },
    { extension: 'qc2', type: 'hdd' },
  ],
  configKeys: CONFIG_KEYS,
  amendKeys: AMEND_KEYS,
  variants: [
    {
      word: 'dynamic',
      description: 'clusters are allocated when they are first written (default)',
      allocation: 'dynamic',
    },
    { word: 'diff', description: 'stores the differences from a backing file', differencing: true },
  ],
  probe,
  ...loadedMethods(() => import('./open.ts').then(({ openQcow2 }) => ({ open: openQcow2 })), ['open']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./checker.ts'), ['check', 'repair']),
});

function probe({ head }: ProbeInput): ProbeAnswer {
  const end = HEADER.fields.version.offset + HEADER.fields.version.size;
  if (head.length < end) return { match: 'no', reason: 'shorter than a QCOW2 header' };
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  if (view.getUint32(0) !== MAGIC) return { match: 'no', reason: 'no QCOW2 signature' };
  const version = view.getUint32(HEADER.fields.version.offset);
  // Version 1 is another format with the same signature. Later ones are not known, but nothing else either.
  if (version < 2) return { match: 'no', reason: 'a QCOW signature, but of a version before 2' };
  return { match: 'yes', reason: 'the QCOW2 signature QFI\\xfb', detail: `QCOW2 version ${version}`, type: 'hdd' };
}
