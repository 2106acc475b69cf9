/** Ways to make a Parallels image: both signatures, and clusters of other sizes, powers of two or not. */
import { type MakeWay, way } from '../peer-kit.ts';

export const ways: readonly MakeWay[] = [
  way(''),
  way('', { variant: 'ext' }),
  way('cluster_size=32256'),
  way('cluster_size=65536'),
  way('cluster_size=258048', { variant: 'ext' }),
];
