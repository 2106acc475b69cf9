/** Bochs redologs: growing disks, and the changes that undoable and volatile disks keep beside another image. */
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { HEADER, MAGIC, TYPE } from './layout.ts';

/** The redologs of Bochs, read only. */
export const bochs: Format = defineFormat({
  name: 'bochs',
  title: 'Bochs Redolog',
  probe,
  ...loadedMethods(() => import('./driver.ts'), ['open']),
});

function probe({ head }: ProbeInput): ProbeAnswer {
  if (head.length < HEADER.size || HEADER.get(head, 'magic') !== MAGIC) {
    return { match: 'no', reason: 'no Bochs signature' };
  }
  const { type, subtype, version } = HEADER.decode(head);
  const kind = /^\w{1,15}$/.exec(subtype)?.[0].toLowerCase() ?? 'unknown';
  return {
    match: type === TYPE ? 'yes' : 'maybe',
    reason: `the signature ${MAGIC}`,
    detail: `Bochs ${kind} redolog version ${version >>> 16}.${version & 0xffff}`,
    type: 'hdd',
  };
}
