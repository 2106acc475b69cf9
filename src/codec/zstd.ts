/**
 * Zstandard frames (RFC 8878): finding their end, and decoding. In a disk image a frame may be followed by unrelated
 * bytes, so the end is found here and a decoder never sees more.
 */
import { ImageError } from '../errors.ts';

const MAGIC = 0xfd2f_b528;
/** Magic number of skippable frames; the last four bits are free. */
const SKIPPABLE = 0x184d_2a50;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const BLOCK = { raw: 0, repeated: 1, compressed: 2 } as const;

/** Decodes one whole frame into at most `size` bytes. Throws any error if the frame does not decode. */
export type FrameDecoder = (frame: Uint8Array, size: number) => Uint8Array | Promise<Uint8Array>;

/** One frame of a stream. */
export interface ZstdFrame {
  /** Bytes in the stream. */
  readonly length: number;
  /** True for a frame without content. */
  readonly skippable: boolean;
}

/** The frame at offset `at`. Throws `corrupt` when there is none or it is cut off. */
export function frameAt(stream: Uint8Array, at: number): ZstdFrame {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.length);
  const need = (bytes: number): void => {
    if (at + bytes > stream.length) throw corrupt('ends early');
  };
  need(8);
  const magic = view.getUint32(at, true);
  if ((magic & 0xffff_fff0) >>> 0 === SKIPPABLE) {
    const length = 8 + view.getUint32(at + 4, true);
    need(length);
    return { length, skippable: true };
  }
  if (magic !== MAGIC) throw corrupt('has no Zstandard frame where one is expected');
  let length = 4 + headerBytes(view.getUint8(at + 4));
  for (let last = false; !last; ) {
    need(length + 3);
    const block = view.getUint16(at + length, true) + view.getUint8(at + length + 2) * 0x1_0000;
    last = (block & 1) !== 0;
    const type = (block >>> 1) & 3;
    if (type > BLOCK.compressed) throw corrupt('has a block of an unknown type');
    length += 3 + (type === BLOCK.repeated ? 1 : block >>> 3);
  }
  if ((view.getUint8(at + 4) & 4) !== 0) length += 4;
  need(length);
  return { length, skippable: false };
}

/** Decodes frame after frame until there are `size` bytes. Further bytes are ignored. Throws `corrupt`. */
export async function decodeFrames(stream: Uint8Array, size: number, decode: FrameDecoder): Promise<Uint8Array> {
  let whole: Uint8Array | null = null;
  let filled = 0;
  for (let at = 0; filled < size; ) {
    const { length, skippable } = frameAt(stream, at);
    if (!skippable) {
      const bytes = await decodeOne(stream.subarray(at, at + length), size - filled, decode);
      // The usual case: one frame is all there is.
      if (bytes.length === size) return bytes;
      whole ??= new Uint8Array(size);
      whole.set(bytes, filled);
      filled += bytes.length;
    }
    at += length;
  }
  return whole ?? new Uint8Array(0);
}

async function decodeOne(frame: Uint8Array, size: number, decode: FrameDecoder): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await decode(frame, size);
  } catch (error) {
    throw corrupt('does not decode', error);
  }
  if (bytes.length > size) throw corrupt('exceeds its size limit');
  return bytes;
}

/** Length of a frame header after the magic number. */
function headerBytes(descriptor: number): number {
  const single = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >>> 6;
  const contentSize = sizeFlag === 0 && single ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0);
  return 1 + (single ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + contentSize;
}

let loading: Promise<FrameDecoder> | null = null;

/** The WebAssembly decoder, which runs everywhere. Loaded on first use. */
export function wasmDecoder(): Promise<FrameDecoder> {
  loading ??= loadWasm();
  return loading;
}

async function loadWasm(): Promise<FrameDecoder> {
  const { ZSTDDecoder } = await import('zstddec/stream');
  const decoder = new ZSTDDecoder();
  await decoder.init();
  // A frame that is broken, or longer than `size`, comes back empty.
  return (frame, size) => decoder.decode(frame, size);
}

function corrupt(what: string, cause?: unknown): ImageError {
  return new ImageError('corrupt', `The compressed data ${what}`, cause === undefined ? {} : { cause });
}
