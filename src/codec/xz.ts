/**
 * The xz format (tukaani.org/xz/xz-file-format.txt, 1.2.1): streams of LZMA2 blocks with an index, and padding between
 * streams. The system's liblzma decodes them where it is available, xz-embedded as WebAssembly elsewhere.
 */
import { systemXz } from '#decompress';
import { ImageError, isImageError } from '../errors.ts';
import type { XzDecoder } from './system-xz.ts';

/** Memory that decoding may take: `xz -9` needs 65 MiB. */
const MEMORY = 256 * 1024 * 1024;
/** Bytes made per step. */
const ROOM = 1024 * 1024;
/** Room for what a decoder makes at once. */
const ROOM_MIN = 128 * 1024;
/** Steps in a row without any progress that are still no failure. */
const IDLE_STEPS = 2;
/** Shorter buffers may move in memory. */
const STEADY = 128;

/**
 * Decodes a whole `.xz` file of exactly `size` bytes and verifies its checks. Throws `corrupt` for data that is broken,
 * ends early or makes more or less, `limit` for a dictionary of more than 256 MiB, `unsupported` for an unknown filter.
 */
export async function decodeXz(stored: Uint8Array, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  let filled = 0;
  for await (const chunk of decodeXzStream(once(stored), { room: Math.min(size + 1, ROOM) })) {
    if (filled + chunk.length > size) throw corrupt('makes more than expected', { expected: `${size} bytes` });
    bytes.set(chunk, filled);
    filled += chunk.length;
  }
  if (filled < size) throw corrupt('ends early', { found: `${filled} bytes`, expected: `${size} bytes` });
  return bytes;
}

/** Options for decoding. */
export interface XzStreamOptions {
  /** Bytes made per step; default 1 MiB. */
  readonly room?: number | undefined;
}

/**
 * Decodes an `.xz` file that comes in pieces, all streams of it, in bounded memory. A chunk is valid until the next is
 * asked for. Throws as `decodeXz`.
 */
export async function* decodeXzStream(
  input: AsyncIterable<Uint8Array>,
  { room = ROOM }: XzStreamOptions = {},
): AsyncGenerator<Uint8Array> {
  let decoder: XzDecoder | null = null;
  try {
    decoder = (await systemXz())?.decoder(MEMORY) ?? (await (await import('./xz-wasm.ts')).wasmDecoder());
    yield* decodeIn(decoder, input, new Uint8Array(Math.max(room, ROOM_MIN)));
  } catch (error) {
    throw failureOf(error);
  } finally {
    decoder?.close();
  }
}

async function* decodeIn(
  decoder: XzDecoder,
  input: AsyncIterable<Uint8Array>,
  room: Uint8Array,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of input) {
    const bytes = chunk.length < STEADY ? padded(chunk) : chunk;
    for (let at = 0, idle = 0; at < bytes.length; ) {
      const { taken, made } = await decoder.decode(bytes.subarray(at), room, false);
      at += taken;
      idle = taken + made === 0 ? idle + 1 : 0;
      if (idle > IDLE_STEPS) throw corrupt('is damaged');
      if (made > 0) yield room.subarray(0, made);
    }
  }
  for (let ended = false; !ended; ) {
    const step = await decoder.decode(new Uint8Array(0), room, true);
    if (step.made > 0) yield room.subarray(0, step.made);
    ({ ended } = step);
    if (!ended && step.made === 0) throw corrupt('ends early');
  }
}

/** The bytes in a buffer that does not move. */
function padded(bytes: Uint8Array): Uint8Array {
  const room = new Uint8Array(STEADY);
  room.set(bytes);
  return room.subarray(0, bytes.length);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function failureOf(error: unknown): unknown {
  if (isImageError(error)) return error;
  const { memory, unsupported } = error as { memory?: boolean; unsupported?: boolean };
  if (memory === true) {
    return new ImageError('limit', 'The xz data needs too much memory to decode', {
      expected: `at most ${MEMORY} bytes`,
      hint: 'Unpack the file first (unxz).',
      cause: error,
    });
  }
  if (unsupported === true) {
    return new ImageError('unsupported', 'The xz data uses a filter or a check that cannot be decoded', {
      hint: 'Unpack the file first (unxz).',
      cause: error,
    });
  }
  return corrupt('is damaged or ends early', { cause: error });
}

function corrupt(what: string, details: ConstructorParameters<typeof ImageError>[2] = {}): ImageError {
  return new ImageError('corrupt', `The xz data ${what}`, details);
}
