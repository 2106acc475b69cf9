/**
 * The indexes of an xz file (tukaani.org/xz/xz-file-format.txt, 1.2.1): each stream ends with a list of its blocks, with the
 * stored and the decoded length of each. They are found from the end of the file.
 */
import { crc32 } from '../../../binary/crc32.ts';
import { alignUp } from '../../../binary/numbers.ts';
import { bytes as field, struct, text, u32 } from '../../../binary/struct.ts';
import { equalBytes } from '../../../codec/bytes.ts';
import { decodeXz } from '../../../codec/xz.ts';
import type { Storage } from '../../../storage/contract.ts';
import { BlockIndex, type DecodeBlock } from './blocks.ts';
import { bytesAt } from './bytes-at.ts';

/** 2.1.1: stream header. */
const HEADER = struct('little', 12, { magic: field(0, 6), flags: field(6, 2), crc: u32(8) });
const MAGIC = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0);
/** 2.1.2: stream footer. */
const FOOTER = struct('little', 12, { crc: u32(0), backward: u32(4), flags: field(8, 2), magic: text(10, 2) });
const FOOTER_MAGIC = 'YZ';
const UNIT = 4;
const CRC_BYTES = 4;
/** Longer indexes are not read. */
const INDEX_MAX = 32 * 1024 * 1024;
/** 1.2: bytes of an integer of variable length. */
const INTEGER_MAX = 9;
/** Streams are not counted further. */
const STREAMS_MAX = 10_000;
const PADDING_STEP = 64 * 1024;

/** Places of the blocks of one stream. */
interface StreamBlocks {
  readonly start: number;
  readonly flags: Uint8Array;
  readonly blocks: readonly XzBlock[];
}

interface XzBlock {
  readonly fileOffset: number;
  /** Without the padding at its end. */
  readonly unpadded: number;
  readonly size: number;
}

/** Blocks of all streams, and what decodes one. */
export interface XzBlocks {
  readonly index: BlockIndex;
  readonly decode: DecodeBlock;
}

/** The blocks of a file whose indexes fit each other and the file; null: decoding it tells what is wrong. */
export async function xzBlocks(storage: Storage): Promise<XzBlocks | null> {
  const streams: StreamBlocks[] = [];
  for (let end = await withoutPadding(storage, storage.size); end > 0; ) {
    const stream = await streamBefore(storage, end);
    if (stream === null || streams.length === STREAMS_MAX) return null;
    streams.push(stream);
    end = await withoutPadding(storage, stream.start);
  }
  const index = new BlockIndex({ joins: false });
  const details = new Map<number, { readonly unpadded: number; readonly flags: Uint8Array }>();
  for (const { flags, blocks } of streams.reverse()) {
    for (const { fileOffset, unpadded, size } of blocks) {
      if (!index.add(fileOffset, alignUp(unpadded, UNIT), size)) return null;
      details.set(fileOffset, { unpadded, flags });
    }
  }
  return {
    index,
    decode(stored, size, fileOffset) {
      const block = details.get(fileOffset);
      if (block === undefined) throw new Error('internal: the index has the block');
      return decodeXz(streamOf(stored, size, block), size);
    },
  };
}

/** The stream that ends here; null: there is none. */
async function streamBefore(storage: Storage, end: number): Promise<StreamBlocks | null> {
  if (end < HEADER.size + FOOTER.size) return null;
  const bytes = await bytesAt(storage, end - FOOTER.size, FOOTER.size);
  const footer = FOOTER.decode(bytes);
  const indexBytes = (footer.backward + 1) * UNIT;
  const indexStart = end - FOOTER.size - indexBytes;
  const isFooter = footer.magic === FOOTER_MAGIC && footer.crc === crc32(bytes.subarray(CRC_BYTES, 10));
  if (!isFooter || indexBytes > INDEX_MAX || indexStart < HEADER.size) return null;
  const records = recordsOf(await bytesAt(storage, indexStart, indexBytes));
  if (records === null) return null;
  const stored = records.reduce((sum, [unpadded]) => sum + alignUp(unpadded, UNIT), 0);
  const start = indexStart - stored - HEADER.size;
  if (start < 0) return null;
  const header = await bytesAt(storage, start, HEADER.size);
  const { magic, flags, crc } = HEADER.decode(header);
  const isHeader = equalBytes(magic, MAGIC) && crc === crc32(header.subarray(6, 8)) && equalBytes(flags, footer.flags);
  if (!isHeader) return null;
  let fileOffset = start + HEADER.size;
  const blocks = records.map(([unpadded, size]): XzBlock => {
    const block = { fileOffset, unpadded, size };
    fileOffset += alignUp(unpadded, UNIT);
    return block;
  });
  return { start, flags, blocks };
}

