/** Further facts of a VHDX image, for people. */
import { divCeil } from '../../binary/numbers.ts';
import { batEntries } from './bat.ts';
import type { OpenedFile, VhdxState } from './state.ts';

/** Rows of `ImageInfo.details`. */
export function detailsOf(
  { creator, headers, replayed, found }: OpenedFile,
  { metadata, regions, locator }: VhdxState,
): Readonly<Record<string, string | number | boolean>> {
  const { diskId, logicalSector, physicalSector, virtualSize, blockSize } = metadata;
  const { dataWriteGuid, fileWriteGuid } = headers.current;
  const others = regions.all.length - 2;
  return {
    ...(creator === '' ? {} : { creator }),
    ...(diskId === null ? {} : { 'disk id': diskId }),
    'logical sector size': logicalSector,
    ...(physicalSector === null ? {} : { 'physical sector size': physicalSector }),
    blocks: divCeil(virtualSize, blockSize),
    'table entries': batEntries(metadata),
    'log size': found.log.length,
    ...(replayed === null ? {} : { 'log entries': replayed }),
    'data write id': dataWriteGuid,
    'file write id': fileWriteGuid,
    ...(others === 0 ? {} : { 'other regions': others }),
    ...(locator === null ? {} : { 'parent data ids': locator.linkage.join(', ') }),
  };
}
