/** A made DMG as several files, each with a part of the data and a trailer of the same image. */
import { TRAILER } from '../../../src/formats/dmg/layout.ts';
import { buildDmg, type DmgRecipe } from './build.ts';

/** A file of a split image. */
export interface DmgSegment {
  readonly bytes: Uint8Array;
  readonly trailerOffset: number;
}

/** Builds an image and splits its data at these offsets. The first file has the tables. */
export function splitDmg(
  recipe: Omit<DmgRecipe, 'dataOffset' | 'behind'>,
  cuts: readonly number[],
): { readonly segments: readonly DmgSegment[]; readonly content: Uint8Array } {
  const { bytes, content, trailerOffset } = buildDmg(recipe);
  const whole = TRAILER.decode(bytes, trailerOffset);
  const data = bytes.subarray(0, whole.dataLength);
  const tables = bytes.subarray(whole.dataLength, trailerOffset);
  const edges = [0, ...cuts, data.length];
  const segments = edges.slice(1).map((end, index): DmgSegment => {
    const start = edges[index] ?? 0;
    const part = data.subarray(start, end);
    const behind = index === 0 ? tables : new Uint8Array(0);
    const moved = (offset: number): number => (index === 0 && offset > 0 ? offset - data.length + part.length : 0);
    const trailer = TRAILER.encode({
      ...whole,
      runningOffset: start,
      dataLength: part.length,
      xmlOffset: moved(whole.xmlOffset),
      xmlLength: index === 0 ? whole.xmlLength : 0,
      forkOffset: moved(whole.forkOffset),
      forkLength: index === 0 ? whole.forkLength : 0,
      segment: index + 1,
      segments: cuts.length + 1,
      segmentId: new Uint8Array(16).fill(0x5a),
    });
    return { bytes: Buffer.concat([part, behind, trailer]), trailerOffset: part.length + behind.length };
  });
  return { segments: segments.map((one) => ({ ...one, bytes: Uint8Array.from(one.bytes) })), content };
}
