/** Further facts of a VDI header, for reports. */
import { hex32 } from '../../errors.ts';
import type { ImageInfo } from '../../image/contract.ts';
import type { VdiHeader } from './header.ts';
import { FLAG_ZERO_EXPAND, FLAG_ZERO_EXPAND_CREATION, HEADER, IMAGE_TYPE } from './layout.ts';

/** Words for the image types. */
const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [IMAGE_TYPE.dynamic, 'dynamic'],
  [IMAGE_TYPE.fixed, 'fixed'],
  [IMAGE_TYPE.undo, 'undo'],
  [IMAGE_TYPE.diff, 'differencing'],
]);

/** Facts of the header that reports have no other place for. `sector`: the first one, as it is on the medium. */
export function detailsOf(header: VdiHeader, sector: Uint8Array): NonNullable<ImageInfo['details']> {
  const { old, type, flags, mapOffset, dataOffset, blockExtra, blockCount } = header;
  // The header before 1.0 has no size field, and another place for the count.
  const [headerSize, allocated] = old
    ? [mapOffset, header.blocksAllocated]
    : [HEADER.get(sector, 'headerSize'), HEADER.get(sector, 'blocksAllocated')];
  return {
    'header text': HEADER.get(sector, 'text').trim(),
    'header size': headerSize,
    'image type': `${type} (${TYPE_NAMES.get(type) ?? 'not known'})`,
    'creation flags': flagsText(flags),
    'block map offset': mapOffset,
    'data offset': dataOffset,
    blocks: blockCount,
    'allocated blocks': allocated,
    'extra bytes per block': blockExtra,
  };
}

function flagsText(flags: number): string {
  return expandsZeroes({ flags }) ? `${hex32(flags)} (zero-expand)` : hex32(flags);
}

/** New blocks are written whole, also where they are zero. */
export function expandsZeroes({ flags }: Pick<VdiHeader, 'flags'>): boolean {
  return (flags & (FLAG_ZERO_EXPAND | FLAG_ZERO_EXPAND_CREATION)) !== 0;
}
