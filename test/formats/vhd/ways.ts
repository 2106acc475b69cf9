/** Ways to make a VHD image: its variants, blocks of other sizes, and differencing images. */
import { type MakeWay, way } from '../peer-kit.ts';

export const ways: readonly MakeWay[] = [
  way(''),
  way('', { variant: 'fixed' }),
  way('block_size=524288'),
  way('block_size=4096'),
  way('block_size=8388608'),
  way('', { over: true }),
  way('block_size=524288', { over: true }),
];
