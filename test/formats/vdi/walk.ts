/** VDI in random walks of vdkit and QEMU. */
import { KIB, MIB } from '../../alternation/world.ts';
import type { Facts, WalkKit } from '../walk-kit.ts';

const PLAIN: Facts = { unit: MIB, fixed: false, parentless: false, files: [], compressed: null };
const always = () => true;

export const walk: WalkKit = {
  weight: 2,
  parents: { vdkit: 'own', qemu: null },
  linksByUuid: true,
  childrenNotice: true,
  qemuChecks: true,
  qemuMaps: false,
  limits: {
    qemuResize: {
      who: 'QEMU',
      what: 'qemu-img resize of a VDI',
      because: '"Image format driver does not support resize"',
      applies: always,
    },
    qemuRepair: { who: 'QEMU', what: 'qemu-img check -r of a VDI', because: 'it repairs none', applies: always },
    qemuRebase: { who: 'QEMU', what: 'rebase of a VDI', because: 'it opens none with a parent', applies: always },
    innerSnapshots: {
      who: 'both',
      what: 'snapshots inside a VDI',
      because: 'the format has no place for them',
      applies: always,
    },
    bitmaps: { who: 'both', what: 'bitmaps', because: 'the format has no place for them', applies: always },
  },
  // Differencing images, and blocks of another size than 1 MiB, are refused by block/vdi.c.
  qemuOpens: ({ facts, parent }) => parent === null && facts.unit === MIB,
  fresh(random) {
    const fixed = random.chance(0.2);
    const unit = random.chance(0.8) ? MIB : random.pick([64 * KIB, 4096, 256 * KIB]);
    return {
      facts: { ...PLAIN, unit, fixed },
      vdkit: [...(fixed ? ['--variant', 'fixed'] : []), ...(unit === MIB ? [] : ['--block-size', `${unit}`])],
      qemu: unit === MIB ? (fixed ? ['-o', 'static=on'] : []) : null,
    };
  },
  // One that has all its room is a fixed one. QEMU has no word for it.
  preallocated: (facts, how) => ({
    facts: { ...facts, fixed: facts.fixed || how !== 'metadata' },
    vdkit: how === 'metadata' ? [] : ['--preallocation', how],
    qemu: null,
  }),
  // What a cut leaves unused is lost room for vdkit, and an error for QEMU.
  forgives: always,
};
