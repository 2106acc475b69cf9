/** VISO: a command line for an ISO maker, kept in a file. */
import { textOf } from '../../binary/look.ts';
import type { Format } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { LOOKED_AT, MARKER } from './marker.ts';

/** ISO images that are made of other files as they are read. */
export const viso: Format = defineFormat({
  name: 'viso',
  aliases: ['vboxisomaker'],
  title: 'VirtualBox ISO Maker File',
  extensions: [{ extension: 'viso', type: 'optical' }],
  probe: ({ head }) =>
    MARKER.test(textOf(head.subarray(0, LOOKED_AT)))
      ? { match: 'yes', reason: 'the ISO maker file marker', detail: 'VISO', type: 'optical' }
      : { match: 'no', reason: 'no VISO signature' },
  ...loadedMethods(() => import('./driver.ts'), ['open']),
});
