/** Layout of new VMDK images: subformats, extents and their files, checked before anything is written. */
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { Config, FormatCreateOptions } from '../../image/contract.ts';
import { wantsSpace } from '../../image/fixed-space.ts';
import { checkGeometry } from '../../image/geometry.ts';
import { PREALLOCATION_KEY } from '../../image/preallocation-key.ts';
import { wantsVariant } from '../../image/variants.ts';
import { CONFIG, SUBFORMATS, type Subformat } from './config.ts';
import { COWD_SECTORS_MAX, DESCRIPTOR_SECTORS, EXTENT_FILE_MAX, GRAIN_SECTORS, GT_ENTRIES } from './layout.ts';
import { VMDK_LIMITS } from './limits.ts';

/** Words that tell subformats apart. */
const WORDS: readonly string[] = ['fixed', 'split', 'esx', 'stream'];

/** Sectors of an extent of a split image, as VMware has it: the largest number of grains below 2 GiB. */
export const SPLIT_SECTORS = (2047 * 1024 * 1024) / SECTOR;

/** A file of a new image. */
export interface PlannedExtent {
  /** Name beside the descriptor; null: the main file. */
  readonly file: string | null;
  readonly sectors: number;
}

/** Places in a new sparse extent, in sectors. */
export interface SparsePlan {
  readonly tables: number;
  readonly redundantOffset: number;
  readonly directoryOffset: number;
  readonly overhead: number;
}

/** Layout of a new image. */
export interface VmdkPlan {
  readonly virtualSize: number;
  readonly subformat: Subformat;
  readonly isFlat: boolean;
  /** Its extent is a delta file of ESX. */
  readonly isCowd: boolean;
  readonly extents: readonly PlannedExtent[];
  readonly grainSectors: number;
  readonly zeroGrains: boolean;
  /** Bytes that are allocated at creation; 0: none. */
  readonly preallocates: number;
}

/** Checks the options and lays out the image. Throws `invalid-argument`, `limit`; touches nothing. */
export function planVmdk(options: FormatCreateOptions, name: string): VmdkPlan {
  const { size, config = {} } = options;
  if (!Number.isSafeInteger(size) || size < SECTOR || size % SECTOR !== 0) {
    throw new ImageError('invalid-argument', 'The disk size is not valid', {
      status: 'VERR_VD_INVALID_SIZE',
      found: size,
      expected: 'a multiple of 512, at least 512',
    });
  }
  checkGeometry(options.geometry ?? {});
  const subformat = subformatOf(options);
  const isFlat = isFixed(subformat);
  if (wantsSpace(options) && !isFlat) throw notFixed(config, subformat);
  checkParent(options, isFlat);
  const isCowd = subformat === 'vmfsSparse';
  const grainSectors = grainOf(config, isCowd);
  const extents = extentsOf(subformat, size / SECTOR, name);
  if (isCowd) checkCowd(size / SECTOR);
  else if (!isFlat) for (const { sectors } of extents) checkTables(sectors, grainSectors);
  return {
    virtualSize: size,
    subformat,
    isFlat,
    isCowd,
    extents,
    grainSectors,
    zeroGrains: isOn(config, CONFIG.zeroedGrain),
    preallocates: isFlat && wantsSpace(options) ? size : 0,
  };
}

/** Places of directories and tables in a sparse extent: the second copies first, as VMware has them. */
export function planSparse(sectors: number, grainSectors: number, hasDescriptor: boolean): SparsePlan {
  const tables = divCeil(alignUp(sectors, grainSectors), grainSectors * GT_ENTRIES);
  const directory = divCeil(tables * 4, SECTOR);
  const tableSectors = (GT_ENTRIES * 4) / SECTOR;
  const redundantOffset = 1 + (hasDescriptor ? DESCRIPTOR_SECTORS : 0);
  const directoryOffset = redundantOffset + directory + tables * tableSectors;
  const end = directoryOffset + directory + tables * tableSectors;
  return { tables, redundantOffset, directoryOffset, overhead: alignUp(end, grainSectors) };
}

/** The name without directory and extension, from which the names of extents are made. */
export function baseName(name: string): string {
  const file = name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
  return file.replace(/\.vmdk$/i, '');
}

function extentsOf(subformat: Subformat, sectors: number, name: string): PlannedExtent[] {
  const base = baseName(name);
  const words: readonly string[] = SUBFORMATS[subformat];
  const flat = words.includes('fixed');
  if (subformat === 'vmfsSparse') return [{ file: `${base}-delta.vmdk`, sectors }];
  if (!words.includes('split')) return [{ file: flat ? `${base}-flat.vmdk` : null, sectors }];
  const count = divCeil(sectors, SPLIT_SECTORS);
  if (count > VMDK_LIMITS.extents) {
    throw new ImageError('limit', 'The image would have too many extents', {
      found: count,
      expected: `at most ${VMDK_LIMITS.extents}`,
      hint: 'Choose a variant that is not split.',
    });
  }
  return Array.from({ length: count }, (_, index) => ({
    file: `${base}-${flat ? 'f' : 's'}${String(index + 1).padStart(3, '0')}.vmdk`,
    sectors: Math.min(SPLIT_SECTORS, sectors - index * SPLIT_SECTORS),
  }));
}

