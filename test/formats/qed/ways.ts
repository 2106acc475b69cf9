/** Ways to make a QED image: clusters and tables of other sizes, and a backing file. */
import { type MakeWay, way } from '../peer-kit.ts';

export const ways: readonly MakeWay[] = [
  way(''),
  way('cluster_size=4096'),
  way('cluster_size=4096,table_size=16'),
  way('cluster_size=1048576'),
  way('table_size=2'),
  way('', { over: true }),
  way('cluster_size=4096', { over: true }),
];
