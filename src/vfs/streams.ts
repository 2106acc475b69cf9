/**
 * Disks and storages as web streams. A reading stream keeps one piece ready and makes the next when it is taken, a
 * writing one writes one piece after another: memory is bounded by two pieces, whatever the size of the disk.
 */
import { checkArguments } from '../arguments.ts';
import { ImageError, throwIfAborted } from '../errors.ts';
import type { OperationOptions } from '../storage/contract.ts';
import { type ByteStore, type Bytes, behindEnd, byteStoreOf, checkOffset, notWritable } from './bytes.ts';
import { READABLE_OPTIONS, STORE, WRITABLE_OPTIONS } from './kinds.ts';

/** Bytes per read if the reader brings no buffer. */
const CHUNK = 256 * 1024;
/** Bytes that may be pending before the writer has to wait. */
const WAITING = 1024 * 1024;

/** Options of both kinds of stream. */
export interface StreamOptions extends OperationOptions {
  /** First byte. Default 0. */
  readonly offset?: number | undefined;
  /** Bytes. Default: up to the end. Throws `out-of-bounds` if the range does not lie inside. */
  readonly length?: number | undefined;
  /** Close the disk or storage when the stream ends, for any reason. Default false. */
  readonly closeDisk?: boolean | undefined;
}

/** Options for a reading stream. */
export interface ReadableOptions extends StreamOptions {
  /** Maximum bytes per piece. Default 256 KiB. */
  readonly chunkSize?: number | undefined;
}

/** Options for a writing stream. */
export interface WritableOptions extends StreamOptions {
  /** Pending bytes before the writer has to wait. Default 1 MiB. */
  readonly highWaterMark?: number | undefined;
}

/**
 * A range of a disk, a device or a storage as a stream of bytes; readers may bring their own buffers (`mode: 'byob'`).
 * Cancelling it, or the signal, ends it at the next piece. Throws `out-of-bounds`, `invalid-argument`.
 */
export function readableStream(bytes: Bytes, options: ReadableOptions = {}): ReadableStream<Uint8Array> {
  checkArguments('readableStream', { bytes: [bytes, STORE], options: [options, READABLE_OPTIONS] });
  const store = byteStoreOf(bytes);
  const { at: from, end } = rangeOf(store, options);
  const chunkSize = options.chunkSize ?? CHUNK;
  checkPositive(store, chunkSize);
  const cancelled = new AbortController();
  const signal = eitherSignal(cancelled.signal, options.signal);
  const finish = closerOf(store, options);
  let at = from;
  return new ReadableStream(
    {
      type: 'bytes',
      async pull(controller) {
        try {
          throwIfAborted(options.signal, 'The stream');
          const request = controller.byobRequest;
          if (at === end) {
            await finish();
            controller.close();
            request?.respond(0);
            return;
          }
          const view = request?.view ?? null;
          const wanted = Math.min(view === null ? chunkSize : Math.min(view.byteLength, chunkSize), end - at);
          const target = view === null ? new Uint8Array(wanted) : new Uint8Array(view.buffer, view.byteOffset, wanted);
          await store.read(at, target, { signal });
          // It is no longer awaited, and the buffer may be in use elsewhere.
          if (cancelled.signal.aborted) return;
          at += wanted;
          if (request === null) controller.enqueue(target);
          else request.respond(wanted);
        } catch (error) {
          if (cancelled.signal.aborted) return;
          await finish().catch(() => {});
          throw error;
        }
      },
      async cancel(reason) {
        cancelled.abort(reason);
        await finish();
      },
    },
    // A byte stream asks for more while less than this is ready: one piece.
    { highWaterMark: 1 },
  );
}

/**
 * A range of a disk, a device or a storage as the target of a stream, from its first byte on. Closing it flushes: all
 * data is durable when `close` resolves. Aborting it keeps the data written so far. A piece that crosses the end fails
 * with `out-of-bounds` (VERR_EOF) and is not written at all. Throws `read-only` immediately.
 */
export function writableStream(
  bytes: Bytes,
  options: WritableOptions = {},
): WritableStream<ArrayBufferView | ArrayBuffer> {
  checkArguments('writableStream', { bytes: [bytes, STORE], options: [options, WRITABLE_OPTIONS] });
  const store = byteStoreOf(bytes);
  if (!store.writable) throw notWritable(store.label);
  const range = rangeOf(store, options);
  const { signal } = options;
  const end = options.length === undefined && store.grows ? Number.MAX_SAFE_INTEGER : range.end;
  const highWaterMark = options.highWaterMark ?? WAITING;
  checkPositive(store, highWaterMark);
  const finish = closerOf(store, options);
  let { at } = range;
  return new WritableStream<ArrayBufferView | ArrayBuffer>(
    {
      async write(chunk) {
        try {
          throwIfAborted(signal, 'The stream');
          const piece = bytesOfChunk(store, chunk);
          if (at + piece.length > end) throw behindEnd(store, at, piece.length);
          await store.write(at, piece, { signal });
          at += piece.length;
        } catch (error) {
          await finish().catch(() => {});
          throw error;
        }
      },
      async close() {
        try {
          throwIfAborted(signal, 'The stream');
          await store.flush({});
        } catch (error) {
          await finish().catch(() => {});
          throw error;
        }
        await finish();
      },
      async abort() {
        await finish();
      },
    },
    { highWaterMark, size: (chunk) => chunk?.byteLength ?? 0 },
  );
}

/** Closes once, whichever end comes first. */
function closerOf(store: ByteStore, { closeDisk }: StreamOptions): () => Promise<void> {
  let closing: Promise<void> | null = null;
  return () => {
    closing ??= closeDisk === true ? store.close() : Promise.resolve();
    return closing;
  };
}

function rangeOf(store: ByteStore, options: StreamOptions): { readonly at: number; readonly end: number } {
  const at = options.offset ?? 0;
  checkOffset(store.label, at);
  const length = options.length ?? Math.max(store.size - at, 0);
  checkOffset(store.label, length);
  if (at + length > store.size) throw behindEnd(store, at, length);
  return { at, end: at + length };
}

function checkPositive(store: ByteStore, bytes: number): void {
  if (Number.isSafeInteger(bytes) && bytes > 0) return;
  throw new ImageError('invalid-argument', 'The number of bytes is not valid', {
    path: store.label,
    found: bytes,
    expected: 'at least 1',
  });
}

function bytesOfChunk(store: ByteStore, chunk: ArrayBufferView | ArrayBuffer): Uint8Array {
  if (chunk instanceof Uint8Array) return chunk;
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  throw new ImageError('invalid-argument', 'Only bytes can be written to a disk', {
    path: store.label,
    found: typeof chunk,
    hint: 'Pipe text through a TextEncoderStream.',
  });
}

function eitherSignal(own: AbortSignal, other: AbortSignal | undefined): AbortSignal {
  return other === undefined ? own : AbortSignal.any([own, other]);
}
