/** The parts of the suite that tests and the fuzzer share. */

import { KITS } from '../conformance/kits.ts';
import type { FormatKit } from '../formats/kit.ts';
import { expectedContent } from '../golden/content.ts';
import type { HostileKit, Sample } from './descriptor.ts';
import { PAGE, piecesOf } from './pieces.ts';
import type { BaseFile, BaseImage, Piece } from './protocol.ts';

/** The hostile part of a kit, and its format. */
export interface HostileFormat extends HostileKit {
  readonly format: string;
}

/** All formats whose files can be wrong; those of vdkit, unless other kits are given. */
export function hostileKits(kits: readonly FormatKit[] = KITS): HostileFormat[] {
  return kits.flatMap(({ format, hostile }) => ('without' in hostile ? [] : [{ format, ...hostile }]));
}

/** A sample as children get it. */
export function baseOf(sample: Sample): BaseImage {
  return {
    name: sample.name,
    image: sample.bytes === null ? null : piecesOf(sample.name, sample.bytes),
    parts: (sample.parts ?? []).map(({ name, bytes }) => piecesOf(name, bytes)),
    beside: sample.beside.map(({ name, bytes }) => piecesOf(name, bytes)),
    content: contentOf(sample),
    differencing: sample.differencing,
  };
}

function contentOf({ content, virtualSize }: Sample): BaseFile {
  if (content instanceof Uint8Array) return piecesOf('content', content);
  const pages = new Set<number>();
  for (const op of content) {
    const [start, length] = op[0] === 'zero' ? [op[1], op[2]] : [op[2], op[3]];
    for (let page = start - (start % PAGE); page < start + length; page += PAGE) pages.add(page);
  }
  const pieces: Piece[] = [...pages].map((offset) => ({
    offset,
    bytes: expectedContent(content, offset, Math.min(PAGE, virtualSize - offset)),
  }));
  return { name: 'content', size: virtualSize, pieces };
}
