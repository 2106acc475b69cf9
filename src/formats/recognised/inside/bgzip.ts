/**
 * Blocked gzip (the SAM specification, 4.1, "The BGZF compression format"): members of at most 64 KiB, each with its stored
 * length in an extra field, so that they can be found without decoding.
 */
import { struct, u8, u16, u32 } from '../../../binary/struct.ts';
import { Chunks } from '../../../codec/chunks.ts';
import { decodeGzip } from '../../../codec/gzip.ts';
import { throwIfAborted } from '../../../errors.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { BlockIndex, exactly, once } from './blocks.ts';

/** Header of a member with the extra field alone. */
const HEADER = struct('little', 18, {
  magic: u16(0),
  method: u8(2),
  flags: u8(3),
  time: u32(4),
  extraFlags: u8(8),
  system: u8(9),
  extraLength: u16(10),
  id: u16(12), // 'BC'
  idLength: u16(14),
  blockSize: u16(16), // of the whole member, less one
});
const EXPECTED = { magic: 0x8b1f, method: 8, flags: 4, extraLength: 6, id: 0x4342, idLength: 2 } as const;
/** Length of the content, modulo 2^32, behind its checksum: the last bytes of a member. */
const SIZE_BYTES = 4;
const LEAST = HEADER.size + 8;
const MOST_CONTENT = 65_536;
/** Bytes of the file read at a time. */
const WINDOW = 1024 * 1024;

/** Members of a file, and facts about them. */
export interface BgzipIndex {
  readonly index: BlockIndex;
  /** False: the empty member at the end is missing, by which a file shows that it is whole. */
  readonly hasEnd: boolean;
}

/** The members of a file that has nothing else in it; null: it is another gzip file. */
export async function bgzipIndex(storage: Storage, { signal }: OperationOptions): Promise<BgzipIndex | null> {
  const index = new BlockIndex({ joins: true });
  const window = new Window(storage);
  let hasEnd = false;
  for (let at = 0; at < storage.size; ) {
    throwIfAborted(signal, 'Opening');
    const header = await window.at(at, HEADER.size);
    if (header === null) return null;
    const { blockSize, ...fields } = HEADER.decode(header);
    const isBlock = Object.entries(EXPECTED).every(([name, value]) => fields[name as keyof typeof fields] === value);
    const length = blockSize + 1;
    if (!isBlock || length < LEAST) return null;
    const end = await window.at(at + length - SIZE_BYTES, SIZE_BYTES);
    if (end === null) return null;
    const size = new DataView(end.buffer, end.byteOffset, SIZE_BYTES).getUint32(0, true);
    if (size > MOST_CONTENT || !index.add(at, length, size)) return null;
    hasEnd = size === 0;
    at += length;
  }
  return { index, hasEnd };
}

/** Decodes members and verifies their checksums and lengths. */
export function decodeMembers(stored: Uint8Array, size: number): Promise<Uint8Array> {
  return exactly(
    decodeGzip(new Chunks(once(stored)), () => {}),
    size,
  );
}

/** The bytes of a file around an ascending place. */
class Window {
  readonly #storage: Storage;
  #offset = 0;
  #bytes = new Uint8Array(0);

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** Null: they lie behind the end of the file. */
  async at(offset: number, length: number): Promise<Uint8Array | null> {
    if (offset + length > this.#storage.size) return null;
    if (offset < this.#offset || offset + length > this.#offset + this.#bytes.length) {
      this.#bytes = new Uint8Array(Math.min(WINDOW, this.#storage.size - offset));
      this.#offset = offset;
      await this.#storage.read(offset, this.#bytes);
    }
    return this.#bytes.subarray(offset - this.#offset, offset - this.#offset + length);
  }
}
