/** The VCI format: cache images. */
import type { CacheFormat } from '../../image/cache.ts';
import { loadedMethods } from '../../image/driver.ts';

/** VirtualBox's cache format. */
export const vci: CacheFormat = {
  name: 'vci',
  title: 'VirtualBox cache image',
  extensions: [{ extension: 'vci', type: 'hdd' }],
  ...loadedMethods(() => import('./driver.ts'), ['create', 'open', 'check']),
};
