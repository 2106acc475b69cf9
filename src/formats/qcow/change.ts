/**
 * Changes of the header of a QCOW image. Its first sector holds parts of the L1 table, so it is read again before each.
 *
 * A name of a backing file changes with the first sector where that has room for it. A longer one, and an L1 table with more
 * entries, get room behind everything else, durable, before the first sector names them.
 */
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { writeEntries } from '../../blocks/table.ts';
import type { TwoLevelState } from '../../blocks/two-level-state.ts';
import { ImageError } from '../../errors.ts';
import { encodeBackingName } from '../../image/backing-name.ts';
import type { ParentLink } from '../../image/parent.ts';
import type { Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { type QcowHeader, readHeader } from './header.ts';
import { BACKING_NAME_MAX, HEADER } from './layout.ts';
import { QCOW_LIMITS } from './limits.ts';
import { type QcowShape, shapeOf } from './shape.ts';

/** An image on the medium. Everything is flushed. */
export interface QcowOnMedium {
  readonly storage: Storage;
  readonly state: TwoLevelState<QcowShape>;
}

/** Entries of the L1 table of a disk. */
function l1EntriesFor(size: number, { clusterSize, tableEntries }: QcowHeader): number {
  return divCeil(size, clusterSize * tableEntries);
}

/** Throws `limit` for a disk whose L1 table would be too large. */
export function checkDiskSize(size: number, header: QcowHeader, path: string): void {
  const most = (QCOW_LIMITS.l1Bytes / 8) * header.clusterSize * header.tableEntries;
  if (size <= most) return;
  throw new ImageError('limit', 'A QCOW image with these clusters cannot be that large', {
    path,
    found: `${size} bytes`,
    expected: `at most ${most}`,
    hint: 'Convert it into a QCOW2 image (on the command line: convert --to qcow2).',
  });
}

/** Gives the L1 table another place if a disk of that size needs more entries. Returns the new shape; null: it fits. */
export async function roomForTables(
  storage: Storage,
  { shape, directory, map }: TwoLevelState<QcowShape>,
  size: number,
): Promise<QcowShape | null> {
  const { header, l1Entries, l1Form, clusterSize } = shape;
  const wanted = l1EntriesFor(size, header);
  if (wanted <= l1Entries) return null;
  // VirtualBox reads whole clusters of it.
  const length = alignUp(wanted * 8, Math.max(clusterSize, SECTOR));
  const { fileOffset } = map.slots.takeAtEnd(length);
  if (storage.size < fileOffset + length) {
    await storage.write(fileOffset + length - SECTOR, new Uint8Array(SECTOR));
  }
  const table = { storage, fileOffset, form: l1Form };
  await writeEntries(table, { start: 0, end: length / 8 }, (index) => directory.places[index] ?? 0);
  await storage.flush();
  await changeHeader(storage, (sector) => HEADER.put(sector, 'l1Offset', BigInt(fileOffset)));
  return shapeOf(await readHeader(storage), wanted);
}

/** Stores the size of the disk. */
export async function putSize(storage: Storage, size: number): Promise<void> {
  await changeHeader(storage, (sector) => HEADER.put(sector, 'size', BigInt(size)));
}

/** Stores the link, with its name as it is. Throws `limit` for a name that is too long, `unsupported`: then nothing has changed. */
export async function storeParent({ storage, state }: QcowOnMedium, parent: ParentLink | null): Promise<void> {
  // A parent that was not opened and has no name: the child keeps the name that it has.
  if (parent?.name === '') return;
  const name = encodeBackingName(parent?.name ?? '', BACKING_NAME_MAX, storage.label);
  const roomEnd = Math.min(state.shape.l1Offset, SECTOR);
  const isInside = HEADER.size + name.length <= roomEnd;
  let fileOffset = parent === null ? 0 : HEADER.size;
  if (!isInside) {
    const bytes = new Uint8Array(alignUp(name.length, SECTOR));
    bytes.set(name);
    fileOffset = state.map.slots.takeAtEnd(bytes.length).fileOffset;
    await storage.write(fileOffset, bytes);
    await storage.flush();
  }
  await changeHeader(storage, (sector) => {
    if (isInside) sector.fill(0, HEADER.size, roomEnd).set(name, HEADER.size);
    HEADER.put(sector, 'backingOffset', BigInt(fileOffset));
    HEADER.put(sector, 'backingLength', name.length);
  });
}

async function changeHeader(storage: Storage, change: (sector: Uint8Array) => void): Promise<void> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  change(sector);
  await storage.write(0, sector);
  await storage.flush();
}
