/** Images of three files for the test suites. */
import type { Sample } from '../../hostile/descriptor.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import type { FormatKit } from '../kit.ts';
import { dataParts, linesOf } from './sample-parts.ts';

/** A sound image, called `image`. */
function sample(): Sample {
  const sizes = new Map([
    ['image-1.half', 11 * 512],
    ['image-2.half', 30 * 512],
  ]);
  const { parts, content } = dataParts(sizes);
  const bytes = new TextEncoder().encode(`HALVES\n${[...sizes.keys()].join('\n')}\n`);
  return {
    name: 'two halves',
    format: 'halves',
    bytes,
    parts,
    beside: [{ name: 'beside.bin', bytes: new Uint8Array(512) }],
    anatomy: linesOf(bytes, 'same'),
    virtualSize: content.length,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

/** Names of 1 GiB that are a hole. */
function hollow(): BaseImage[] {
  const name = 'long names';
  const image = { name, size: 2 ** 30, pieces: [{ offset: 0, bytes: new TextEncoder().encode('HALVES\n') }] };
  return [{ name, image, beside: [], content: null, differencing: false }];
}

export const kit: FormatKit = {
  format: 'halves',
  golden: { without: 'no program has the format' },
  hostile: { samples: async () => [sample()], hollow, files: 100 },
};
