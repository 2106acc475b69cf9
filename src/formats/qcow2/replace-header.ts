/**
 * Another header with other extensions or another backing file, so that a cut leaves the old one or the new one.
 *
 * Only a sector changes at once, and extensions often fill more than the first. So the name of the backing file goes to
 * a place that nothing uses; then the first sector is switched to that name and to what of the extensions fits into it,
 * leaving out those that only help people (the names of feature bits); then the rest is written behind it, and the first
 * sector switched once more. Where that cannot be done, in small clusters with long names, all is written at once.
 */
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import type { Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { encodeExtensions } from './extensions.ts';
import { type Qcow2Header, serializeHeader } from './header.ts';
import { EXTENSION_TYPE, HEADER } from './layout.ts';

/** Bytes that the longest name takes. */
const NAME_ROOM = 1024;
const CRITICAL: readonly number[] = [
  EXTENSION_TYPE.backingFormat,
  EXTENSION_TYPE.dataFile,
  EXTENSION_TYPE.encryption,
  EXTENSION_TYPE.bitmaps,
];

/** Writes the header, durably. Throws `limit` when it does not fit; then nothing was written. */
export async function replaceHeader(storage: Storage, header: Qcow2Header): Promise<void> {
  const critical = header.extensions.filter(({ type }) => CRITICAL.includes(type));
  const extensionsEnd = header.headerLength + encodeExtensions(header.extensions).length;
  const criticalEnd = header.headerLength + encodeExtensions(critical).length;
  const place = await freePlace(storage, header, extensionsEnd);
  const final = serializeHeader(header, place ?? extensionsEnd);
  const end = place === null ? final.length : alignUp(extensionsEnd, SECTOR);
  if (place === null || criticalEnd > SECTOR) {
    await durably(storage, 0, final.subarray(0, end));
    return;
  }
  if (header.backingName !== null) await durably(storage, place, final.subarray(place, place + NAME_ROOM));
  const interim = serializeHeader({ ...header, extensions: critical }, place);
  await durably(storage, 0, interim.subarray(0, SECTOR));
  if (end <= SECTOR) return;
  await durably(storage, SECTOR, final.subarray(SECTOR, end));
  await durably(storage, 0, final.subarray(0, SECTOR));
}

/** Where in the cluster the name can go that nothing uses now; null: nowhere. */
async function freePlace(storage: Storage, header: Qcow2Header, extensionsEnd: number): Promise<number | null> {
  const { clusterSize, backingName } = header;
  if (clusterSize === SECTOR) return null;
  if (backingName === null) return clusterSize;
  const old = new Uint8Array(clusterSize);
  await readPadded(storage, 0, old);
  const start = HEADER.get(old, 'backingOffset');
  const used = start + HEADER.get(old, 'backingLength');
  for (const place of [clusterSize - NAME_ROOM, clusterSize - 2 * NAME_ROOM]) {
    const free = start === 0 || place >= used || place + NAME_ROOM <= start;
    if (free && place >= alignUp(extensionsEnd, SECTOR) && place >= SECTOR) return place;
  }
  return null;
}

async function durably(storage: Storage, offset: number, bytes: Uint8Array): Promise<void> {
  await storage.write(offset, bytes);
  await storage.flush();
}
