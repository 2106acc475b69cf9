/** Changes of the metadata items of an open image, as pages for the log. */
import { fault } from './fault.ts';
import {
  ITEM_FLAGS,
  ITEM_IDS,
  METADATA_ENTRY,
  METADATA_TABLE,
  METADATA_TABLE_BYTES,
  PARAMETER_FLAGS,
  PARAMETERS,
} from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';
import type { MetadataItem, VhdxMetadata } from './metadata.ts';
import type { PageEdits } from './pages.ts';
import type { Region } from './regions.ts';

/** Items are placed at multiples of this. */
const ITEM_ALIGN = 8;

/** A metadata region and what it holds. */
export interface ItemPlace {
  readonly region: Region;
  readonly metadata: VhdxMetadata;
  readonly path: string;
}

/** Stores the size of the disk. */
export async function putDiskSize(edits: PageEdits, place: ItemPlace, size: number): Promise<void> {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(size), true);
  await putItem(edits, place, ITEM_IDS.diskSize, bytes);
}

/** Stores a locator, or that there is no parent: the item of an earlier one stays then, and is not looked at. */
export async function putParent(edits: PageEdits, place: ItemPlace, locator: Uint8Array | null): Promise<void> {
  const { blockSize, leaveAllocated } = place.metadata;
  const flags =
    (leaveAllocated ? PARAMETER_FLAGS.leaveAllocated : 0) | (locator === null ? 0 : PARAMETER_FLAGS.hasParent);
  await putItem(edits, place, ITEM_IDS.parameters, PARAMETERS.encode({ blockSize, flags }));
  if (locator !== null) await replaceItem(edits, place, ITEM_IDS.parentLocator, locator);
  else await removeItem(edits, place, ITEM_IDS.parentLocator);
}

function itemCalled({ metadata }: ItemPlace, id: string): { item: MetadataItem; index: number } | null {
  const index = metadata.items.findIndex((one) => one.id === id && (one.flags & ITEM_FLAGS.user) === 0);
  const item = metadata.items[index];
  return item === undefined ? null : { item, index };
}

/** Replaces an item by one of the same length. */
async function putItem(edits: PageEdits, place: ItemPlace, id: string, bytes: Uint8Array): Promise<void> {
  const found = itemCalled(place, id);
  if (found !== null) await edits.put(place.region.fileOffset + found.item.offset, bytes);
}

async function replaceItem(edits: PageEdits, place: ItemPlace, id: string, bytes: Uint8Array): Promise<void> {
  const old = itemCalled(place, id);
  const { items } = place.metadata;
  const others = items.filter((_, index) => index !== old?.index);
  const offset = gapFor(bytes.length, others, place);
  const index = old?.index ?? items.length;
  if (index >= VHDX_LIMITS.tableEntries) throw full(place);
  await edits.put(place.region.fileOffset + offset, bytes);
  await putEntry(edits, place, index, { id, offset, length: bytes.length, flags: ITEM_FLAGS.required });
  await putCount(edits, place, Math.max(items.length, index + 1));
}

/** The last entry takes the place of the one that goes. */
async function removeItem(edits: PageEdits, place: ItemPlace, id: string): Promise<void> {
  const old = itemCalled(place, id);
  const last = place.metadata.items.at(-1);
  if (old === null || last === undefined) return;
  const end = place.metadata.items.length - 1;
  if (old.index !== end) await putEntry(edits, place, old.index, last);
  await putBytes(edits, place, end, new Uint8Array(METADATA_ENTRY.size));
  await putCount(edits, place, end);
}

function putEntry(edits: PageEdits, place: ItemPlace, index: number, item: MetadataItem): Promise<void> {
  return putBytes(edits, place, index, METADATA_ENTRY.encode({ ...item, reserved: 0 }));
}

function putBytes(edits: PageEdits, { region }: ItemPlace, index: number, bytes: Uint8Array): Promise<void> {
  return edits.put(region.fileOffset + METADATA_TABLE.size + index * METADATA_ENTRY.size, bytes);
}

async function putCount(edits: PageEdits, { region }: ItemPlace, count: number): Promise<void> {
  const bytes = new Uint8Array(2);
  new DataView(bytes.buffer).setUint16(0, count, true);
  await edits.put(region.fileOffset + METADATA_TABLE.fields.count.offset, bytes);
}

/** The first gap between items that is long enough. */
function gapFor(length: number, items: readonly MetadataItem[], place: ItemPlace): number {
  const sorted = items.filter((one) => one.length > 0).sort((one, other) => one.offset - other.offset);
  let at = METADATA_TABLE_BYTES;
  for (const item of sorted) {
    if (at + length <= item.offset) return at;
    at = Math.max(at, Math.ceil((item.offset + item.length) / ITEM_ALIGN) * ITEM_ALIGN);
  }
  if (at + length > place.region.length) throw full(place);
  return at;
}

function full({ path }: ItemPlace): Error {
  return fault('limit', 'The metadata region has no room for the name of the parent', {
    path,
    hint: 'Convert the image into a new one.',
  });
}
