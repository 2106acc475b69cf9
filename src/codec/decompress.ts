/**
 * Decompression in Node: deflate and, if available, Zstandard run on its thread pool. Browsers have a separate version.
 */
import type * as zlib from 'node:zlib';
import { ImageError } from '../errors.ts';
import type { Chunks } from './chunks.ts';
import type { DeflateForm } from './inflate-stream.ts';
import { nodeZlib } from './node-zlib.ts';
import type { SystemBzip2 } from './system-bzip2.ts';
import { systemDeflate } from './system-deflate.ts';
import type { SystemXz } from './system-xz.ts';
import { systemZstd } from './system-zstd.ts';
import { decodeFrames, type FrameDecoder, wasmDecoder } from './zstd.ts';
import type { FrameSteps } from './zstd-stream.ts';

/** Below this many bytes handing the work to a thread costs more than doing it. */
const AT_ONCE = 8 * 1024;
/** Extra output space, so that one call sees both the last byte and the end. */
const SLACK = 64;
/** Frames that need more than 8 MiB of memory are refused, as RFC 8878 recommends. */
const WINDOW_LOG_MAX = 23;

/** Members of `node:zlib` from Node 22.15 on. */
interface NativeZstd {
  zstdDecompress?(
    bytes: Uint8Array,
    options: { readonly maxOutputLength: number; readonly params: Readonly<Record<number, number>> },
    done: (error: Error | null, result: Uint8Array) => void,
  ): void;
  readonly constants: { readonly ZSTD_d_windowLogMax?: number | undefined };
}

/**
 * Decodes the first `size` bytes of a raw deflate stream, with a window of up to 32 KiB. Further input is ignored.
 * Memory is bounded by `size`. Throws `corrupt` when the stream is broken or ends early.
 */
export async function inflateRaw(input: Uint8Array, size: number): Promise<Uint8Array> {
  const options: zlib.ZlibOptions = {
    chunkSize: size + SLACK,
    maxOutputLength: size + SLACK,
    // A stream that is cut off behind the last byte wanted is good enough: whether it ends early is seen below.
    finishFlush: nodeZlib().constants.Z_SYNC_FLUSH,
  };
  let bytes: Uint8Array;
  try {
    bytes = size <= AT_ONCE ? nodeZlib().inflateRawSync(input, options) : await inflateOnThread(input, options);
  } catch (error) {
    if ((error as { code?: unknown | undefined }).code !== 'ERR_BUFFER_TOO_LARGE') throw broken(error);
    bytes = await inflateStart(input, size);
  }
  if (bytes.length < size) throw new ImageError('corrupt', 'The compressed data ends early');
  return bytes.subarray(0, size);
}

/**
 * Decodes the first `size` bytes of consecutive Zstandard frames. Further input is ignored. Throws `corrupt` when a
 * frame is broken or exceeds the remaining `size`, or when the frames end early. `room`: a buffer of `size` bytes for
 * the result, which saves memory and a copy; its content is undefined after a failure.
 */
export async function zstdDecompress(input: Uint8Array, size: number, room?: Uint8Array): Promise<Uint8Array> {
  return decodeFrames(input, size, nativeDecoder() ?? systemDecoder(room) ?? (await wasmDecoder()));
}

/**
 * Decodes a whole zlib stream (RFC 1950) of at most `size` bytes and verifies its checksum. Further input is ignored.
 * Throws `corrupt` for a stream that is broken, ends early or makes more. `room`: a buffer of `size` bytes for the
 * result, which saves time; its content is undefined after a failure.
 */
export async function inflateZlib(input: Uint8Array, size: number, room?: Uint8Array): Promise<Uint8Array> {
  // What does not fill it may be shorter: zlib tells, and what is wrong.
  if (room?.length === size && (await systemDeflate()?.inflate(room, input)) === true) return room;
  const options: zlib.ZlibOptions = { chunkSize: size + SLACK, maxOutputLength: size + SLACK };
  const bytes = await new Promise<Uint8Array>((resolve, reject) => {
    nodeZlib().inflate(input, options, (error, result) => (error === null ? resolve(result) : reject(broken(error))));
  });
  if (bytes.length > size) throw tooLong(size);
  return bytes;
}

/** The system's library for bzip2; null where it is not available. Loaded on first use. */
export async function systemBzip2(): Promise<SystemBzip2 | null> {
  return (await import('./system-bzip2.ts')).systemBzip2();
}

/** Decoding of Zstandard frames with the system's library; null where it is not available. Loaded on first use. */
export async function systemZstdFrames(): Promise<FrameSteps | null> {
  return (await import('./system-zstd-stream.ts')).systemZstdFrames();
}

/** Decoding of deflate streams in chunks. */
export interface StreamInflater {
  /** Decodes one deflate stream, by default a raw one, and leaves the bytes behind it in `input`. Throws `corrupt`. */
  decode(input: Chunks, form?: DeflateForm): AsyncGenerator<Uint8Array>;
  /** The CRC-32 of bytes behind others. */
  crc32(bytes: Uint8Array, before: number): number;
}

/** Decoding of deflate streams in chunks; null where it is not available. Loaded on first use. */
export async function streamInflater(): Promise<StreamInflater | null> {
  const { inflateChunks, crc32Of } = await import('./inflate-stream.ts');
  return { decode: inflateChunks, crc32: crc32Of };
}

/** The system's library for xz; null where it is not available. Loaded on first use. */
export async function systemXz(): Promise<SystemXz | null> {
  return (await import('./system-xz.ts')).systemXz();
}

function inflateOnThread(input: Uint8Array, options: zlib.ZlibOptions): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    nodeZlib().inflateRaw(input, options, (error, result) => (error === null ? resolve(result) : reject(error)));
  });
}

/** The beginning of a stream that is longer than `size`. */
async function inflateStart(input: Uint8Array, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  const stream = nodeZlib().createInflateRaw({ chunkSize: Math.max(size, SLACK) });
  stream.end(input);
  let filled = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      const part = chunk.subarray(0, size - filled);
      bytes.set(part, filled);
      filled += part.length;
      if (filled === size) break;
    }
  } catch (error) {
    throw broken(error);
  }
  return bytes.subarray(0, filled);
}

function nativeDecoder(): FrameDecoder | null {
  const { zstdDecompress: decompress, constants } = nodeZlib() as NativeZstd;
  const windowLogMax = constants.ZSTD_d_windowLogMax;
  if (decompress === undefined || windowLogMax === undefined) return null;
  return (frame, size) =>
    new Promise((resolve, reject) => {
      const options = { maxOutputLength: size, params: { [windowLogMax]: WINDOW_LOG_MAX } };
      decompress(frame, options, (error, result) => (error === null ? resolve(result) : reject(error)));
    });
}

function systemDecoder(room: Uint8Array | undefined): FrameDecoder | null {
  const library = systemZstd();
  if (library === null) return null;
  return async (frame, size) => {
    const bytes = room?.length === size ? room : new Uint8Array(size);
    return bytes.subarray(0, await library.decompress(bytes, frame));
  };
}

function tooLong(size: number): ImageError {
  return new ImageError('corrupt', 'The compressed data makes too much', { expected: `at most ${size} bytes` });
}

function broken(cause: unknown): ImageError {
  return new ImageError('corrupt', 'The compressed data is damaged', { cause });
}
