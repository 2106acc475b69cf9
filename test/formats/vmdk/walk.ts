/** VMDK in random walks of vdkit and QEMU. */
import { KIB } from '../../alternation/world.ts';
import type { Facts, FreshImage, WalkKit } from '../walk-kit.ts';

const GRAIN = 64 * KIB;
const always = () => true;

interface Variant {
  readonly word: string | null;
  readonly subformat: string;
  readonly extent: string | null;
}

/** Variants: the words of vdkit, QEMU's subformat, and the end of the name of the only extent. */
const VARIANTS: readonly [Variant, ...Variant[]] = [
  { word: null, subformat: 'monolithicSparse', extent: null },
  { word: 'split', subformat: 'twoGbMaxExtentSparse', extent: '-s001.vmdk' },
  { word: 'fixed', subformat: 'monolithicFlat', extent: '-flat.vmdk' },
];

function filesOf({ extent }: Variant, name: string): string[] {
  return extent === null ? [] : [name.replace('.vmdk', extent)];
}

function made(variant: Variant, name: string, unit: number): FreshImage {
  const fixed = variant.word === 'fixed';
  return {
    facts: { unit, fixed, parentless: fixed, files: filesOf(variant, name), compressed: null },
    vdkit: [
      ...(variant.word === null ? [] : ['--variant', variant.word]),
      ...(unit === GRAIN ? [] : ['--option', `grain_size=${unit}`]),
    ],
    qemu: unit === GRAIN ? ['-o', `subformat=${variant.subformat}`] : null,
  };
}

export const walk: WalkKit = {
  weight: 2,
  parents: { vdkit: 'own', qemu: 'own' },
  linksByUuid: false,
  childrenNotice: true,
  qemuChecks: true,
  qemuMaps: true,
  limits: {
    qemuResize: {
      who: 'QEMU',
      what: 'qemu-img resize of a VMDK',
      because: '"Image format driver does not support resize"',
      applies: always,
    },
    qemuRepair: { who: 'QEMU', what: 'qemu-img check -r of a VMDK', because: 'it repairs none', applies: always },
    qemuRebase: {
      who: 'QEMU',
      what: 'rebase of a VMDK',
      because: 'its driver stores the name of a parent at creation only',
      applies: always,
    },
    qemuCommit: {
      who: 'QEMU',
      what: 'qemu-img commit of a VMDK',
      because: 'the child stays as it is, and no longer fits its parent, whose CID changed',
      applies: always,
    },
    innerSnapshots: {
      who: 'both',
      what: 'snapshots inside a VMDK',
      because: 'the format has no place for them',
      applies: always,
    },
    bitmaps: { who: 'both', what: 'bitmaps', because: 'the format has no place for them', applies: always },
  },
  // It takes the last grain of a sparse disk for whole.
  qemuOpens: ({ facts, content }) => facts.fixed || content.size % facts.unit === 0,
  fresh(random, name, mayHaveFiles) {
    const variant = mayHaveFiles ? random.pick([...VARIANTS]) : VARIANTS[0];
    const unit = variant.word === 'fixed' || random.chance(0.8) ? GRAIN : random.pick([4 * KIB, 256 * KIB]);
    return made(variant, name, unit);
  },
  renamed: (facts: Facts, name) => ({
    ...facts,
    files: VARIANTS.filter(
      ({ extent }) => extent !== null && facts.files.some((file) => file.endsWith(extent)),
    ).flatMap((variant) => filesOf(variant, name)),
  }),
};
