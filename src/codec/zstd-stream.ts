/**
 * A Zstandard file (RFC 8878) that comes in pieces: frames one after another, with and without content. The system's
 * libzstd decodes them where it is available, the reference decoder as WebAssembly elsewhere. Both verify checksums.
 */
import { systemZstdFrames } from '#decompress';
import { ImageError, isImageError } from '../errors.ts';
import type { Chunks } from './chunks.ts';

/** The first bytes of a frame with content, little-endian. */
export const ZSTD_MAGIC = 0xfd2f_b528;
/** Magic number of frames to skip; the last four bits are free. */
const SKIPPABLE = { magic: 0x184d_2a50, mask: 0xffff_fff0, header: 8 } as const;
/** Longest header of a frame: magic, descriptor, window, dictionary, size. */
export const ZSTD_HEADER_MAX = 4 + 1 + 1 + 4 + 8;
const FLAG = { checksum: 0x04, reserved: 0x08, single: 0x20 } as const;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
/** A size of two bytes counts from here. */
const SIZE_BASE = 256;
const WINDOW_LOG_MIN = 10;

/** Frames that need more memory are refused, as the zstd program does unless it is told otherwise. */
export const WINDOW_LOG_MAX = 27;
const WINDOW_MAX = 2 ** WINDOW_LOG_MAX;

/** Header of a frame with content. */
export interface FrameHeader {
  /** Bytes, with the magic number. */
  readonly length: number;
  /** Bytes of memory for what is referred to. */
  readonly window: number;
  /** Bytes of the content; null where the frame does not tell. */
  readonly contentSize: number | null;
  /** True when four bytes of a checksum follow the last block. */
  readonly checksum: boolean;
}

/** Decoding of frames, one after another. */
export interface FrameSteps {
  /**
   * Decodes one frame and leaves what is behind it in `input`. A chunk is valid until the next is asked for. Throws
   * `corrupt` when the frame ends early, and any other error when it is broken.
   */
  frame(header: FrameHeader, input: Chunks): AsyncGenerator<Uint8Array>;
  /** Frees its memory. */
  close(): void;
}

/**
 * Decodes all frames, in bounded memory. Throws `corrupt` for data that is broken, ends early or is not a frame, `limit` for
 * a window of more than 128 MiB, `unsupported` for a frame that needs a dictionary.
 */
export async function* decodeZstdStream(input: Chunks): AsyncGenerator<Uint8Array> {
  const steps = (await systemZstdFrames()) ?? (await (await import('./zstd-wasm.ts')).wasmFrames());
  try {
    for (let frames = 0; ; frames++) {
      const header = await nextHeader(input, frames);
      if (header === null) return;
      let made = 0;
      for await (const chunk of steps.frame(header, input)) {
        made += chunk.length;
        yield chunk;
      }
      if (header.contentSize === null || header.contentSize === made) continue;
      throw corrupt('has a frame of another size', { found: made, expected: header.contentSize });
    }
  } catch (error) {
    throw isImageError(error) ? error : corrupt('is damaged', { cause: error });
  } finally {
    steps.close();
  }
}

/** Header of the next frame with content, which stays in `input`; null at the end. `frames`: those that came before. */
async function nextHeader(input: Chunks, frames: number): Promise<FrameHeader | null> {
  for (let skipped = 0; ; skipped++) {
    const start = await input.peek(SKIPPABLE.header);
    if (start.length === 0 && frames + skipped > 0) return null;
    if (start.length < 4) throw corrupt('ends early');
    const magic = new DataView(start.buffer, start.byteOffset, start.length).getUint32(0, true);
    if ((magic & SKIPPABLE.mask) >>> 0 !== SKIPPABLE.magic) {
      if (magic === ZSTD_MAGIC) return frameHeader(await input.peek(ZSTD_HEADER_MAX));
      throw corrupt('is followed by other bytes', {
        found: start
          .subarray(0, 4)
          .reduce((text, byte) => `${text}${byte.toString(16).padStart(2, '0')} `, '')
          .trim(),
        expected: '28 b5 2f fd, the start of a frame',
        hint: 'Everything before them was complete: unpack the file with another program (unzstd) if they mean nothing.',
      });
    }
    await skipFrame(input);
  }
}

async function skipFrame(input: Chunks): Promise<void> {
  const header = await input.take(SKIPPABLE.header);
  if (header.length < SKIPPABLE.header) throw corrupt('ends early');
  let rest = new DataView(header.buffer, header.byteOffset, header.length).getUint32(4, true);
  while (rest > 0) {
    const chunk = await input.pull();
    if (chunk === null) throw corrupt('ends early');
    input.unread(chunk.subarray(rest));
    rest -= Math.min(rest, chunk.length);
  }
}

/** The header at the start of a frame. Throws as `decodeZstdStream`. */
export function frameHeader(start: Uint8Array): FrameHeader {
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  const descriptor = start[4] ?? 0;
  const single = (descriptor & FLAG.single) !== 0;
  const dictionary = DICTIONARY_ID_BYTES[descriptor & 3] ?? 0;
  const flag = descriptor >>> 6;
  const sizeBytes = flag === 0 && single ? 1 : (CONTENT_SIZE_BYTES[flag] ?? 0);
  const [dictionaryAt, sizeAt] = [single ? 5 : 6, (single ? 5 : 6) + dictionary];
  const length = sizeAt + sizeBytes;
  if (start.length < Math.max(length, 5)) throw corrupt('ends early');
  if ((descriptor & FLAG.reserved) !== 0) throw corrupt('has a frame with an unknown flag', { found: descriptor });
  if (start.subarray(dictionaryAt, sizeAt).some((byte) => byte !== 0)) throw needsDictionary();
  const contentSize = sizeBytes === 0 ? null : sizeIn(view, sizeAt, sizeBytes);
  const window = single ? (contentSize ?? 0) : windowOf(start[5] ?? 0);
  if (window > WINDOW_MAX) throw tooMuchMemory(window);
  return { length, window, contentSize, checksum: (descriptor & FLAG.checksum) !== 0 };
}

function sizeIn(view: DataView, at: number, bytes: number): number {
  if (bytes === 8) return Number(view.getBigUint64(at, true));
  if (bytes === 4) return view.getUint32(at, true);
  return bytes === 2 ? view.getUint16(at, true) + SIZE_BASE : view.getUint8(at);
}

function windowOf(byte: number): number {
  const base = 2 ** (WINDOW_LOG_MIN + (byte >>> 3));
  return base + (base / 8) * (byte & 7);
}

function needsDictionary(): ImageError {
  return new ImageError('unsupported', 'The Zstandard data needs a dictionary', {
    hint: 'Unpack the file first (unzstd -D).',
  });
}

function tooMuchMemory(found: number): ImageError {
  return new ImageError('limit', 'The Zstandard data needs too much memory to decode', {
    found: `a window of ${found} bytes`,
    expected: `at most ${WINDOW_MAX} bytes`,
    hint: 'Unpack the file first (unzstd --long=31).',
  });
}

function corrupt(what: string, details: ConstructorParameters<typeof ImageError>[2] = {}): ImageError {
  return new ImageError('corrupt', `The Zstandard data ${what}`, details);
}
