/**
 * A new backing file of a QED image, or none. A name that fits into the first sector changes with it. A longer one is
 * written into an unused place among the clusters of the header, durable, before the first sector names it.
 */
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { assert } from '../../errors.ts';
import { encodeBackingName } from '../../image/backing-name.ts';
import type { ParentLink } from '../../image/parent.ts';
import type { Storage } from '../../storage/contract.ts';
import type { QedLayout } from './header.ts';
import { BACKING_NAME_MAX, FEATURE, HEADER } from './layout.ts';

/** An image on the medium. Everything is flushed. */
export interface QedOnMedium {
  readonly storage: Storage;
  readonly layout: QedLayout;
}

/** Stores the link, with its name as it is. Throws `limit` for a name that is too long, `unsupported`: then nothing has changed. */
export async function storeParent({ storage, layout }: QedOnMedium, parent: ParentLink | null): Promise<void> {
  const sector = layout.sector.slice();
  const features = HEADER.get(sector, 'features') & ~(FEATURE.backing | FEATURE.backingRaw);
  if (parent === null) {
    putBacking(sector, { features, fileOffset: 0, length: 0 });
  } else {
    // A parent that was not opened and has no name: the child keeps the name that it has.
    const kept = parent.name === '' ? (layout.backing?.name ?? '') : parent.name;
    const name = encodeBackingName(kept, BACKING_NAME_MAX, storage.label);
    const fileOffset = placeOf(layout, name.length);
    if (fileOffset === HEADER.size) sector.fill(0, HEADER.size).set(name, HEADER.size);
    else await writeName(storage, fileOffset, name);
    const raw = parent.format === 'raw' ? FEATURE.backingRaw : 0n;
    putBacking(sector, { features: features | FEATURE.backing | raw, fileOffset, length: name.length });
  }
  await storage.write(0, sector);
  await storage.flush();
}

function putBacking(
  sector: Uint8Array,
  { features, fileOffset, length }: { features: bigint; fileOffset: number; length: number },
): void {
  HEADER.put(sector, 'features', features);
  HEADER.put(sector, 'backingOffset', fileOffset);
  HEADER.put(sector, 'backingLength', length);
}

async function writeName(storage: Storage, fileOffset: number, name: Uint8Array): Promise<void> {
  const bytes = new Uint8Array(alignUp(name.length, SECTOR));
  bytes.set(name);
  await storage.write(fileOffset, bytes);
  await storage.flush();
}

/** The first sector, or whole sectors behind it that do not hold the name that counts until then. */
function placeOf({ backing, headerBytes }: QedLayout, length: number): number {
  if (HEADER.size + length <= SECTOR) return HEADER.size;
  const room = alignUp(length, SECTOR);
  const [start, end] = backing === null ? [0, 0] : [backing.fileOffset, backing.fileOffset + backing.length];
  for (let place = SECTOR; place + room <= headerBytes; place += SECTOR) {
    if (place >= end || place + room <= start) return place;
  }
  // Two names and the header fit into the smallest cluster.
  assert(false, 'the header has room for two names');
}
