/** Filters and a cache below the queues of the queue model. */
import type { Disk } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import type { Random } from '../../src/testing/random.ts';
import { xorFilter } from '../../src/testing/xor-filter.ts';

/** Layers between the queue and the images for some seeds. */
export interface QueueLayers {
  readonly names: readonly ('filter' | 'cache')[];
  put(disk: Disk): Promise<void>;
}

/** Chooses them. */
export function queueLayers(random: Random, provider: StorageProvider): QueueLayers {
  const names = (['filter', 'cache'] as const).filter(() => random.chance(0.75));
  const file = { provider, name: '/disk.vci' };
  let made = false;
  return {
    names,
    async put(disk) {
      if (names.includes('filter')) await disk.filters.add(xorFilter({ slow: random.chance(0.5) }));
      if (!names.includes('cache')) return;
      if (made) await disk.cache.open(file, { stale: 'discard' });
      else await disk.cache.create(file, { size: 2 ** 21 });
      made = true;
    },
  };
}
