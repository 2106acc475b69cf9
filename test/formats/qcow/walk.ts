/** QCOW version 1 in random walks of vdkit and QEMU. */
import { KIB } from '../../alternation/world.ts';
import type { Facts, WalkKit } from '../walk-kit.ts';

/** QEMU compresses into a cluster that is stored plain, and its entry stays as it was: what it reads then is the stream. */
const PLAIN: Facts = { unit: 4 * KIB, fixed: false, parentless: false, files: [], compressed: null };
const always = () => true;

export const walk: WalkKit = {
  weight: 2,
  parents: { vdkit: 'any', qemu: 'any' },
  linksByUuid: false,
  childrenNotice: false,
  qemuChecks: false,
  qemuMaps: false,
  limits: {
    qemuResize: {
      who: 'QEMU',
      what: 'qemu-img resize of a QCOW image',
      because: '"Image format driver does not support resize"',
      applies: always,
    },
    qemuRepair: { who: 'QEMU', what: 'qemu-img check -r of a QCOW image', because: 'it checks none', applies: always },
    innerSnapshots: {
      who: 'both',
      what: 'snapshots inside a QCOW image',
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
  // It writes parts of larger clusters without what the parent has around them.
  qemuOpens: ({ facts, parent }) => parent === null || facts.unit === 512,
  fresh(random) {
    const unit = random.pick([512, 4 * KIB, 4 * KIB, 64 * KIB]);
    return {
      facts: { ...PLAIN, unit },
      vdkit: ['--option', `cluster_size=${unit}`],
      qemu: unit === 4 * KIB ? [] : null,
    };
  },
};
