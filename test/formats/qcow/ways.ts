/** Ways to make a QCOW image: clusters of other sizes, compressed ones, and a backing file. */
import { type MakeWay, way } from '../peer-kit.ts';

export const ways: readonly MakeWay[] = [
  way(''),
  way('cluster_size=512'),
  way('cluster_size=65536'),
  way('', { over: true }),
  way('cluster_size=65536', { over: true }),
];
