/** Format extensions, put together by hand behind the last cluster of an image. */
import { md5 } from '@noble/hashes/legacy.js';
import { SECTOR } from '../../../src/binary/numbers.ts';
import {
  BITMAP,
  BITMAP_ID,
  EXTENSION,
  EXTENSION_MAGIC,
  HEADER,
  MAGIC,
  SECTION,
} from '../../../src/formats/parallels/layout.ts';

/** A section to write. */
export interface Section {
  readonly id: bigint;
  readonly flags: bigint;
  readonly data: Uint8Array;
}

/** Sectors for each bit of the bitmaps. */
const GRANULARITY = 8;

/** A dirty bitmap with all bits set in its first cluster. */
export function bitmapSection(virtualSize: number, flags = 0n): Section {
  const sectors = virtualSize / SECTOR;
  const data = new Uint8Array(BITMAP.size + 8);
  const uuid = Uint8Array.from({ length: 16 }, (_, at) => at + 1);
  data.set(BITMAP.encode({ sectors: BigInt(sectors), uuid, granularity: GRANULARITY, entries: 1 }));
  new DataView(data.buffer).setBigUint64(BITMAP.size, 1n, true);
  return { id: BITMAP_ID, flags, data };
}

/** The image with an extension in a further cluster, in front of all others. QEMU takes one at the end for lost room. */
export function withExtension(from: Uint8Array, sections: readonly Section[]): Uint8Array {
  const header = HEADER.decode(from);
  const clusterSize = header.tracks * SECTOR;
  const place = header.dataOffset * SECTOR;
  const bytes = new Uint8Array(from.length + clusterSize);
  bytes.set(from.subarray(0, place));
  bytes.set(from.subarray(place), place + clusterSize);
  bytes.set(HEADER.encode({ ...header, extensionOffset: BigInt(header.dataOffset) }));
  const view = new DataView(bytes.buffer);
  for (let at = HEADER.size; at < HEADER.size + header.entries * 4; at += 4) {
    const entry = view.getUint32(at, true);
    if (entry !== 0) view.setUint32(at, entry + (header.magic === MAGIC.extended ? 1 : header.tracks), true);
  }
  const cluster = bytes.subarray(place, place + clusterSize);
  let at = EXTENSION.size;
  for (const { id, flags, data } of sections) {
    cluster.set(SECTION.encode({ id, flags, dataSize: data.length, zero: 0 }), at);
    cluster.set(data, at + SECTION.size);
    at += SECTION.size + Math.ceil(data.length / 8) * 8;
  }
  const sum = md5(cluster.subarray(EXTENSION.size));
  cluster.set(EXTENSION.encode({ magic: EXTENSION_MAGIC, md5: sum }));
  return bytes;
}
