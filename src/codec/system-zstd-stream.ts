/** Zstandard frames in pieces, with the system's libzstd: see `system-zstd.ts`. Loaded on first use. */
import { ImageError } from '../errors.ts';
import type { Chunks } from './chunks.ts';
import { type Call, CallQueue, type Library, type Memory, type Pointer, systemLibrary } from './system-library.ts';
import { ZSTD_NAMES } from './system-zstd.ts';
import { type FrameSteps, WINDOW_LOG_MAX } from './zstd-stream.ts';

/** `ZSTD_d_windowLogMax`. */
const WINDOW_PARAMETER = 100;
/** `ZSTD_inBuffer` and `ZSTD_outBuffer` in a program of 64 bits. */
const BUFFER = { start: 0, size: 8, position: 16 } as const;
/** Memory of this length does not move. */
const STEADY = 128;
/** Bytes made per step. */
const ROOM = 1024 * 1024;

/** The calls, and what they need. */
interface Calls {
  readonly decompress: Call;
  readonly isError: Call;
  readonly queue: CallQueue;
  readonly memory: Memory;
}

let loaded: (() => FrameSteps) | null | undefined;

/** Decoding with the library; null where it is not available. */
export function systemZstdFrames(): FrameSteps | null {
  if (process.env['VDKIT_NO_NATIVE'] === '1') return null;
  if (loaded === undefined) loaded = systemLibrary(ZSTD_NAMES, bind);
  return loaded?.() ?? null;
}

function bind(library: Library, memory: Memory): () => FrameSteps {
  const open = library.func<Pointer | null>('void *ZSTD_createDCtx()');
  const set = library.func('size_t ZSTD_DCtx_setParameter(void *context, int parameter, int value)');
  const free = library.func('size_t ZSTD_freeDCtx(void *context)');
  const calls: Calls = {
    decompress: library.func('size_t ZSTD_decompressStream(void *context, void *target, void *source)'),
    isError: library.func('unsigned int ZSTD_isError(size_t code)'),
    queue: new CallQueue(),
    memory,
  };
  return () => {
    const context = open();
    if (context === null) throw new Error('libzstd has no memory');
    set(context, WINDOW_PARAMETER, WINDOW_LOG_MAX);
    const room = new Uint8Array(ROOM);
    return { frame: (_header, input) => decodeFrame(context, input, room, calls), close: () => void free(context) };
  };
}

async function* decodeFrame(
  context: Pointer,
  input: Chunks,
  room: Uint8Array,
  { decompress, isError, queue, memory }: Calls,
): AsyncGenerator<Uint8Array> {
  const [source, target] = [new BufferCell(memory), new BufferCell(memory)];
  let full = false;
  for (;;) {
    // With a full room more may wait inside the decoder.
    const chunk = full ? new Uint8Array(0) : await input.pull();
    if (chunk === null) throw new ImageError('corrupt', 'The Zstandard data ends early');
    source.set(chunk);
    do {
      target.set(room);
      // The library sees addresses: both buffers are held until it returns.
      const left = await queue.run(decompress, [context, target.cell, source.cell]);
      if (isError(left as number) !== 0) throw new Error('libzstd refuses the data');
      const made = target.position;
      full = made === room.length;
      if (made > 0) yield room.subarray(0, made);
      if (Number(left) === 0) {
        input.unread(chunk.subarray(source.position));
        return;
      }
    } while (source.position < chunk.length);
  }
}

/** A buffer as the library sees it. */
class BufferCell {
  readonly cell = new Uint8Array(STEADY);
  readonly #view = new DataView(this.cell.buffer);
  readonly #memory: Memory;
  #held: Uint8Array = this.cell;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /** Bytes taken or made. */
  get position(): number {
    return Number(this.#view.getBigUint64(BUFFER.position, true));
  }

  /** Short bytes are copied to where they do not move. */
  set(bytes: Uint8Array): void {
    this.#held = bytes.length < STEADY ? steady(bytes) : bytes;
    this.#view.setBigUint64(BUFFER.start, this.#memory.address(this.#held), true);
    this.#view.setBigUint64(BUFFER.size, BigInt(bytes.length), true);
    this.#view.setBigUint64(BUFFER.position, 0n, true);
  }
}

function steady(bytes: Uint8Array): Uint8Array {
  const room = new Uint8Array(STEADY);
  room.set(bytes);
  return room;
}
