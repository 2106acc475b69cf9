/** VHDX: Hyper-V's successor of VHD. */
import { hasText } from '../../binary/look.ts';
import { recognisedFormat } from './recognise.ts';

/** [MS-VHDX] 2.2.1, file type identifier. */
const SIGNATURE = 'vhdxfile';

/** Hyper-V's disk format, recognised only. */
export const vhdx = recognisedFormat({
  name: 'vhdx',
  title: 'Microsoft Virtual Hard Disk v2',
  label: 'VHDX',
  extensions: ['vhdx', 'avhdx'],
  recognise: ({ head }) =>
    hasText(head, 0, SIGNATURE) ? { match: 'yes', reason: `the signature ${SIGNATURE}`, detail: 'VHDX' } : null,
});
