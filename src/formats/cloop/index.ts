/** cloop: compressed loop devices of live discs. */
import { hasText, u32At } from '../../binary/look.ts';
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { HEADER_OFFSET, LIMITS, PREAMBLE } from './layout.ts';

/** Compressed loop images of version 2, read only. */
export const cloop: Format = defineFormat({
  name: 'cloop',
  title: 'Compressed Loop Image',
  extensions: [{ extension: 'cloop', type: 'hdd' }],
  probe,
  ...loadedMethods(() => import('./driver.ts'), ['open']),
});

function probe({ head }: ProbeInput): ProbeAnswer {
  const blockSize = u32At(head, HEADER_OFFSET, 'big');
  if (!hasText(head, 0, PREAMBLE) || blockSize === null) return { match: 'no', reason: 'no cloop script' };
  // It is a script first of all: only a sensible block size behind it makes it an image.
  const sensible = blockSize > 0 && blockSize % 512 === 0 && blockSize <= LIMITS.blockBytes;
  return {
    match: sensible ? 'yes' : 'maybe',
    reason: 'the script at the start of a cloop image',
    detail: 'cloop version 2.0',
    type: 'hdd',
  };
}
