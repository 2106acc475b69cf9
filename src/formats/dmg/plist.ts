/** The block tables in a property list: `resource-fork`, in it `blkx`, an array of dictionaries with a name and base64 data. */
import { type PlistPlace, parsePlist, plistElements, plistEntry, plistError, plistTop } from '../../blocks/plist.ts';
import { DMG_LIMITS } from './layout.ts';
import type { NamedTable } from './tables.ts';

/** The block tables of a property list, in its order. Throws `corrupt`, `unsupported`, `limit`. */
export function tablesIn(bytes: Uint8Array, path: string): NamedTable[] {
  const what = 'The property list of the DMG, which says where the disk lies,';
  const place: PlistPlace = { path, what, depth: DMG_LIMITS.depth };
  const top = plistTop(parsePlist(bytes, place));
  const fork = top === undefined ? undefined : plistEntry(top, 'resource-fork');
  const list = fork === undefined ? undefined : plistEntry(fork, 'blkx');
  if (list === undefined) return [];
  return plistElements(list).map((entry, index) => {
    const data = plistEntry(entry, 'Data');
    const name = plistEntry(entry, 'Name') ?? plistEntry(entry, 'CFName');
    if (data === undefined) throw plistError(place, `blkx ${index}`, 'no Data', 'a block table');
    return { name: name?.text.trim() ?? '', bytes: decodeBase64(data.text, index, place) };
  });
}

function decodeBase64(text: string, index: number, place: PlistPlace): Uint8Array {
  const compact = text.replace(/\s+/g, '');
  try {
    return Uint8Array.from(atob(compact), (letter) => letter.charCodeAt(0));
  } catch {
    throw plistError(place, `blkx ${index}`, 'other letters', 'base64');
  }
}
