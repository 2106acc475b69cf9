/** One deflate stream out of chunks, in Node: on its thread pool, in bounded memory. */
import { ImageError } from '../errors.ts';
import type { Chunks } from './chunks.ts';
import { nodeZlib } from './node-zlib.ts';

/** Bytes made at a time. */
const ROOM = 512 * 1024;

/** A stream without a header, or with that of RFC 1950 and a checksum, which is verified. */
export type DeflateForm = 'raw' | 'zlib';

/**
 * Decodes one deflate stream and leaves the bytes behind it in `input`. Throws `corrupt` when it is broken or ends
 * early.
 */
export async function* inflateChunks(input: Chunks, form: DeflateForm = 'raw'): AsyncGenerator<Uint8Array> {
  const { createInflate, createInflateRaw } = nodeZlib();
  const stream = (form === 'raw' ? createInflateRaw : createInflate)({ chunkSize: ROOM });
  let ended: () => void = () => {};
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  stream.once('end', ended).once('close', ended);
  let fed = 0;
  /** The chunks that the stream may not have taken. */
  let last: Uint8Array[] = [];
  const feed = async (): Promise<void> => {
    while (!stream.readableEnded && !stream.destroyed) {
      const chunk = await input.pull();
      if (chunk === null) {
        stream.end();
        return;
      }
      last = [...last.slice(-1), chunk];
      fed += chunk.length;
      // A stream that has ended within the chunk never calls back.
      await Promise.race([end, new Promise<void>((resolve) => void stream.write(chunk, () => resolve()))]);
    }
  };
  const feeding = feed().catch((error: unknown) => void stream.destroy(error as Error));
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) yield chunk;
  } catch (error) {
    throw error instanceof ImageError
      ? error
      : new ImageError('corrupt', 'The compressed data is damaged or ends early', { cause: error });
  } finally {
    stream.destroy();
  }
  await feeding;
  let rest = fed - stream.bytesWritten;
  for (const chunk of last.reverse()) {
    const count = Math.min(rest, chunk.length);
    input.unread(chunk.subarray(chunk.length - count));
    rest -= count;
  }
}

/** The CRC-32 of more bytes, in the library's form. */
export function crc32Of(bytes: Uint8Array, before: number): number {
  return nodeZlib().crc32(bytes, before);
}
