/**
 * The seekable format of Zstandard (contrib/seekable_format in its repository): a skippable frame at the end of the file
 * lists the stored and decoded length of each frame before it.
 */
import { struct, u8, u32 } from '../../../binary/struct.ts';
import { Chunks } from '../../../codec/chunks.ts';
import { decodeZstdStream } from '../../../codec/zstd-stream.ts';
import type { Storage } from '../../../storage/contract.ts';
import { BlockIndex, exactly, once } from './blocks.ts';
import { bytesAt } from './bytes-at.ts';

const HEADER = struct('little', 8, { magic: u32(0), length: u32(4) });
const MAGIC = 0x184d_2a5e;
const FOOTER = struct('little', 9, { frames: u32(0), descriptor: u8(4), magic: u32(5) });
const FOOTER_MAGIC = 0x8f92_eab1;
/** An entry has a checksum, too. The frames' own are verified. */
const WITH_CHECKSUM = 0x80;
/** Bits without a meaning. */
const RESERVED = 0x7c;
const ENTRY = struct('little', 8, { stored: u32(0), size: u32(4) });
const CHECKSUM_BYTES = 4;
/** Limit of the specification. */
const FRAMES_MAX = 0x800_0000;
/** Entries read at a time. */
const STEP = 64 * 1024;

/** The frames of a file that ends with a list of all of them; null: it has none, or one that does not fit. */
export async function zstdIndex(storage: Storage): Promise<BlockIndex | null> {
  if (storage.size < HEADER.size + FOOTER.size) return null;
  const footer = FOOTER.decode(await bytesAt(storage, storage.size - FOOTER.size, FOOTER.size));
  if (footer.magic !== FOOTER_MAGIC || (footer.descriptor & RESERVED) !== 0 || footer.frames > FRAMES_MAX) return null;
  const entryBytes = ENTRY.size + ((footer.descriptor & WITH_CHECKSUM) === 0 ? 0 : CHECKSUM_BYTES);
  const length = footer.frames * entryBytes + FOOTER.size;
  const start = storage.size - length - HEADER.size;
  if (start < 0) return null;
  const header = HEADER.decode(await bytesAt(storage, start, HEADER.size));
  if (header.magic !== MAGIC || header.length !== length) return null;
  const index = new BlockIndex({ joins: true });
  let at = 0;
  for (let first = 0; first < footer.frames; first += STEP) {
    const count = Math.min(STEP, footer.frames - first);
    const entries = await bytesAt(storage, start + HEADER.size + first * entryBytes, count * entryBytes);
    for (let n = 0; n < count; n++) {
      const { stored, size } = ENTRY.decode(entries, n * entryBytes);
      if (stored === 0 || at + stored > start || !index.add(at, stored, size)) return null;
      at += stored;
    }
  }
  return at === start ? index : null;
}

/** Decodes frames and verifies their checksums and lengths. */
export function decodeFrames(stored: Uint8Array, size: number): Promise<Uint8Array> {
  return exactly(decodeZstdStream(new Chunks(once(stored))), size);
}