function subformatOf(options: Pick<FormatCreateOptions, 'variant' | 'config' | 'parent'>): Subformat {
  const named = options.config?.[CONFIG.subformat];
  // Space is taken for fixed images only.
  const fixed = named === undefined && wantsSpace(options) && !wantsVariant(options, 'dynamic');
  const words = WORDS.filter((word) => wantsVariant(options, word) || (fixed && word === 'fixed'));
  // Disks of ESX are fixed, unless the contrary is said, or they store what differs from a parent.
  const isSparse = wantsVariant(options, 'dynamic') || isChild(options);
  const wanted = words.join() === 'esx' && !isSparse ? ['fixed', 'esx'] : words;
  const byWords = Object.entries(SUBFORMATS).find(
    ([, words]) =>
      words.length === wanted.length && (words as readonly string[]).every((word) => wanted.includes(word)),
  );
  if (named !== undefined && wanted.length === 0) {
    const found = Object.keys(SUBFORMATS).find((one) => one.toLowerCase() === String(named).toLowerCase());
    if (found !== undefined && !(isSparse && isFixed(found as Subformat))) return found as Subformat;
  } else if (byWords !== undefined && (named === undefined || byWords[0] === named)) {
    return byWords[0] as Subformat;
  }
  throw new ImageError('invalid-argument', 'There is no such VMDK image', {
    field: named === undefined ? 'variant' : CONFIG.subformat,
    found: [...(named === undefined ? [] : [String(named)]), ...wanted].join(', '),
    expected: Object.entries(SUBFORMATS)
      .map(([type, words]) => `${wordsOf(words)} (${type})`)
      .join('; '),
  });
}

function notFixed(config: Config, subformat: Subformat): ImageError {
  return new ImageError('invalid-argument', 'Only a fixed image gets all its space at creation', {
    field: PREALLOCATION_KEY.name,
    found: `${String(config[PREALLOCATION_KEY.name])} with ${subformat}`,
    hint: 'Choose variant fixed (on the command line: --variant fixed), or preallocation off.',
  });
}

function isFixed(subformat: Subformat): boolean {
  return (SUBFORMATS[subformat] as readonly string[]).includes('fixed');
}

/** Words that make a subformat. */
function wordsOf(words: readonly string[]): string {
  return (words.length === 0 || words.join() === 'esx' ? ['dynamic', ...words] : words).join();
}

function isChild(options: Pick<FormatCreateOptions, 'variant' | 'parent'>): boolean {
  return options.parent !== undefined || wantsVariant(options, 'diff');
}

function checkParent(options: FormatCreateOptions, isFlat: boolean): void {
  const wanted = isChild(options);
  if (wanted && isFlat) {
    throw new ImageError('invalid-argument', 'A differencing image cannot be fixed', {
      status: 'VERR_VD_INVALID_TYPE',
    });
  }
  if (wanted && options.parent === undefined) {
    throw new ImageError('invalid-argument', 'A differencing image needs a parent', {
      hint: 'Name one with --parent.',
    });
  }
}

function grainOf(config: Config, isCowd: boolean): number {
  const [usual, least] = isCowd ? [1, 1] : [GRAIN_SECTORS, 8];
  const bytes = Number(config[CONFIG.grainSize] ?? usual * SECTOR);
  const sectors = bytes / SECTOR;
  if (Number.isInteger(Math.log2(sectors)) && sectors >= least && sectors <= 4096) return sectors;
  throw new ImageError('invalid-argument', `The value of ${CONFIG.grainSize} is not valid`, {
    field: CONFIG.grainSize,
    found: String(config[CONFIG.grainSize]),
    expected: `a power of two from ${least * SECTOR} to 2097152`,
  });
}

function checkCowd(sectors: number): void {
  if (sectors <= COWD_SECTORS_MAX) return;
  throw new ImageError('limit', 'A delta file of ESX cannot be that large', {
    found: `${sectors * SECTOR} bytes`,
    expected: `at most ${COWD_SECTORS_MAX * SECTOR}`,
    hint: 'Choose another variant.',
  });
}

function checkTables(sectors: number, grainSectors: number): void {
  const { tables, overhead } = planSparse(sectors, grainSectors, true);
  const end = overhead * SECTOR + alignUp(sectors, grainSectors) * SECTOR;
  if (tables <= VMDK_LIMITS.tables && overhead * SECTOR <= EXTENT_FILE_MAX && end <= Number.MAX_SAFE_INTEGER) return;
  throw new ImageError('limit', 'A sparse VMDK image cannot be that large', {
    found: `${sectors * SECTOR} bytes`,
    expected: `at most ${VMDK_LIMITS.tables * GT_ENTRIES * grainSectors * SECTOR}`,
    hint: 'Choose larger grains, or the variant split.',
  });
}

/** Value of a key that is on or off. */
export function isOn(config: Config, key: string): boolean {
  const value = config[key];
  return value === 1 || (typeof value === 'string' && ['on', 'true', 'yes', '1'].includes(value.toLowerCase()));
}
