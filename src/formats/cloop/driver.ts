/** cloop: opening an image, and its blocks. Loaded when it is first used. */
import { inflateZlib } from '#decompress';
import { hasText } from '../../binary/look.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { type Chunk, ChunkReader } from '../../blocks/chunk-reader.ts';
import { EntryTable, U64_BIG } from '../../blocks/table.ts';
import { ImageError, withContext } from '../../errors.ts';
import type { Image, ImageInfo, Mapping, MetadataExtent } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import type { MaybePromise, ReadTarget, Storage } from '../../storage/contract.ts';
import { ENTRY_BYTES, HEADER, HEADER_OFFSET, LIMITS, PREAMBLE, STORED_MIN, TABLE_OFFSET } from './layout.ts';

/** Bytes of decoded blocks that are kept after a read of a part of them. */
const KEPT_BYTES = 4 * 1024 * 1024;
/** Blocks joined into one run. */
const RUN_BLOCKS = 4096;

/** Sizes of an image. */
interface CloopHeader {
  readonly blockSize: number;
  readonly blockCount: number;
}

/** Opens an image. Throws `invalid-format`, `limit`. */
export async function open(files: ImageFiles): Promise<Image> {
  const storage = mainFile(files);
  return new CloopImage(storage, await readHeader(storage));
}

async function readHeader(storage: Storage): Promise<CloopHeader> {
  const { label: path, size } = storage;
  const bytes = new Uint8Array(Math.min(TABLE_OFFSET, size));
  await storage.read(0, bytes);
  if (bytes.length < TABLE_OFFSET || !hasText(bytes, 0, PREAMBLE)) {
    throw wrong(storage, 'script', 'another text', 'that of cloop version 2.0');
  }
  const { blockSize, blockCount } = HEADER.decode(bytes, HEADER_OFFSET);
  if (blockSize === 0 || blockSize % SECTOR !== 0) {
    throw wrong(storage, 'block size', `${blockSize} bytes`, 'a multiple of 512');
  }
  const tableBytes = (blockCount + 1) * ENTRY_BYTES;
  if (blockSize > LIMITS.blockBytes || tableBytes > LIMITS.tableBytes) {
    const [field, found, most] =
      blockSize > LIMITS.blockBytes
        ? ['block size', blockSize, LIMITS.blockBytes]
        : ['table of offsets', tableBytes, LIMITS.tableBytes];
    const message = `The ${field} of the cloop image is too large`;
    throw new ImageError('limit', message, { path, field: `${field}`, found, expected: `at most ${most} bytes` });
  }
  if (blockCount === 0 || TABLE_OFFSET + tableBytes > size) {
    throw wrong(storage, 'number of blocks', blockCount, 'at least 1, and a table of offsets inside the file');
  }
  return { blockSize, blockCount };
}

function wrong({ label: path }: Storage, field: string, found: string | number, expected: string): ImageError {
  return new ImageError('invalid-format', `The ${field} of the cloop image is invalid`, {
    path,
    field,
    found,
    expected,
  });
}

/** An open image. Block `i` lies between the offsets `i` and `i + 1` of the table. */
class CloopImage extends PlainImage {
  readonly info: ImageInfo;
  readonly #header: CloopHeader;
  readonly #table: EntryTable;
  readonly #reader: ChunkReader;
  readonly #dataOffset: number;

