/** What formats that store nothing but a disk say of themselves and of their images. */
import { checkArguments, NUMBER, OBJECT, TEXT, withFields } from '../arguments.ts';
import type { FormatCapabilities, ImageInfo } from './contract.ts';
import { singleRegion } from './regions.ts';

const SECTOR_SIZE = 512;
const FACTS = withFields('an object with format and virtualSize', { format: TEXT, virtualSize: NUMBER });

/** The facts that every image has; `own` are those that the format knows more of. A hard disk with sectors of 512 bytes. */
export function plainInfo(
  own: Pick<ImageInfo, 'format' | 'virtualSize' | 'blockSize'> & Partial<ImageInfo>,
): ImageInfo {
  checkArguments('plainInfo', { own: [own, FACTS] });
  return {
    variant: [],
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
    parentUuid: null,
    parentModificationUuid: null,
    parentName: null,
    parentFormat: null,
    warnings: [],
    ...own,
  };
}

/** Capabilities of a format that can do what is named, and nothing else. */
export function plainCapabilities(own: Partial<FormatCapabilities>): FormatCapabilities {
  checkArguments('plainCapabilities', { own: [own, OBJECT] });
  return {
    uuid: false,
    createFixed: false,
    createDynamic: false,
    createSplit: false,
    diff: false,
    preferred: false,
    read: false,
    write: false,
    discard: false,
    resize: false,
    compact: false,
    check: false,
    repair: false,
    ...own,
  };
}
