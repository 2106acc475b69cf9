/** Decoding of chunks, by their kind. Each codec is loaded when a chunk of it is first read. */
import { inflateZlib } from '#decompress';
import { ImageError } from '../../errors.ts';
import { TYPE } from './layout.ts';

/** The kinds that are stored encoded. */
export const CODECS: ReadonlyMap<number, string> = new Map([
  [TYPE.adc, 'ADC'],
  [TYPE.zlib, 'zlib'],
  [TYPE.bzip2, 'bzip2'],
  [TYPE.lzfse, 'LZFSE'],
  [TYPE.lzma, 'LZMA'],
]);

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
      return (await import('../../codec/lzfse.ts')).decodeLzfse(stored, size, room);
    case TYPE.adc:
      return (await import('../../codec/adc.ts')).decodeAdc(stored, size, room);
    default:
      throw new ImageError('unsupported', 'The kind of a chunk is unknown', { found: `0x${type.toString(16)}` });
  }
}

async function decodeZlib(stored: Uint8Array, size: number, room?: Uint8Array): Promise<Uint8Array> {
  const bytes = await inflateZlib(stored, size, room ?? new Uint8Array(size));
  if (bytes.length === size) return bytes;
  throw new ImageError('corrupt', 'A chunk of the DMG is too short', {
    found: `${bytes.length} bytes`,
    expected: `${size} bytes`,
  });
}
