/** Ways to make a VDI image: its variants, blocks of other sizes, data close to the map, and differencing images. */
import { type MakeWay, way } from '../peer-kit.ts';

export const ways: readonly MakeWay[] = [
  way(''),
  way('', { variant: 'fixed' }),
  way('', { variant: 'zero-expand' }),
  way('DataAlignment=512'),
  way('DataAlignment=512', { variant: 'fixed' }),
  way('AllocationBlockSize=65536'),
  way('AllocationBlockSize=4194304'),
  way('', { over: true }),
];
