/**
 * bzip2, after the documentation of its program: streams of blocks, each with a checksum. The system's libbz2 works where
 * it is available, JavaScript elsewhere.
 */
import { systemBzip2 } from '#decompress';
import { ImageError, isImageError } from '../errors.ts';
import type { SystemBzip2 } from './system-bzip2.ts';

/** Bytes made per step. */
const ROOM = 1024 * 1024;
/** Shorter buffers may move in memory. */
const STEADY = 128;

/**
 * Decodes bzip2 streams of exactly `size` bytes and verifies the checksums of blocks and streams. Throws `corrupt` for
 * data that is broken, ends early or makes more or less. `room`: a buffer of `size` bytes for the result, which saves
 * memory; its content is undefined after a failure.
 */
export async function decodeBzip2(stored: Uint8Array, size: number, room?: Uint8Array): Promise<Uint8Array> {
  const bytes = room?.length === size ? room : new Uint8Array(size);
  // What does not fill it may be several streams: the steps below tell, and what is wrong.
  const steady = size >= STEADY && stored.length >= STEADY;
  if (steady && (await (await systemBzip2())?.fill(bytes, stored)) === true) return bytes;
  let filled = 0;
  for await (const chunk of decodeBzip2Stream(once(stored))) {
    if (filled + chunk.length > size) throw corrupt('makes more than expected', { expected: `${size} bytes` });
    bytes.set(chunk, filled);
    filled += chunk.length;
  }
  if (filled < size) throw corrupt('ends early', { found: `${filled} bytes`, expected: `${size} bytes` });
  return bytes;
}

/**
 * Decodes a bzip2 file that comes in pieces, all streams of it, in bounded memory. A chunk is valid until the next is
 * asked for. Throws as `decodeBzip2`.
 */
export async function* decodeBzip2Stream(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    const library = await systemBzip2();
    if (library !== null) yield* decodeBySystem(library, input);
    else yield* (await import('./bzip2-decoder.ts')).decodeStreams(input);
  } catch (error) {
    throw isImageError(error) ? error : corrupt('is damaged', { cause: error });
  }
}

/**
 * Compresses into one bzip2 stream with blocks of 900,000 bytes. Throws `unsupported` where the system's library is not
 * available.
 */
export async function encodeBzip2(bytes: Uint8Array): Promise<Uint8Array> {
  const library = await systemBzip2();
  if (library === null) {
    throw new ImageError('unsupported', 'Compressing with bzip2 needs libbz2 of the system, which is not available', {
      hint: 'Install libbz2 (see docs/dependencies.md), or choose another compression.',
    });
  }
  return library.encode(steady(bytes));
}

async function* decodeBySystem(library: SystemBzip2, input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const room = new Uint8Array(ROOM);
  let decoder = library.decoder();
  /** Bytes of the stream that was begun, or 0 between streams. */
  let [begun, streams] = [0, 0];
  try {
    for await (const chunk of input) {
      const bytes = steady(chunk);
      for (let more = bytes.length > 0, at = 0; more; ) {
        const { taken, made, ended } = await decoder.decode(bytes.subarray(at), room);
        at += taken;
        begun += taken;
        if (made > 0) yield room.subarray(0, made);
        if (ended) {
          decoder.close();
          decoder = library.decoder();
          [begun, streams] = [0, streams + 1];
        }
        // A full room: more may wait inside the decoder.
        more = at < bytes.length || (made === room.length && !ended);
      }
    }
  } finally {
    decoder.close();
  }
  if (begun > 0 || streams === 0) throw corrupt('ends early');
}

/** The bytes in a buffer that does not move. */
function steady(bytes: Uint8Array): Uint8Array {
  if (bytes.length >= STEADY) return bytes;
  const room = new Uint8Array(STEADY);
  room.set(bytes);
  return room.subarray(0, bytes.length);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function corrupt(what: string, details: ConstructorParameters<typeof ImageError>[2] = {}): ImageError {
  return new ImageError('corrupt', `The bzip2 data ${what}`, details);
}
