/** VHD in random walks of vdkit and QEMU. */
import { KIB, MIB } from '../../alternation/world.ts';
import type { Facts, WalkKit } from '../walk-kit.ts';

const PLAIN: Facts = { unit: 2 * MIB, fixed: false, parentless: false, files: [], compressed: null };
const always = () => true;
/** With it QEMU does not round the size up. */
const EXACT = 'force_size=on';

export const walk: WalkKit = {
  weight: 2,
  qemuName: 'vpc',
  parents: { vdkit: 'own', qemu: null },
  linksByUuid: true,
  childrenNotice: false,
  qemuChecks: false,
  qemuMaps: false,
  limits: {
    qemuResize: {
      who: 'QEMU',
      what: 'qemu-img resize of a VHD',
      because: '"Image format driver does not support resize"',
      applies: always,
    },
    qemuRepair: { who: 'QEMU', what: 'qemu-img check -r of a VHD', because: 'it checks none', applies: always },
    qemuRebase: {
      who: 'QEMU',
      what: 'rebase of a VHD',
      because: 'it opens a child as if it had no parent',
      applies: always,
    },
    innerSnapshots: {
      who: 'both',
      what: 'snapshots inside a VHD',
      because: 'the format has no place for them',
      applies: always,
    },
    bitmaps: { who: 'both', what: 'bitmaps', because: 'the format has no place for them', applies: always },
  },
  // Its driver ignores bitmaps and parents, and destroys them when it writes.
  qemuOpens: ({ parent }) => parent === null,
  fresh(random) {
    const fixed = random.chance(0.2);
    const unit = fixed || random.chance(0.6) ? 2 * MIB : random.pick([4 * KIB, 64 * KIB, 512 * KIB]);
    return {
      facts: { ...PLAIN, unit, fixed },
      vdkit: [...(fixed ? ['--variant', 'fixed'] : []), ...(unit === 2 * MIB ? [] : ['--block-size', `${unit}`])],
      qemu: unit === 2 * MIB ? ['-o', `${EXACT},subformat=${fixed ? 'fixed' : 'dynamic'}`] : null,
    };
  },
  // One that has all its room is a fixed one.
  preallocated: (facts, how) => ({
    facts: { ...facts, fixed: facts.fixed || how !== 'metadata' },
    vdkit: how === 'metadata' ? [] : ['--preallocation', how],
    qemu: null,
  }),
};
