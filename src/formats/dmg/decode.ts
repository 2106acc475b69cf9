/** Decoding of chunks, by their kind. Each codec is loaded when a chunk of it is first read. */
import { inflateZlib, streamInflater } from '#decompress';
import { Chunks } from '../../codec/chunks.ts';
import { ImageError } from '../../errors.ts';
import { Turns } from '../../storage/turns.ts';
import { TYPE } from './layout.ts';
import type { DmgChunk } from './tables.ts';

/** The kinds that are stored encoded. */
export const CODECS: ReadonlyMap<number, string> = new Map([
  [TYPE.adc, 'ADC'],
  [TYPE.zlib, 'zlib'],
  [TYPE.bzip2, 'bzip2'],
  [TYPE.lzfse, 'LZFSE'],
  [TYPE.lzma, 'LZMA'],
]);

/** Small steps that a step of a decoder counts as: the clock is looked at behind each. */
const STEPS_PER_LOOK = 256;
/** Larger chunks are decoded in pieces, where their codec can. */
const LARGE = 16 * 1024 * 1024;
const IN_PIECES: ReadonlySet<number> = new Set([TYPE.zlib, TYPE.bzip2, TYPE.lzma]);

/** True for a chunk that is decoded in pieces, and never held as a whole. */
export function isLarge({ type, size }: Pick<DmgChunk, 'type' | 'size'>): boolean {
  return size > LARGE && IN_PIECES.has(type);
}

/** The content of such a chunk in pieces, each valid until the next is asked for. Throws `corrupt`, `unsupported`. */
export async function* decodePieces(type: number, stored: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (type === TYPE.bzip2) {
    yield* (await import('../../codec/bzip2.ts')).decodeBzip2Stream(stored);
  } else if (type === TYPE.lzma) {
    yield* (await import('../../codec/xz.ts')).decodeXzStream(stored);
  } else {
    const inflate = await streamInflater();
    if (inflate === null) throw new ImageError('unsupported', 'A chunk of this length cannot be decoded in a browser');
    yield* inflate.decode(new Chunks(stored), 'zlib');
  }
}

/** Decodes a chunk into exactly `size` bytes; `room`: memory for them. Throws `corrupt`. */
export async function decodeChunk(
  type: number,
  stored: Uint8Array,
  size: number,
  room: Uint8Array | undefined,
): Promise<Uint8Array> {
  switch (type) {
    case TYPE.zlib:
      return decodeZlib(stored, size, room);
    case TYPE.bzip2:
      return (await import('../../codec/bzip2.ts')).decodeBzip2(stored, size, room);
    case TYPE.lzma:
      return (await import('../../codec/xz.ts')).decodeXz(stored, size);
    case TYPE.lzfse:
      return inTurns((await import('../../codec/lzfse.ts')).decodeLzfse, stored, size, room);
    case TYPE.adc:
      return inTurns((await import('../../codec/adc.ts')).decodeAdc, stored, size, room);
    default:
      throw new ImageError('unsupported', 'The kind of a chunk is unknown', { found: `0x${type.toString(16)}` });
  }
}

/** Decodes in steps, and lets the event loop run every few milliseconds. */
async function inTurns(
  decode: (stored: Uint8Array, bytes: Uint8Array) => Generator<void>,
  stored: Uint8Array,
  size: number,
  room: Uint8Array | undefined,
): Promise<Uint8Array> {
  const bytes = room?.length === size ? room : new Uint8Array(size);
  const turns = new Turns(undefined, 'Decoding');
  for (const _ of decode(stored, bytes)) {
    const turn = turns.take(STEPS_PER_LOOK);
    if (turn !== undefined) await turn;
  }
  return bytes;
}

async function decodeZlib(stored: Uint8Array, size: number, room?: Uint8Array): Promise<Uint8Array> {
  const bytes = await inflateZlib(stored, size, room ?? new Uint8Array(size));
  if (bytes.length === size) return bytes;
  throw new ImageError('corrupt', 'A chunk of the DMG is too short', {
    found: `${bytes.length} bytes`,
    expected: `${size} bytes`,
  });
}
