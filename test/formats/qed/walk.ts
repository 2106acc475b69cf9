/** QED in random walks of vdkit and QEMU. */
import { KIB } from '../../alternation/world.ts';
import type { Facts, WalkKit } from '../walk-kit.ts';

const PLAIN: Facts = { unit: 64 * KIB, fixed: false, parentless: false, files: [], compressed: null };
const always = () => true;

export const walk: WalkKit = {
  weight: 2,
  parents: { vdkit: 'any', qemu: 'any' },
  linksByUuid: false,
  childrenNotice: false,
  qemuChecks: true,
  leaks: true,
  qemuMaps: true,
  limits: {
    innerSnapshots: {
      who: 'both',
      what: 'snapshots inside a QED image',
      because: 'the format has no place for them',
      applies: always,
    },
    set: {
      who: 'vdkit',
      what: 'set',
      because: 'the format stores neither comments nor identities',
      applies: always,
    },
    bitmaps: { who: 'both', what: 'bitmaps', because: 'the format has no place for them', applies: always },
  },
  qemuOpens: always,
  fresh(random) {
    const unit = random.pick([4 * KIB, 64 * KIB, 64 * KIB, 1024 * KIB]);
    const tables = random.pick([2, 4, 16]);
    const words = [`cluster_size=${unit}`, `table_size=${tables}`];
    return {
      facts: { ...PLAIN, unit },
      vdkit: words.flatMap((word) => ['--option', word]),
      qemu: ['-o', words.join(',')],
    };
  },
};
