/** cloop: compressed loop devices of live discs. */

import { hasText, u32At } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** cloop 2.x, cloop_head: a shell script of 128 bytes, then the size of a block. */
const PREAMBLE = '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n';
const BLOCK_SIZE = 128;

/** The compressed loop format, recognised only. */
export const cloop = recognisedFormat({
  name: 'cloop',
  title: 'Compressed Loop Image',
  label: 'cloop',
  extensions: ['cloop'],
  recognise,
});

function recognise({ head }: ProbeInput): Recognised | null {
  const blockSize = u32At(head, BLOCK_SIZE, 'big');
  if (!hasText(head, 0, PREAMBLE) || blockSize === null) return null;
  // It is a script first of all: only a sensible block size behind it makes it an image.
  const match = blockSize > 0 && blockSize % 512 === 0 ? 'yes' : 'maybe';
  return { match, reason: 'the script at the start of a cloop image', detail: 'cloop version 2.0' };
}
