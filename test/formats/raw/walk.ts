/** Raw disks in random walks of vdkit and QEMU. */
import type { Facts, Limit, WalkKit } from '../walk-kit.ts';

const PLAIN: Facts = { unit: 1, fixed: false, parentless: true, files: [], compressed: null };

/** Nothing of a raw disk is metadata. */
function none(what: string): Limit {
  return { who: 'both', what, because: 'a raw disk has no place for it', applies: () => true };
}

export const walk: WalkKit = {
  weight: 1,
  parents: { vdkit: null, qemu: null },
  linksByUuid: false,
  childrenNotice: false,
  qemuChecks: false,
  qemuMaps: false,
  limits: {
    qemuRepair: none('qemu-img check -r'),
    qemuRebase: none('parents'),
    innerSnapshots: none('snapshots inside'),
    bitmaps: none('bitmaps'),
    compact: none('units that could move'),
    set: none('comments and identities'),
  },
  qemuOpens: () => true,
  fresh: () => ({ facts: PLAIN, vdkit: [], qemu: [] }),
  preallocated: (facts, how) => ({
    facts,
    vdkit: how === 'metadata' ? [] : ['--preallocation', how],
    qemu: how === 'metadata' ? null : ['-o', `preallocation=${how}`],
  }),
};
