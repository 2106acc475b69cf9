/**
 * bzip2, after the documentation of its program: streams of blocks, each with a checksum. The system's libbz2 works where
 * it is available, JavaScript elsewhere.
 */
import { systemBzip2 } from '#decompress';
import { ImageError, isImageError } from '../errors.ts';
import { Chunks } from './chunks.ts';
import type { SystemBzip2 } from './system-bzip2.ts';

/** A stream begins with `BZh`. */
const SIGNATURE = [0x42, 0x5a, 0x68] as const;
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
 * asked for. `notice` gets a warning of bytes behind the last stream that do not begin another one, which are left out;
 * absent: they are damage. Throws as `decodeBzip2`.
 */
export async function* decodeBzip2Stream(
  input: AsyncIterable<Uint8Array>,
  notice?: (text: string) => void,
): AsyncGenerator<Uint8Array> {
  const follows = (start: Uint8Array): boolean => {
    if (notice === undefined || start.every((byte, at) => byte === SIGNATURE[at])) return true;
    notice('Behind the compressed data are bytes that are not bzip2; they are left out.');
    return false;
  };
  try {
    const library = await systemBzip2();
    if (library !== null) yield* decodeBySystem(library, new Chunks(input), follows);
    else yield* (await import('./bzip2-decoder.ts')).decodeStreams(input, follows);
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

async function* decodeBySystem(
  library: SystemBzip2,
  input: Chunks,
  follows: (start: Uint8Array) => boolean,
): AsyncGenerator<Uint8Array> {
  const room = new Uint8Array(ROOM);
  do {
    yield* decodeOne(library, input, room);
    const next = await input.peek(SIGNATURE.length);
    if (next.length === 0 || !follows(next)) return;
  } while (true);
}

/** Decodes one stream and leaves what is behind it in `input`. */
async function* decodeOne(library: SystemBzip2, input: Chunks, room: Uint8Array): AsyncGenerator<Uint8Array> {
  const decoder = library.decoder();
  try {
    for (let full = false; ; ) {
      // With a full room more may wait inside the decoder.
      const chunk = full ? new Uint8Array(0) : await input.pull();
      if (chunk === null) throw corrupt('ends early');
      const bytes = steady(chunk);
      let at = 0;
      do {
        const { taken, made, ended } = await decoder.decode(bytes.subarray(at, chunk.length), room);
        at += taken;
        full = made === room.length;
        if (made > 0) yield room.subarray(0, made);
        if (ended) {
          input.unread(chunk.subarray(at));
          return;
        }
      } while (at < chunk.length);
    }
  } finally {
    decoder.close();
  }
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
