/** Changes of VDI metadata: header fields, all in one sector, so a cut leaves the old header or the new one. */
import { NULL_GUID, normalizeGuid } from '../../binary/guid.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { ImageChanges } from '../../image/contract.ts';
import { checkGeometry, type Geometry } from '../../image/geometry.ts';
import { checkComment } from './create.ts';
import type { VdiHeader } from './header.ts';
import { HEADER, HEADER_SIZE_1_1_PLUS, IMAGE_TYPE } from './layout.ts';

const NO_GEOMETRY: Geometry = { cylinders: 0, heads: 0, sectors: 0 };
const LINKS = ['uuid', 'modificationUuid', 'parentUuid', 'parentModificationUuid'] as const;

/** A copy of the header sector with the changes in it. Throws `invalid-argument` or `unsupported`. */
export function changedSector(sector: Uint8Array, header: VdiHeader, changes: ImageChanges, label: string): Uint8Array {
  const changed = sector.slice();
  if (changes.comment !== undefined) {
    checkComment(changes.comment ?? '');
    HEADER.put(changed, 'comment', changes.comment ?? '');
  }
  for (const field of LINKS) {
    const uuid = changes[field];
    if (uuid !== undefined) HEADER.put(changed, field, uuid === null ? NULL_GUID : normalizeGuid(uuid));
  }
  putKind(changed, header, changes, label);
  putGeometry(changed, changes.geometry ?? {}, label);
  return changed;
}

/**
 * An image with a parent is a differencing image, one without a base: QEMU and VirtualBox rely on different fields.
 */
function putKind(sector: Uint8Array, header: VdiHeader, changes: ImageChanges, label: string): void {
  if (changes.parentUuid === undefined) return;
  const wanted = HEADER.get(sector, 'parentUuid') === NULL_GUID ? IMAGE_TYPE.dynamic : IMAGE_TYPE.diff;
  if (header.type !== IMAGE_TYPE.fixed) {
    HEADER.put(sector, 'type', wanted);
  } else if (wanted === IMAGE_TYPE.diff) {
    throw new ImageError('unsupported', 'A fixed image cannot have a parent', {
      path: label,
      hint: 'Convert it to a dynamic image first.',
    });
  }
}

function putGeometry(sector: Uint8Array, geometry: NonNullable<ImageChanges['geometry']>, label: string): void {
  checkGeometry(geometry);
  const { physical, logical } = geometry;
  if (physical !== undefined) {
    const { cylinders, heads, sectors } = physical ?? NO_GEOMETRY;
    HEADER.put(sector, 'physicalCylinders', cylinders);
    HEADER.put(sector, 'physicalHeads', heads);
    HEADER.put(sector, 'physicalSectors', sectors);
    HEADER.put(sector, 'physicalSectorSize', SECTOR);
  }
  if (logical === undefined) return;
  if (HEADER.get(sector, 'headerSize') < HEADER_SIZE_1_1_PLUS) {
    throw new ImageError('unsupported', 'The header of this image is too old to store a logical geometry', {
      path: label,
      hint: 'Convert the image to a new one.',
    });
  }
  const { cylinders, heads, sectors } = logical ?? NO_GEOMETRY;
  HEADER.put(sector, 'logicalCylinders', cylinders);
  HEADER.put(sector, 'logicalHeads', heads);
  HEADER.put(sector, 'logicalSectors', sectors);
  HEADER.put(sector, 'logicalSectorSize', SECTOR);
}