  constructor(storage: Storage, header: CloopHeader) {
    super(storage);
    const { blockSize, blockCount } = header;
    this.#header = header;
    this.#dataOffset = TABLE_OFFSET + (blockCount + 1) * ENTRY_BYTES;
    this.#table = new EntryTable({ storage, fileOffset: TABLE_OFFSET, count: blockCount + 1, form: U64_BIG });
    const virtualSize = blockSize * blockCount;
    this.info = plainInfo({ format: 'cloop', variant: ['compressed'], virtualSize, blockSize, version: '2.0' });
    this.#reader = new ChunkReader({
      storage,
      chunkBytes: blockSize,
      keptBytes: Math.max(KEPT_BYTES, blockSize),
      hint: 'Other blocks can still be read (on the command line: convert --salvage).',
      find: (guestOffset) => this.#find(guestOffset),
      decode,
    });
  }

  map(guestOffset: number, length: number): MaybePromise<Mapping> {
    const { blockSize } = this.#header;
    const index = Math.floor(guestOffset / blockSize);
    const end = guestOffset + length;
    const stored = this.#storedAt(index);
    if (stored === undefined) {
      return this.#load(index, guestOffset, length).then(() => this.map(guestOffset, length));
    }
    const blockEnd = Math.min((index + 1) * blockSize, end);
    if (stored === null) throw this.#misplaced(index, guestOffset, blockEnd - guestOffset);
    let next = index + 1;
    while (next - index < RUN_BLOCKS && next * blockSize < end && this.#storedAt(next)) next++;
    return { kind: 'encoded', length: Math.min(next * blockSize, end) - guestOffset };
  }

  readEncoded(guestOffset: number, target: ReadTarget): Promise<void> {
    return this.#reader.read(guestOffset, target);
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    yield { storage, fileOffset: 0, length: TABLE_OFFSET, what: 'script and header', guestOffset: null };
    const length = this.#dataOffset - TABLE_OFFSET;
    yield { storage, fileOffset: TABLE_OFFSET, length, what: 'table of offsets', guestOffset: null };
  }

  #find(guestOffset: number): MaybePromise<Chunk> {
    const { blockSize: size } = this.#header;
    const index = Math.floor(guestOffset / size);
    const stored = this.#storedAt(index);
    if (stored === undefined) return this.#load(index, guestOffset, size).then(() => this.#find(guestOffset));
    if (stored === null) throw this.#misplaced(index, guestOffset, (index + 1) * size - guestOffset);
    return { guestOffset: index * size, size, ...stored };
  }

  /** Place of a block; null: it has no possible one; undefined: its entries are not in memory. */
  #storedAt(index: number): { readonly fileOffset: number; readonly storedBytes: number } | null | undefined {
    const fileOffset = this.#table.get(index);
    const end = this.#table.get(index + 1);
    if (fileOffset === undefined || end === undefined) return undefined;
    const storedBytes = end - fileOffset;
    // zlib makes at most a few bytes more of what it cannot compress; cloop's own bound is the double.
    const fits = storedBytes > STORED_MIN && storedBytes <= 2 * this.#header.blockSize + SECTOR;
    return fits && fileOffset >= this.#dataOffset && end <= this.storage.size ? { fileOffset, storedBytes } : null;
  }

  async #load(index: number, guestOffset: number, guestLength: number): Promise<void> {
    try {
      for (const entry of [index, index + 1]) if (this.#table.get(entry) === undefined) await this.#table.load(entry);
    } catch (error) {
      throw withContext(error, { guestOffset, guestLength });
    }
  }

  #misplaced(index: number, guestOffset: number, guestLength: number): ImageError {
    return new ImageError('corrupt', 'A block of the cloop image is said to lie where it cannot', {
      path: this.storage.label,
      field: `offsets ${index} and ${index + 1}`,
      guestOffset,
      guestLength,
      found: `from ${this.#table.get(index)} to ${this.#table.get(index + 1)}`,
      expected: `from ${this.#dataOffset} to ${this.storage.size}, at most ${2 * this.#header.blockSize + SECTOR} bytes`,
      hint: 'Other blocks can still be read (on the command line: convert --salvage).',
    });
  }
}

async function decode(stored: Uint8Array, size: number, room: Uint8Array | undefined): Promise<Uint8Array> {
  const bytes = await inflateZlib(stored, size, room);
  if (bytes.length === size) return bytes;
  throw new ImageError('corrupt', 'A block of the cloop image is too short', {
    found: `${bytes.length} bytes`,
    expected: `${size} bytes`,
  });
}
