/** A new parent of a VHDX image, or none: one entry of the log changes the locator and the flag that there is a parent. */
import { NULL_GUID, normalizeGuid } from '../../binary/guid.ts';
import { divCeil } from '../../binary/numbers.ts';
import { scanEntries } from '../../blocks/table.ts';
import { isImageError } from '../../errors.ts';
import { namesOfParent, type ParentLink } from '../../image/parent.ts';
import { BAT_ENTRY, batEntries, entryFor, offsetOf, stateOf } from './bat.ts';
import { putParent } from './items.ts';
import { STATE } from './layout.ts';
import { LINKAGE, LINKAGE_2, type ParentLocator } from './locator.ts';
import { encodeLocator, locatorPairs, type StoredParent } from './locator-encoder.ts';
import { PageEdits } from './pages.ts';
import type { Restructured } from './resize.ts';
import { growTable } from './table-room.ts';

/** An image that gets another parent. */
export interface ParentChange extends Restructured {
  readonly directory: string;
}

/** Pages of the table that are changed at a time. */
const FEW_BLOCKS = 256;

/** A parent as a child in `directory` stores it. */
export function parentToStore(directory: string, parent: ParentLink): StoredParent {
  return { ...namesOfParent(directory, parent.name), linkage: linkageOf(parent), format: parent.format };
}

/** Images of other formats may have an identity of another form: then none is stored. */
function linkageOf({ contentId, modificationUuid }: ParentLink): string | null {
  for (const text of [contentId, modificationUuid]) {
    if (text === null || text === undefined) continue;
    try {
      const guid = normalizeGuid(text);
      if (guid !== NULL_GUID) return guid;
    } catch (error) {
      if (!isImageError(error)) throw error;
    }
  }
  return null;
}

/** The same parent by another name; null: none of its names has changed. */
export function readdressed(locator: ParentLocator | null, names: ReadonlyMap<string, string>): ParentLink | null {
  if (locator === null) return null;
  const known = locator.names.find((name) => names.has(name));
  const name = names.get(known ?? '');
  if (name === undefined) return null;
  const [contentId = null] = locator.linkage;
  return { name, format: locator.format, uuid: null, modificationUuid: null, contentId };
}

/** The locator for a parent; null: there is none. Throws `limit`. */
export function locatorFor(directory: string, parent: ParentLink | null): Uint8Array | null {
  return parent === null ? null : encodeLocator(locatorPairs(parentToStore(directory, parent)));
}

/** The locator of a child whose parent has one of two identities, until it is linked again. */
export function locatorExpecting({ pairs }: ParentLocator, current: string, next: string): Uint8Array {
  return encodeLocator(new Map([...pairs, [LINKAGE, `{${current}}`], [LINKAGE_2, `{${next}}`]]));
}

/** Pages that store a link; `limit` when it has no room, and nothing has changed then. */
export async function planParent(change: ParentChange, locator: Uint8Array | null): Promise<PageEdits> {
  const { storage, state } = change;
  const edits = new PageEdits(storage);
  const { metadata, regions } = state;
  await putParent(edits, { region: regions.metadata, metadata, path: storage.label }, locator);
  return edits;
}

/** Stores the link. Everything is flushed, and the session has begun. */
export async function storeParent(change: ParentChange, edits: PageEdits, hasParent: boolean): Promise<void> {
  const { storage, state, session, blocks } = change;
  const { metadata } = state;
  if (metadata.hasParent && !hasParent) await completeBlocks(change);
  if (!metadata.hasParent && hasParent) {
    await clearBitmapEntries(change);
    const firstBlock = divCeil(metadata.virtualSize, metadata.blockSize);
    const shape = { ...metadata, hasParent: true };
    await growTable({ storage, state, blocks, shape, firstBlock, fill: STATE.notPresent }, edits, {});
    await storage.flush();
  }
  await session.write(edits.list);
}

/**
 * Partly stored blocks need a parent. The caller says that none supplies anything any more, so what is not stored is zero.
 */
async function completeBlocks({ storage, state, session }: ParentChange): Promise<void> {
  const { bat, blocks, metadata } = state;
  const partial: number[] = [];
  await bat.scan((entry, block) => {
    if (stateOf(entry) === STATE.partial) partial.push(block);
  });
  for (let at = 0; at < partial.length; at += FEW_BLOCKS) {
    const edits = new PageEdits(storage);
    for (const block of partial.slice(at, at + FEW_BLOCKS)) {
      const start = block * metadata.blockSize;
      const end = Math.min(start + metadata.blockSize, metadata.virtualSize);
      while (bat.get(block) === undefined) await bat.load(block);
      const place = offsetOf(bat.get(block) ?? 0);
      for (let guestOffset = start; guestOffset < end; ) {
        const run = await blocks.locate(guestOffset, end - guestOffset);
        if (run.kind !== 'data') await storage.zero(place + (guestOffset - start), run.length, { punch: false });
        guestOffset += run.length;
      }
      const entry = new Uint8Array(8);
      BAT_ENTRY.put(new DataView(entry.buffer), 0, entryFor(place, STATE.present));
      await edits.put(bat.entryOffset(block), entry);
    }
    await storage.flush();
    await session.write(edits.list);
  }
}

/** Images without a parent may have anything in the entries of bitmaps. */
async function clearBitmapEntries({ storage, state, session }: ParentChange): Promise<void> {
  const { regions, metadata, bat } = state;
  const wrong: number[] = [];
  const { fileOffset } = regions.bat;
  const place = { storage, fileOffset, count: batEntries(metadata), form: BAT_ENTRY };
  await scanEntries(place, (entry, index) => {
    if (entry !== 0 && index % (bat.ratio + 1) === bat.ratio) wrong.push(index);
  });
  const edits = new PageEdits(storage);
  for (const index of wrong) await edits.put(fileOffset + index * 8, new Uint8Array(8));
  if (wrong.length > 0) await session.write(edits.list);
}
