/** QCOW version 1: QEMU's first copy-on-write format. */
import { u32At } from '../../binary/look.ts';
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { HEADER, MAGIC, VERSION } from './layout.ts';

/** The QCOW format, version 1. */
export const qcow: Format = defineFormat({
  name: 'qcow',
  aliases: ['qcow1'],
  title: 'QEMU Copy-On-Write, version 1',
  can: { write: true, discard: true, resize: true, compact: true },
  extensions: [
    { extension: 'qcow1', type: 'hdd' },
    // A new image with this name is one of version 2.
    { extension: 'qcow', type: 'hdd' },
  ],
  configKeys: [
    {
      name: 'cluster_size',
      role: 'unit',
      valueType: 'integer',
      default: '4096',
      mandatory: false,
      expert: false,
      createOnly: true,
      description: 'Bytes of a cluster, a power of two from 512 to 65536; 512 over a backing file unless given.',
    },
    {
      name: 'compression_type',
      role: 'compression',
      values: ['zlib'],
      valueType: 'string',
      default: 'zlib',
      mandatory: false,
      expert: true,
      createOnly: true,
      description: 'Method of compressed clusters; the format has one.',
    },
  ],
  variants: [
    { word: 'dynamic', description: 'clusters get room when they are first written (default)', allocation: 'dynamic' },
    { word: 'diff', description: 'stores what differs from a backing file', differencing: true },
  ],
  probe,
  ...loadedMethods(() => import('./open.ts'), ['open']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./check.ts'), ['check', 'repair']),
});

function probe({ head }: ProbeInput): ProbeAnswer {
  const isQcow = u32At(head, 0, 'big') === MAGIC && u32At(head, HEADER.fields.version.offset, 'big') === VERSION;
  if (!isQcow) return { match: 'no', reason: 'no QCOW signature of version 1' };
  return { match: 'yes', reason: 'the QCOW signature QFI\\xfb', detail: 'QCOW version 1', type: 'hdd' };
}
