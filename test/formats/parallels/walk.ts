/** Parallels images in random walks of vdkit and QEMU. */
import { KIB, MIB } from '../../alternation/world.ts';
import type { Facts, WalkKit } from '../walk-kit.ts';

const PLAIN: Facts = { unit: MIB, fixed: false, parentless: false, files: [], compressed: null };
const always = () => true;

export const walk: WalkKit = {
  weight: 2,
  parents: { vdkit: null, qemu: null },
  linksByUuid: false,
  childrenNotice: false,
  qemuChecks: true,
  leaks: true,
  qemuMaps: false,
  limits: {
    qemuResize: {
      who: 'QEMU',
      what: 'qemu-img resize of a Parallels image',
      because: '"Image format driver does not support resize"',
      applies: always,
    },
    qemuRebase: {
      who: 'QEMU',
      what: 'rebase of a Parallels image',
      because: 'the file has no place for a parent',
      applies: always,
    },
    innerSnapshots: {
      who: 'both',
      what: 'snapshots inside a Parallels image',
      because: 'the format has no place for them',
      applies: always,
    },
    set: {
      who: 'vdkit',
      what: 'set',
      because: 'the format stores neither comments nor identities',
      applies: always,
    },
    bitmaps: { who: 'both', what: 'bitmaps', because: 'vdkit does not maintain those of the format', applies: always },
  },
  qemuOpens: always,
  fresh(random) {
    const unit = random.pick([MIB, MIB, 64 * KIB, 63 * 512]);
    const extended = random.chance(0.4);
    const words = [`cluster_size=${unit}`];
    return {
      facts: { ...PLAIN, unit },
      vdkit: [...(extended ? ['--variant', 'ext'] : []), ...words.flatMap((word) => ['--option', word])],
      qemu: ['-o', words.join(',')],
    };
  },
};
