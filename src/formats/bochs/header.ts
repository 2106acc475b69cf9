/** The header of a redolog, checked: what follows from it lies inside the file. */
import { divCeil, SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { HEADER, HEADER_MIN, LIMITS, MAGIC, REST, SUBTYPES, TYPE, VERSION_1, VERSION_2 } from './layout.ts';

/** Places of a redolog, in bytes. */
export interface BochsHeader {
  readonly version: 1 | 2;
  readonly subtype: (typeof SUBTYPES)[number];
  readonly virtualSize: number;
  readonly catalogOffset: number;
  readonly catalogEntries: number;
  readonly extentBytes: number;
  /** First bytes of the bitmap that have a sector. */
  readonly bitmapBytes: number;
  /** Room of the bitmap, before the sectors of an extent. */
  readonly bitmapRoom: number;
  /** Bitmap and sectors of an extent. */
  readonly slotBytes: number;
  /** Slot 0. */
  readonly dataOffset: number;
}

/** Reads and checks the header. Throws `invalid-format`, `unsupported`, `limit`. */
export async function readHeader(storage: Storage): Promise<BochsHeader> {
  if (storage.size < HEADER_MIN) throw wrong(storage, 'header', `${storage.size} bytes`, `at least ${HEADER_MIN}`);
  const bytes = new Uint8Array(HEADER_MIN);
  await storage.read(0, bytes);
  return parseHeader(bytes, storage);
}

function parseHeader(bytes: Uint8Array, storage: Storage): BochsHeader {
  const { magic, type, subtype: found, version, ...fields } = HEADER.decode(bytes);
  if (magic !== MAGIC) throw wrong(storage, 'magic', 'another text', MAGIC);
  if (type !== TYPE) throw wrong(storage, 'type', 'another text', TYPE);
  const subtype = SUBTYPES.find((one) => one === found);
  if (subtype === undefined) throw unsupported(storage, 'subtype', 'another one', SUBTYPES.join(', '));
  if (version !== VERSION_1 && version !== VERSION_2) {
    throw unsupported(storage, 'version', `0x${version.toString(16)}`, '1.0 or 2.0');
  }
  const rest = version === VERSION_1 ? REST[1] : REST[2];
  const { diskSize } = rest.decode(bytes, HEADER.size);
  const { headerSize, catalogEntries, bitmapBytes, extentBytes } = fields;
  checkExtent(storage, extentBytes);
  if (catalogEntries === 0 || catalogEntries > LIMITS.catalogEntries) {
    throw wrong(storage, 'catalog', `${catalogEntries} entries`, `1 to ${LIMITS.catalogEntries}`);
  }
  if (headerSize < HEADER_MIN || headerSize % 4 !== 0 || headerSize + catalogEntries * 4 > storage.size) {
    throw wrong(storage, 'header', `${headerSize} bytes`, 'a header and a catalog inside the file');
  }
  const bitmapNeeded = divCeil(extentBytes / SECTOR, 8);
  if (bitmapBytes < bitmapNeeded) {
    throw wrong(storage, 'bitmap', `${bitmapBytes} bytes`, `at least ${bitmapNeeded}, a bit for each sector`);
  }
  const virtualSize = diskSize - (diskSize % SECTOR);
  if (virtualSize === 0 || virtualSize > catalogEntries * extentBytes) {
    throw wrong(storage, 'disk', `${diskSize} bytes`, `a disk that ${catalogEntries} extents hold`);
  }
  const bitmapRoom = divCeil(bitmapBytes, SECTOR) * SECTOR;
  return {
    version: version === VERSION_1 ? 1 : 2,
    subtype,
    virtualSize,
    catalogOffset: headerSize,
    catalogEntries,
    extentBytes,
    bitmapBytes: bitmapNeeded,
    bitmapRoom,
    slotBytes: bitmapRoom + extentBytes,
    dataOffset: headerSize + catalogEntries * 4,
  };
}

function checkExtent(storage: Storage, extentBytes: number): void {
  const isPower = extentBytes > 0 && (extentBytes & (extentBytes - 1)) === 0;
  if (isPower && extentBytes >= SECTOR && extentBytes <= LIMITS.extentBytes) return;
  throw wrong(storage, 'extent', `${extentBytes} bytes`, `a power of two from ${SECTOR} to ${LIMITS.extentBytes}`);
}

function wrong({ label }: Storage, field: string, found: string, expected: string): ImageError {
  const message = `The ${field} of the Bochs redolog is invalid`;
  return new ImageError('invalid-format', message, { path: label, field, found, expected });
}

function unsupported({ label }: Storage, field: string, found: string, expected: string): ImageError {
  const message = `The ${field} of the Bochs redolog is not supported`;
  return new ImageError('unsupported', message, { path: label, field, found, expected });
}
