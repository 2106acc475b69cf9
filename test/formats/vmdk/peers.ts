/** Programs that have VMDK. */
import { KDMV, SPARSE_HEADER } from '../../../src/formats/vmdk/layout.ts';
import { rounds as runs } from '../../conformance/random.ts';
import { libvmdk } from '../../peers/libyal.ts';
import { qemu } from '../../peers/qemu.ts';
import { sevenZip } from '../../peers/seven-zip.ts';
import { unitOfWay } from '../../peers/unit-of-way.ts';
import type { MakeWay, PeerKit } from '../peer-kit.ts';

const GIB = 1024 ** 3;

/** QEMU's names of the variants that it makes. */
const SUBFORMATS: Readonly<Record<string, string>> = {
  '': 'monolithicSparse',
  dynamic: 'monolithicSparse',
  fixed: 'monolithicFlat',
  split: 'twoGbMaxExtentSparse',
  'fixed,split': 'twoGbMaxExtentFlat',
  stream: 'streamOptimized',
};

/** Its options; those that only vdkit has are passed on, so that QEMU refuses them. */
function optionsOfQemu({ variant, options }: MakeWay): string {
  const first = `subformat=${SUBFORMATS[variant] ?? variant}`;
  return [first, options].filter((pair) => pair !== '').join(',');
}

function cannotByQemu({ variant, options }: MakeWay, what: 'read' | 'make'): string | null {
  if (what === 'read') return null;
  if (options.includes('grain_size')) return 'grains of 64 KiB only';
  return SUBFORMATS[variant] === undefined ? 'no such subformat' : null;
}

const ESX_TABLES = 'no extents of ESX with tables';

/** Made as a delta file of ESX. */
function isDelta({ variant, over }: MakeWay): boolean {
  return variant.includes('esx') && (over || variant.includes('dynamic'));
}

function cannotBySevenZip(way: MakeWay): string | null {
  const { variant, over } = way;
  if (over) return 'no parents';
  if (isDelta(way)) return ESX_TABLES;
  return variant === 'split' ? WHOLE_GRAINS : null;
}

const WHOLE_GRAINS = 'extents of whole grains only, where a disk is split';
const SMALLEST_GRAIN = 'grains of more than 4 KiB only';

/** Of a sparse extent; others have grains of no size. */
function grainSectorsOf(bytes: Uint8Array | null): number {
  const isSparse = bytes !== null && bytes.length >= SPARSE_HEADER.size && SPARSE_HEADER.get(bytes, 'magic') === KDMV;
  return isSparse ? SPARSE_HEADER.get(bytes, 'grainSize') : Number.POSITIVE_INFINITY;
}

/** They take the last grain for whole, since the header of a sparse extent counts whole ones. */
const rounds = (way: MakeWay): number => unitOfWay(way, 'grain_size', 65_536);

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'vmdk',
    checks: true,
    backing: true,
    cannot: cannotByQemu,
    cannotWrite: (way) => (isDelta(way) ? 'no room for new grain tables of ESX, and no count of used sectors' : null),
    options: optionsOfQemu,
    holes: (way) => !isDelta(way) && (way.variant.includes('fixed') || way.variant === 'esx'),
    rounds,
    // The mark for zero replaces the place of a grain, which it does not use again.
    leaks: ({ options }) => options.includes('zeroed_grain=on'),
    // Its comparison asks for each grain of a disk.
    longest: runs(4 * GIB, 2 ** 53),
  }),
  sevenZip({
    format: 'vmdk',
    cannot: cannotBySevenZip,
    cannotRead: ({ parts = [] }) => {
      // Flat extents have no structures.
      if (parts.every(({ anatomy }) => anatomy.structs.length === 0)) return null;
      const isHosted = parts.every(({ bytes }) => grainSectorsOf(bytes) < Number.POSITIVE_INFINITY);
      return isHosted ? WHOLE_GRAINS : ESX_TABLES;
    },
    rounds,
    longest: GIB,
  }),
  libvmdk({
    cannot: (way) => (way.options.includes('grain_size=4096') && !isDelta(way) ? SMALLEST_GRAIN : null),
    cannotMount: ({ variant }) => (variant === 'fixed' ? 'no flat disks of one extent' : null),
    cannotRead: ({ bytes, name, parts = [] }) => {
      if (name === 'seSparse') return 'no seSparse extents';
      if (name === 'flat') return 'no descriptors that end with their extents';
      const extents = [bytes, ...parts.map((part) => part.bytes)];
      return extents.some((one) => grainSectorsOf(one) <= 8) ? SMALLEST_GRAIN : null;
    },
    longest: GIB,
  }),
];
