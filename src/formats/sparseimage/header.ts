/** The header of a sparse image, checked. */
import { SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { HEADER, LIMITS, MAGIC, NODE_BYTES, VERSION } from './layout.ts';

/** Sizes of an image, in bytes. */
export interface SparseHeader {
  readonly virtualSize: number;
  readonly bandBytes: number;
  /** Bands of the disk, stored or not. */
  readonly bandCount: number;
  /** The header's node. */
  readonly node: Uint8Array;
  /** Offset of the second node; 0: there is none. */
  readonly nextNode: number;
}

const LOW = 2 ** 32;

/** Reads and checks the header. Throws `invalid-format`, `unsupported`, `limit`. */
export async function readHeader(storage: Storage): Promise<SparseHeader> {
  const { size } = storage;
  if (size < NODE_BYTES) throw wrong(storage, 'header', `${size} bytes`, `at least ${NODE_BYTES}`);
  const node = new Uint8Array(NODE_BYTES);
  await storage.read(0, node);
  // First of all: the fields of another file may be no numbers.
  if (HEADER.get(node, 'magic') !== MAGIC) throw wrong(storage, 'signature', 'another text', MAGIC);
  const { version, bandSectors, sectorsLow, sectors, nextNode } = HEADER.decode(node);
  if (version !== VERSION) {
    const message = 'The version of the sparse image is not supported';
    throw new ImageError('unsupported', message, { path: storage.label, found: version, expected: `${VERSION}` });
  }
  // Some programs write the low half only.
  const count = sectors === 0 ? sectorsLow : sectors;
  if (count === 0 || count % LOW !== sectorsLow) {
    throw wrong(storage, 'number of sectors', `${sectors} and ${sectorsLow}`, 'the same number twice, above 0');
  }
  if (count > LIMITS.sectors) throw tooMuch(storage, 'number of sectors', count, `${LIMITS.sectors}`);
  if (bandSectors === 0) throw wrong(storage, 'band', 'no sectors', 'at least 1');
  const bandBytes = bandSectors * SECTOR;
  const bandCount = Math.ceil(count / bandSectors);
  if (bandBytes > LIMITS.bandBytes) throw tooMuch(storage, 'band', bandBytes, `${LIMITS.bandBytes} bytes`);
  if (bandCount > LIMITS.bands) throw tooMuch(storage, 'number of bands', bandCount, `${LIMITS.bands}`);
  return { virtualSize: count * SECTOR, bandBytes, bandCount, node, nextNode };
}

/** A field that cannot be right. */
export function wrong({ label }: Storage, field: string, found: string | number, expected: string): ImageError {
  const message = `The ${field} of the sparse image is invalid`;
  return new ImageError('invalid-format', message, { path: label, field, found, expected });
}

/** A field beyond what is accepted. */
export function tooMuch({ label }: Storage, field: string, found: number, most: string): ImageError {
  const message = `The ${field} of the sparse image is too large`;
  return new ImageError('limit', message, { path: label, field, found, expected: `at most ${most}` });
}
