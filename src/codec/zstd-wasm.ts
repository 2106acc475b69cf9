/**
 * The reference decoder as WebAssembly, where the system's libzstd is not available. The package's stream does not see an
 * error, nor the end of a frame: it gets whole blocks of one frame, and is done with one that makes no progress.
 */
import { ImageError } from '../errors.ts';
import { type Chunks, joined } from './chunks.ts';
import type { FrameHeader, FrameSteps } from './zstd-stream.ts';

/** RFC 8878, 3.1.1.2: header of a block, its types and the most that it makes. */
const BLOCK = { header: 3, repeated: 1, types: 3, max: 128 * 1024 } as const;
const CHECKSUM = 4;
/** Blocks given at a time; the decoder cannot be stopped within. */
const BLOCKS = 16;
/** Turns without output that one piece may take. */
const IDLE_TURNS = 2;

interface Package {
  decodeStreaming(arrays: Iterable<Uint8Array>): Generator<Uint8Array>;
}

let loading: Promise<Package> | null = null;

/** Decoding in WebAssembly. */
export async function wasmFrames(): Promise<FrameSteps> {
  loading ??= load();
  const decoder = await loading;
  return { frame: (header, input) => decodeFrame(decoder, piecesOf(header, input)), close: () => {} };
}

async function load(): Promise<Package> {
  const { ZSTDDecoder } = await import('zstddec/stream');
  const decoder = new ZSTDDecoder();
  await decoder.init();
  return decoder;
}

async function* decodeFrame(decoder: Package, pieces: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  let next: Uint8Array | null = null;
  let [ended, turns, broken] = [false, 0, false];
  const feed = function* (): Generator<Uint8Array> {
    for (let piece = next; piece !== null; piece = next) {
      [next, turns] = [null, 0];
      yield piece;
    }
  };
  const stream = decoder.decodeStreaming(feed());
  try {
    for (;;) {
      // It takes the next piece without waiting, so that must be there before.
      if (next === null && !ended) {
        const { done, value } = await pieces.next();
        if (done === true) ended = true;
        else next = value;
      }
      const { done, value } = stream.next();
      if (done === true) return;
      turns++;
      broken = value.length === 0 && turns > IDLE_TURNS;
      if (broken) throw new Error('the decoder makes no progress');
      if (value.length > 0) [turns] = [0, yield value];
    }
  } finally {
    next = null;
    // Its memory is freed at its end. One that refuses a block never gets there.
    if (!broken) finish(stream);
  }
}

/** Runs a stream without further pieces to its end. */
function finish(stream: Generator<Uint8Array>): void {
  try {
    while (stream.next().done !== true);
  } catch {
    // The rest of the frame is missing, as it must be.
  }
}

/** A frame in pieces of whole blocks. */
async function* piecesOf({ length, checksum }: FrameHeader, input: Chunks): AsyncGenerator<Uint8Array> {
  let parts = [await need(input, length)];
  for (let last = false; !last; ) {
    for (let count = 0; count < BLOCKS && !last; count++) {
      const start = await need(input, BLOCK.header);
      const word = (start[0] ?? 0) + (start[1] ?? 0) * 0x100 + (start[2] ?? 0) * 0x1_0000;
      const [type, size] = [(word >>> 1) & 3, word >>> 3];
      last = (word & 1) !== 0;
      if (type === BLOCK.types || size > BLOCK.max) throw new Error('a block has an unknown type or is too long');
      parts.push(start, await need(input, type === BLOCK.repeated ? 1 : size));
    }
    if (last && checksum) parts.push(await need(input, CHECKSUM));
    yield joined(parts);
    parts = [];
  }
}

async function need(input: Chunks, length: number): Promise<Uint8Array> {
  const bytes = await input.take(length);
  if (bytes.length < length) throw new ImageError('corrupt', 'The Zstandard data ends early');
  return bytes;
}
