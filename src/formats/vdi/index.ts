/** VDI: VirtualBox's own disk image. */
import { hex32 } from '../../errors.ts';
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { HEADER, SIGNATURE } from './layout.ts';

/** The VDI format: dynamic, fixed and differencing images, read and written. */
export const vdi: Format = defineFormat({
  name: 'vdi',
  title: 'VirtualBox Disk Image',
  can: { uuid: true, preferred: true, write: true, discard: true, resize: true, compact: true },
  extensions: [{ extension: 'vdi', type: 'hdd' }],
  configKeys: [
    {
      name: 'AllocationBlockSize',
      role: 'unit',
      valueType: 'integer',
      default: '1048576',
      mandatory: false,
      expert: false,
      createOnly: true,
      description: 'Bytes of a block, a power of two. QEMU reads images with 1 MiB blocks only.',
    },
    {
      name: 'DataAlignment',
      valueType: 'integer',
      default: '1048576',
      mandatory: false,
      expert: true,
      createOnly: true,
      description: 'Bytes that the block map and the data are aligned to, a power of two from 512.',
    },
  ],
  variants: [
    {
      word: 'dynamic',
      description: 'blocks are allocated when they are first written (default)',
      allocation: 'dynamic',
    },
    { word: 'fixed', description: 'all space is allocated at creation', allocation: 'fixed' },
    { word: 'diff', description: 'stores the differences from a parent', differencing: true },
    { word: 'zero-expand', description: 'new blocks are filled with zeroes on the medium' },
  ],
  probe,
  ...loadedMethods(() => import('./open.ts'), ['open']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
  ...loadedMethods(() => import('./checker.ts'), ['check', 'repair']),
});

function probe(input: ProbeInput): ProbeAnswer {
  const end = HEADER.fields.version.offset + HEADER.fields.version.size;
  if (input.head.length < end) return { match: 'no', reason: 'shorter than a VDI header' };
  const view = new DataView(input.head.buffer, input.head.byteOffset, input.head.length);
  const signature = view.getUint32(HEADER.fields.signature.offset, true);
  if (signature !== SIGNATURE) return { match: 'no', reason: 'no VDI signature at 0x40' };
  const version = view.getUint32(HEADER.fields.version.offset, true);
  return {
    match: 'yes',
    reason: `VDI signature ${hex32(SIGNATURE)} at 0x40`,
    detail: `VDI version ${version >>> 16}.${version & 0xffff}`,
    type: 'hdd',
  };
}
