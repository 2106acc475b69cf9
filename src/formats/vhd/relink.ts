/** A new parent of a VHD image, or none. */
import { isNullGuid } from '../../binary/guid.ts';
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { namesOfParent, type ParentLink } from '../../image/parent.ts';
import { clearFront, type VhdOnMedium } from './front.ts';
import { overlaps, type VhdLayout } from './header.ts';
import { DISK_TYPE, EPOCH, HEADER, type Header } from './layout.ts';
import { encodeNames, roomForNames } from './locators.ts';
import { type NewHeader, replaceHeader } from './new-header.ts';

/** A change of the parent. */
export interface ParentChange extends VhdOnMedium {
  readonly directory: string;
  readonly parent: ParentLink | null;
  /** Identity of the parent. */
  readonly uuid: string;
}

/** Stores the link. Blocks in the way of its names move. Throws `limit` for names that are too long. */
export async function storeParent(change: ParentChange): Promise<void> {
  const { storage, layout, footers, parent, uuid } = change;
  const isChild = !isNullGuid(uuid) || (parent !== null && parent.name !== '');
  const kept = parent === null || parent.name === '' ? null : namesOfParent(change.directory, parent.name);
  const room = kept === null ? 0 : roomForNames(kept);
  const place = placeOfNames(layout, room);
  await clearFront(change, place + room);
  const withNames = (fileOffset: number): NewHeader => {
    const names = kept === null ? null : encodeNames(kept, fileOffset);
    const header: Header = {
      ...layout.header,
      ...(isChild ? {} : { parentName: new Uint8Array(HEADER.fields.parentName.size), locators: new Uint8Array(192) }),
      ...(names === null ? {} : { parentName: names.parentName, locators: names.locators }),
      parentUuid: uuid,
      parentTimestamp: parent?.modifiedMs === undefined ? layout.header.parentTimestamp : timestampOf(parent),
    };
    return { header, names: names?.writes ?? [] };
  };
  await replaceHeader({
    storage,
    footers,
    footer: { ...footers.footer, type: isChild ? DISK_TYPE.differencing : DISK_TYPE.dynamic },
    room,
    behind: withNames,
    last: withNames(place),
    headerOffset: layout.headerOffset,
  });
}

/** Place of the names: behind the table, and behind the header where that follows it. */
function placeOfNames({ tableOffset, entries, headerOffset }: VhdLayout, room: number): number {
  const place = alignUp(tableOffset + entries * 4, SECTOR);
  return overlaps({ fileOffset: place, length: room }, headerOffset, HEADER.size) ? headerOffset + HEADER.size : place;
}

/** The time stamp of a parent's file; 0 when it is not known. */
export function timestampOf(parent: Pick<ParentLink, 'modifiedMs'> | null): number {
  const { modifiedMs = null } = parent ?? {};
  return modifiedMs === null ? 0 : Math.max(0, Math.floor(modifiedMs / 1000) - EPOCH);
}
