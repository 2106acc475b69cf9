/** Apple's sparse images: a header and bands of the disk in the order of their first write. */
import { hasText, u32At } from '../../binary/look.ts';
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';

/** The layout module has all of the header. */
const MAGIC = 'sprs';
const VERSION = { offset: 4, known: 3 } as const;

/** Sparse images of one file, read only. */
export const sparseimage: Format = defineFormat({
  name: 'sparseimage',
  title: 'Apple Sparse Image',
  extensions: [{ extension: 'sparseimage', type: 'hdd' }],
  probe,
  ...loadedMethods(() => import('./driver.ts'), ['open']),
});

function probe({ head }: ProbeInput): ProbeAnswer {
  const version = u32At(head, VERSION.offset, 'big');
  if (!hasText(head, 0, MAGIC) || version === null) return { match: 'no', reason: `no signature ${MAGIC}` };
  return {
    match: version === VERSION.known ? 'yes' : 'maybe',
    reason: `the signature ${MAGIC}`,
    detail: `Apple sparse image version ${version}`,
    type: 'hdd',
  };
}
