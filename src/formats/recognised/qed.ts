/** QED: QEMU Enhanced Disk. */
import { hasText } from '../../binary/look.ts';
import { recognisedFormat } from './recognise.ts';

/** The QED specification of QEMU, "Header". */
const MAGIC = 'QED\0';

/** QEMU's enhanced disk format, recognised only. */
export const qed = recognisedFormat({
  name: 'qed',
  title: 'QEMU Enhanced Disk',
  label: 'QED',
  extensions: ['qed'],
  recognise: ({ head }) =>
    hasText(head, 0, MAGIC) ? { match: 'yes', reason: 'the signature QED\\0', detail: 'QED' } : null,
});
