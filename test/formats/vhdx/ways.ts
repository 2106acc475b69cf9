/** Ways to make a VHDX image: its variants, blocks and sectors of other sizes, a longer log, and over a parent. */
import { type MakeWay, way } from '../peer-kit.ts';

const MIB = 1024 * 1024;

export const ways: readonly MakeWay[] = [
  way(''),
  way('', { variant: 'fixed' }),
  way(`block_size=${MIB}`),
  way(`block_size=${32 * MIB}`),
  way(`log_size=${2 * MIB}`),
  way('logical_sector_size=4096'),
  way('', { over: true }),
  way(`block_size=${MIB}`, { over: true }),
];