/** 4: lengths of the blocks, unpadded and decoded. Null: the index is damaged. */
function recordsOf(bytes: Uint8Array): (readonly [unpadded: number, size: number])[] | null {
  const end = bytes.length - CRC_BYTES;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes[0] !== 0 || view.getUint32(end, true) !== crc32(bytes.subarray(0, end))) return null;
  const reader = new Integers(bytes.subarray(0, end), 1);
  const count = reader.next();
  // A record has at least two bytes.
  if (count === null || count > end / 2) return null;
  const records: (readonly [number, number])[] = [];
  for (let n = 0; n < count; n++) {
    const [unpadded, size] = [reader.next(), reader.next()];
    if (unpadded === null || size === null || unpadded < 5) return null;
    records.push([unpadded, size]);
  }
  const rest = bytes.subarray(reader.position, end);
  return rest.length < UNIT && rest.every((byte) => byte === 0) ? records : null;
}

/** Integers of variable length, one after another. */
class Integers {
  position: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.position = start;
  }

  /** Null: there is none, or it is larger than numbers are. */
  next(): number | null {
    let value = 0;
    for (let n = 0; n < INTEGER_MAX; n++) {
      const byte = this.#bytes[this.position++];
      if (byte === undefined) return null;
      value += (byte & 0x7f) * 2 ** (7 * n);
      if (byte < 0x80) return Number.isSafeInteger(value) ? value : null;
    }
    return null;
  }
}

/** A stream of one block, which decoders take. */
function streamOf(
  block: Uint8Array,
  size: number,
  { unpadded, flags }: { readonly unpadded: number; readonly flags: Uint8Array },
): Uint8Array {
  const records = [0, ...integer(1), ...integer(unpadded), ...integer(size)];
  const index = new Uint8Array(alignUp(records.length, UNIT) + CRC_BYTES);
  index.set(records);
  new DataView(index.buffer).setUint32(index.length - CRC_BYTES, crc32(index.subarray(0, -CRC_BYTES)), true);
  const header = HEADER.encode({ magic: MAGIC, flags, crc: crc32(flags) });
  const backward = index.length / UNIT - 1;
  const footer = FOOTER.encode({ crc: 0, backward, flags, magic: FOOTER_MAGIC });
  FOOTER.put(footer, 'crc', crc32(footer.subarray(CRC_BYTES, 10)));
  const stream = new Uint8Array(header.length + block.length + index.length + footer.length);
  let at = 0;
  for (const part of [header, block, index, footer]) {
    stream.set(part, at);
    at += part.length;
  }
  return stream;
}

function integer(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 0x80);
  }
}

/** End of what is before the zeroes behind a stream, which come in fours. */
async function withoutPadding(storage: Storage, end: number): Promise<number> {
  for (let at = end; at >= UNIT; ) {
    const bytes = await bytesAt(storage, Math.max(0, at - PADDING_STEP), Math.min(at, PADDING_STEP));
    const last = bytes.findLastIndex((byte) => byte !== 0);
    const zeroes = bytes.length - 1 - last;
    if (last !== -1) return at - (zeroes - (zeroes % UNIT));
    at -= bytes.length;
  }
  return 0;
}
