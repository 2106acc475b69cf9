/** QCOW2 image metadata. */
import type { BitmapInfo, ImageInfo, ParentReference } from '../../../image/contract.ts';
import { parentLinks, parentReference } from '../../../image/parent.ts';
import { singleRegion } from '../../../image/regions.ts';
import { type Bitmap, bitmapsConsistent, isInUse } from '../bitmaps/bitmaps.ts';
import { CONFIG } from '../config.ts';
import { AUTOCLEAR, BITMAP_FLAG, COMPATIBLE, INCOMPATIBLE, VERSION_3 } from '../layout.ts';
import { type Snapshot, snapshotInfos } from '../snapshots/snapshots.ts';
import { detailsOf } from './details.ts';
import { type Qcow2Header, variantWords } from './header.ts';

/** True when the data file is also a raw image, so that zeroes must be written to it. */
export function isRawDataFile({ incompatible, autoclear }: Qcow2Header): boolean {
  return (incompatible & INCOMPATIBLE.dataFile) !== 0n && (autoclear & AUTOCLEAR.dataFileRaw) !== 0n;
}

/** Inputs of the report. */
export interface Described {
  readonly header: Qcow2Header;
  readonly snapshot: Snapshot | null;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly Bitmap[];
  readonly warnings: readonly string[];
  /** Cipher and mode; null: not encrypted. */
  readonly encryption: string | null;
  /** True when this session records the bitmap: it is marked as in use, but sound. */
  readonly isRecorded: (bitmap: Bitmap) => boolean;
}

/** Metadata of an image. */
export function infoOf(described: Described): ImageInfo {
  const { header, snapshot, snapshots, bitmaps, warnings, encryption, isRecorded } = described;
  const { clusterSize } = header;
  const size = snapshot?.diskSize ?? header.size;
  const virtualSize = size - (size % 512);
  return {
    format: 'qcow2',
    variant: variantWords(header),
    allocation: 'dynamic',
    type: 'hdd',
    virtualSize,
    blockSize: clusterSize,
    sectorSize: 512,
    version: String(header.version),
    comment: null,
    geometry: { physical: null, logical: null },
    regions: singleRegion(virtualSize, 512),
    uuid: null,
    modificationUuid: null,
    ...parentLinks(parentOf(header)),
    dirty: header.version === VERSION_3 ? (header.incompatible & INCOMPATIBLE.dirty) !== 0n : null,
    differencing: header.backingName !== null,
    warnings,
    config: configOf(header),
    encryption,
    details: detailsOf(described),
    snapshots: snapshotInfos(snapshots),
    bitmaps: bitmaps.map((bitmap) =>
      bitmapInfo(bitmap, bitmapsConsistent(header) && (!isInUse(bitmap) || isRecorded(bitmap))),
    ),
  };
}

function parentOf({ backingName: name, backingFormat: format }: Qcow2Header): ParentReference | null {
  return name === null && format === null ? null : parentReference({ names: name === null ? [] : [name], format });
}

/** Config values that create a header like this one. The data file is specific to each image. */
function configOf({ clusterSize, version, refcountOrder, compression, extendedL2, compatible }: Qcow2Header): Config {
  const flag = (on: boolean): string => (on ? 'on' : 'off');
  return {
    [CONFIG.clusterSize]: clusterSize,
    [CONFIG.compat]: version === VERSION_3 ? '1.1' : '0.10',
    [CONFIG.refcountBits]: 2 ** refcountOrder,
    [CONFIG.compressionType]: compression,
    [CONFIG.extendedL2]: flag(extendedL2),
    [CONFIG.lazyRefcounts]: flag((compatible & COMPATIBLE.lazyRefcounts) !== 0n),
  };
}

type Config = NonNullable<ImageInfo['config']>;

function bitmapInfo(bitmap: Bitmap, consistent: boolean): BitmapInfo {
  return {
    name: bitmap.name,
    granularity: 2 ** bitmap.granularityBits,
    enabled: (bitmap.flags & BITMAP_FLAG.auto) !== 0,
    inconsistent: !consistent,
  };
}
