/**
 * Steps that are left out, and why: what all formats have in common. What one format cannot do stands in its kit, under
 * the names of `FormatRow`.
 */
import type { FormatRow, Limit } from '../formats/walk-kit.ts';
import { leavesOut, parentsOf, qemuReads, walkOf } from './kits.ts';
import { childrenOf, type Img, type World } from './world.ts';

/** The rows, by the word that steps use. */
export const LIMITS = {
  qemuApplyWithBitmaps: {
    who: 'QEMU',
    what: 'qemu-img snapshot -a with bitmaps',
    because: '"Device has active dirty bitmaps"',
    applies: ({ bitmaps }) => bitmaps.length > 0,
  },
  applySizeWithBitmaps: {
    who: 'vdkit',
    what: 'vdkit snapshot apply of a snapshot of another size, with bitmaps',
    because: '"The disk size of the snapshot differs from that of the bitmaps": they are as long as the disk',
    applies: ({ bitmaps, snapshots, content }) =>
      bitmaps.length > 0 && snapshots.some((one) => one.content.size !== content.size),
  },
  qemuStaleTail: {
    who: 'QEMU',
    what: 'growth by QEMU of a QCOW2 that it cut inside a cluster',
    because:
      'it leaves the bytes behind the new end in their cluster, and shows them again when the disk grows ' +
      '(block/qcow2.c zeroes whole new clusters only); vdkit zeroes them',
    applies: ({ staleTail }) => staleTail,
  },
  qemuRebaseLarger: {
    who: 'QEMU',
    what: 'qemu-img rebase of an image that is larger than its old backing file',
    because: 'it never ends, or reads behind the old end, up to QEMU 8.1 (qemu-img.c, img_rebase; mended in 8.2)',
    applies: ({ content, parent }, world) => parent !== null && content.size > (world.get(parent)?.content.size ?? 0),
  },
  snapshotsReadParents: {
    who: 'both',
    what: 'rebase, and commit with snapshots inside the image; qemu-img commit into an image with snapshots',
    because:
      'snapshots read the parent as well; vdkit refuses (into one with --force only), QEMU changes what they hold',
    applies: ({ snapshots }) => snapshots.length > 0,
  },
  otherChildren: {
    who: 'both',
    what: 'changes to what an image reads that other images are made from',
    because: 'these would read something else; vdkit refuses some of it, QEMU nothing',
    applies: ({ name }, world) => childrenOf(world, name).length > 0,
  },
  sizeOfParents: {
    who: 'both',
    what: 'smaller parents, and other sizes of images whose children notice',
    because: 'children read less then; a resize is a change, which they find out',
    applies: (image, world) => walkOf(image).childrenNotice && hasOwnChildren(image, world),
  },
  qemuRepairForgets: {
    who: 'QEMU',
    what: 'qemu-img check -r of an image with bitmaps and snapshots',
    because:
      'it loads bitmaps before the list of snapshots, writes a header without any for them, and gives their clusters up: ' +
      'all snapshots are lost (seen with 7.2; block/qcow2.c, BDRV_O_CHECK)',
    applies: ({ bitmaps, snapshots }) => bitmaps.length > 0 && snapshots.length > 0,
  },
  qemuOpen: {
    who: 'QEMU',
    what: 'images that it does not open, or that read one',
    because: 'see `qemuOpens` of the kits',
    applies: ({ name }, world) => !qemuReads(world, name),
  },
  qemuCompressTwice: {
    who: 'QEMU',
    what: 'qemu-io write -c of a cluster that has room',
    because: 'compressed clusters are written once: "Input/output error", and nothing is changed',
    applies: ({ facts }) => facts.compressed === null,
  },
  dataFileFolder: {
    who: 'QEMU',
    what: 'images of several files in other folders',
    because: 'QEMU resolves the name of a data file where it runs, vdkit beside the image',
    applies: ({ facts }) => facts.files.length > 0,
  },
  severalFiles: {
    who: 'vdkit',
    what: 'delete, and merge away, of images of several files',
    because: 'vdkit removes images of one file only',
    applies: ({ facts }) => facts.files.length > 0,
  },
  uuidLinks: {
    who: 'both',
    what: 'images whose children or parents of the same format are in other folders, by UUID',
    because: 'the format stores UUIDs, no names: parents are looked for beside the child',
    applies: (image, world) => walkOf(image).linksByUuid && (image.parent !== null || hasOwnChildren(image, world)),
  },
  fixed: {
    who: 'both',
    what: 'resize and compact of a fixed image, and parents of one',
    because: 'its blocks all have their room; vdkit refuses',
    applies: ({ facts }) => facts.fixed,
  },
  amend: {
    who: 'both',
    what: 'amend of a format without options to amend',
    because: 'there is nothing to change',
    applies: (image) => walkOf(image).amendment === undefined,
  },
  parentKind: {
    who: 'both',
    what: 'parents of a format that has none',
    because: 'it has no place for one',
    applies: (image) => parentsOf(image, 'vdkit') === null,
  },
} as const satisfies Record<string, Limit>;

/** Words for the steps that a kit or the table above may leave out. */
export type Row = keyof typeof LIMITS | FormatRow;

/** Children of the same format, which are found by what both store. */
function hasOwnChildren({ name, format }: Img, world: World): boolean {
  return childrenOf(world, name).some((child) => child.format === format);
}

/** True when a row says that the step is left out. */
export function limited(image: Img, world: World, ...rows: readonly Row[]): boolean {
  return rows.some((row) => (isCommon(row) ? LIMITS[row].applies(image, world) : leavesOut(row, image, world)));
}

function isCommon(row: Row): row is keyof typeof LIMITS {
  return row in LIMITS;
}
