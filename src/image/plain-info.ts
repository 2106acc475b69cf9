/** Metadata and capabilities of formats that store nothing but a disk. */
import { checkArguments, NUMBER, TEXT, withFields } from '../arguments.ts';
import type { ImageInfo } from './contract.ts';
import { parentLinks } from './parent.ts';
import { singleRegion } from './regions.ts';

const SECTOR_SIZE = 512;
const FACTS = withFields('an object with format and virtualSize', { format: TEXT, virtualSize: NUMBER });

/** Complete metadata from the known facts `own`, with defaults for a hard disk with sectors of 512 bytes. */
export function plainInfo(
  own: Pick<ImageInfo, 'format' | 'virtualSize' | 'blockSize'> & Partial<ImageInfo>,
): ImageInfo {
  checkArguments('plainInfo', { own: [own, FACTS] });
  return {
    variant: [],
    allocation: 'dynamic',
    type: 'hdd',
    sectorSize: SECTOR_SIZE,
    version: null,
    comment: null,
    geometry: { physical: null, logical: null },
    regions: singleRegion(own.virtualSize, SECTOR_SIZE),
    dirty: null,
    differencing: false,
    uuid: null,
    modificationUuid: null,
    warnings: [],
    ...parentLinks(own.parent ?? null),
    ...own,
  };
}
