import { childrenOf, type Img, KIB, qemuReads, type World } from './world.ts';

/** One row. */
export interface Limit {
  readonly who: 'QEMU' | 'vdkit' | 'both';
  readonly what: string;
  readonly because: string;
  /** True when the step is left out for this image. */
  readonly applies: (image: Img, world: World) => boolean;
}

const isQcow2 = ({ format }: Img): boolean => format === 'qcow2';

/** The rows, by the word that steps use. */
export const LIMITS = {
  qemuOpen: {
    who: 'QEMU',
    what: 'differencing VDI, and VDI with blocks of another size than 1 MiB',
    because: 'block/vdi.c refuses both when it opens an image',
    applies: ({ name }, world) => !qemuReads(world, name),
  },
  qemuVdiResize: {
    who: 'QEMU',
    what: 'qemu-img resize of a VDI',
    because: '"Image format driver does not support resize"',
    applies: ({ format }) => format === 'vdi',
  },
  innerQcow2: {
    who: 'both',
    what: 'snapshots inside a VDI, a raw image, or a QCOW2 with an external data file',
    because: 'the formats have no place for them; QEMU and vdkit refuse data files',
    applies: (image) => !isQcow2(image) || (image.qcow2?.dataFile ?? null) !== null,
  },
  bitmapVersion3: {
    who: 'both',
    what: 'bitmaps anywhere but in QCOW2 version 3',
    because: 'the format has no place for them',
    applies: (image) => image.qcow2?.version !== 3,
  },
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
  version2SnapshotSize: {
    who: 'both',
    what: 'resize of a version 2 image with snapshots',
    because: 'its snapshots do not store the size of the disk; "Can\'t resize a v2 image which has snapshots"',
    applies: ({ qcow2, snapshots }) => qcow2?.version === 2 && snapshots.length > 0,
  },
  version2LongerParent: {
    who: 'QEMU',
    what: 'qemu-img resize of a version 2 image with a parent',
    because: 'it cannot hide what the parent has behind the old end: "Failed to zero out new clusters"',
    applies: ({ qcow2, parent }) => qcow2?.version === 2 && parent !== null,
  },
  qemuStaleTail: {
    who: 'QEMU',
    what: 'growth by QEMU of a QCOW2 that it cut inside a cluster',
    because:
      'it leaves the bytes behind the new end in their cluster, and shows them again when the disk grows ' +
      '(block/qcow2.c zeroes whole new clusters only); vdkit zeroes them',
    applies: ({ staleTail }) => staleTail,
  },
  narrowCounts: {
    who: 'both',
    what: 'more snapshots than a narrow count allows',
    because:
      'each cluster that is kept counts once more, and one with compressed streams once for each; both programs refuse ' +
      'the snapshot',
    applies: ({ qcow2, snapshots }) =>
      qcow2 !== null &&
      ((qcow2.refcountBits < 8 && snapshots.length + 2 >= 2 ** qcow2.refcountBits) ||
        (qcow2.refcountBits < 16 && qcow2.compressed)),
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
  qemuCompressTwice: {
    who: 'QEMU',
    what: 'qemu-io write -c of a cluster that has room',
    because: 'compressed clusters are written once: "Input/output error", and nothing is changed',
    applies: ({ qcow2 }) => qcow2 === null || qcow2.dataFile !== null,
  },
  dataFileFolder: {
    who: 'QEMU',
    what: 'images with an external data file in other folders',
    because: 'QEMU resolves the name of a data file where it runs, vdkit beside the image',
    applies: ({ qcow2 }) => qcow2 !== null && qcow2.dataFile !== null,
  },
  vdiLinks: {
    who: 'both',
    what: 'VDI with VDI children or parents in other folders',
    because: 'the format stores UUIDs, no names: parents are looked for beside the child',
    applies: ({ name, format, parent }, world) =>
      format === 'vdi' && (parent !== null || childrenOf(world, name).some((child) => child.format === 'vdi')),
  },
  sizeOfParents: {
    who: 'both',
    what: 'smaller parents, and other sizes of VDI with VDI children',
    because: 'children read less then; a resize is a change, which the children of a VDI notice',
    applies: ({ name, format }, world) =>
      format === 'vdi' && childrenOf(world, name).some((child) => child.format === 'vdi'),
  },
  fixedVdi: {
    who: 'both',
    what: 'resize and compact of a fixed VDI, and parents of one',
    because: 'its blocks all have their room; vdkit refuses',
    applies: ({ vdi }) => vdi?.fixed === true,
  },
  severalFiles: {
    who: 'vdkit',
    what: 'delete, and merge away, of images with a data file',
    because: 'vdkit removes images of one file only',
    applies: ({ qcow2 }) => qcow2 !== null && qcow2.dataFile !== null,
  },
  qemuAmendOld: {
    who: 'QEMU',
    what: 'qemu-img amend -o compat=0.10 with bitmaps or snapshots',
    because: 'it leaves the room of bitmaps as a leak, and refuses snapshots of other sizes',
    applies: ({ bitmaps, snapshots }) => bitmaps.length > 0 || snapshots.length > 0,
  },
  qemuAmendCounts: {
    who: 'QEMU',
    what: 'qemu-img amend -o refcount_bits with clusters of more than 4 KiB',
    because:
      'it walks over every entry of every block of counts: 2 s with 64 KiB, minutes with 1 MiB, on an empty image',
    applies: ({ qcow2 }) => qcow2 !== null && qcow2.clusterSize > 4 * KIB,
  },
  version2Features: {
    who: 'both',
    what: 'version 2 for what it cannot say',
    because: 'subclusters, data files, other widths of counts, zstd and bitmaps came with version 3',
    applies: ({ qcow2, bitmaps }) =>
      qcow2 === null ||
      qcow2.extendedL2 ||
      qcow2.dataFile !== null ||
      qcow2.refcountBits !== 16 ||
      qcow2.zstd ||
      bitmaps.length > 0,
  },
  compactKind: {
    who: 'vdkit',
    what: 'compact of raw images, and of QCOW2 with a data file',
    because: 'they have no units that could move',
    applies: ({ format, qcow2 }) => format === 'raw' || (qcow2?.dataFile ?? null) !== null,
  },
  qemuRepair: {
    who: 'QEMU',
    what: 'qemu-img check -r of VDI and raw images',
    because: 'it repairs neither',
    applies: (image) => !isQcow2(image),
  },
  qemuRepairForgets: {
    who: 'QEMU',
    what: 'qemu-img check -r of an image with bitmaps and snapshots',
    because:
      'it loads bitmaps before the list of snapshots, writes a header without any for them, and gives their clusters up: ' +
      'all snapshots are lost (seen with 7.2; block/qcow2.c, BDRV_O_CHECK)',
    applies: ({ bitmaps, snapshots }) => bitmaps.length > 0 && snapshots.length > 0,
  },
  comments: {
    who: 'vdkit',
    what: 'set of anything but VDI',
    because: 'QCOW2 and raw images store neither comments nor identities',
    applies: ({ format }) => format !== 'vdi',
  },
  amendKind: {
    who: 'both',
    what: 'amend of anything but QCOW2',
    because: 'the other formats have nothing to amend',
    applies: (image) => !isQcow2(image),
  },
  parentKind: {
    who: 'both',
    what: 'raw images with parents',
    because: 'they have no place for one',
    applies: ({ format }) => format === 'raw',
  },
} as const satisfies Record<string, Limit>;

/** True when a row says that the step is left out. */
export function limited(image: Img, world: World, ...rows: readonly (keyof typeof LIMITS)[]): boolean {
  return rows.some((row) => (LIMITS[row] as Limit).applies(image, world));
}
