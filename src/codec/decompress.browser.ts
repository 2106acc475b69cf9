/** Decompression in browsers: the same functions as in Node. */
import { ImageError } from '../errors.ts';
import { decodeFrames, wasmDecoder } from './zstd.ts';

/** Bytes of input per step: a step decodes to at most a thousand times as much, which bounds time and memory. */
const PIECE = 4 * 1024;

/**
 * Decodes the first `size` bytes of a raw deflate stream. Throws `corrupt` when the stream is broken or ends early.
 */
export async function inflateRaw(input: Uint8Array, size: number): Promise<Uint8Array> {
  const { Inflate } = await import('fflate');
  const bytes = new Uint8Array(size);
  let filled = 0;
  const stream = new Inflate((chunk) => {
    const part = chunk.subarray(0, size - filled);
    bytes.set(part, filled);
    filled += part.length;
  });
  try {
    for (let at = 0; at < input.length && filled < size; at += PIECE) {
      // A copy: the library keeps and changes what it is given.
      stream.push(input.slice(at, at + PIECE), false);
    }
  } catch (error) {
    throw new ImageError('corrupt', 'The compressed data is damaged', { cause: error });
  }
  if (filled < size) throw new ImageError('corrupt', 'The compressed data ends early');
  return bytes;
}

/** Decodes a whole zlib stream (RFC 1950) of at most `size` bytes. Throws `corrupt`. */
export async function inflateZlib(input: Uint8Array, size: number): Promise<Uint8Array> {
  const { Unzlib } = await import('fflate');
  const parts: Uint8Array[] = [];
  let [filled, ended] = [0, false];
  const stream = new Unzlib((chunk, final) => {
    filled += chunk.length;
    ended ||= final;
    if (filled <= size) parts.push(chunk.slice());
  });
  try {
    for (let at = 0; at < input.length && filled <= size; at += PIECE) {
      stream.push(input.slice(at, at + PIECE), at + PIECE >= input.length);
    }
  } catch (error) {
    throw new ImageError('corrupt', 'The compressed data does not decode', { cause: error });
  }
  if (filled > size) throw new ImageError('corrupt', 'The compressed data makes too much');
  if (!ended) throw new ImageError('corrupt', 'The compressed data ends early');
  const bytes = new Uint8Array(filled);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Decodes the first `size` bytes of consecutive Zstandard frames. Throws `corrupt`. */
export async function zstdDecompress(input: Uint8Array, size: number): Promise<Uint8Array> {
  return decodeFrames(input, size, await wasmDecoder());
}

/** The system's library for xz: none. */
export async function systemXz(): Promise<null> {
  return null;
}

/** The system's library for bzip2: none. */
export async function systemBzip2(): Promise<null> {
  return null;
}

/** The system's library for Zstandard: none. */
export async function systemZstdFrames(): Promise<null> {
  return null;
}

/** Decoding of deflate streams in chunks: none. */
export async function streamInflater(): Promise<null> {
  return null;
}
