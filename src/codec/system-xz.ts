/**
 * The system's liblzma, through `koffi` (both optional): it decodes several times as fast as WebAssembly, on Node's
 * threads, and verifies every kind of check. Loaded on first use.
 */
import { type Call, CallQueue, type Library, type Memory, systemLibrary } from './system-library.ts';

/** One `.xz` file that is decoded in pieces: all its streams, with padding between them. */
export interface XzDecoder {
  /**
   * Decodes from `input` into `room`. `end`: no more input follows. Resolves with the bytes taken and made; `ended` after
   * the last byte of the last stream. Throws an `XzFailure`.
   */
  decode(input: Uint8Array, room: Uint8Array, end: boolean): Promise<XzStep>;
  /** Frees its memory. Must not be called while a step runs. */
  close(): void;
}

/** Result of a step. */
export interface XzStep {
  readonly taken: number;
  readonly made: number;
  readonly ended: boolean;
}

/** A refusal of the library. */
export class XzFailure extends Error {
  /** True when the data needs more memory than is permitted. */
  readonly memory: boolean;
  /** True for a filter or a check that the library lacks. */
  readonly unsupported: boolean;

  constructor(code: number) {
    super(`liblzma refuses with status ${code}`);
    this.memory = code === STATUS.memoryLimit || code === STATUS.memory;
    this.unsupported = code === STATUS.options || code === STATUS.unsupportedCheck;
  }
}

/** The calls that are used. */
export interface SystemXz {
  /** A decoder that uses at most `memory` bytes. */
  decoder(memory: number): XzDecoder;
}

const NAMES = { linux: 'liblzma.so.5', darwin: 'liblzma.5.dylib' };
/** `lzma_ret`. */
const STATUS = { ok: 0, end: 1, unsupportedCheck: 3, memory: 5, memoryLimit: 6, options: 8, buffer: 10 } as const;
/** `LZMA_TELL_UNSUPPORTED_CHECK | LZMA_CONCATENATED`. */
const FLAGS = 0x02 | 0x08;
const ACTION = { run: 0, finish: 3 } as const;
/** `lzma_stream`: places of its members in a program of 64 bits. */
const STREAM = { nextIn: 0, availIn: 8, nextOut: 24, availOut: 32, size: 136 } as const;

let loaded: SystemXz | null | undefined;

/** The library; null where it is not available. */
export function systemXz(): SystemXz | null {
  if (process.env['VDKIT_NO_NATIVE'] === '1') return null;
  if (loaded === undefined) loaded = systemLibrary(NAMES, bind);
  return loaded;
}

function bind(library: Library, memory: Memory): SystemXz {
  const open = library.func('int lzma_stream_decoder(void *stream, uint64_t memory, uint32_t flags)');
  const code = library.func('int lzma_code(void *stream, int action)');
  const end = library.func('void lzma_end(void *stream)');
  const queue = new CallQueue();
  return {
    decoder(limit) {
      const stream = new Uint8Array(STREAM.size);
      const status = Number(open(stream, limit, FLAGS));
      if (status !== STATUS.ok) throw new XzFailure(status);
      const step = (input: Uint8Array, room: Uint8Array, last: boolean): Promise<XzStep> =>
        decodeStep(stream, { input, room, last }, { code, queue, memory });
      return { decode: step, close: () => void end(stream) };
    },
  };
}

interface Step {
  readonly input: Uint8Array;
  readonly room: Uint8Array;
  readonly last: boolean;
}

interface Calls {
  readonly code: Call;
  readonly queue: CallQueue;
  readonly memory: Memory;
}

async function decodeStep(
  stream: Uint8Array,
  { input, room, last }: Step,
  { code, queue, memory }: Calls,
): Promise<XzStep> {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.length);
  // The library sees addresses: both buffers are held by this call until it ends.
  view.setBigUint64(STREAM.nextIn, input.length === 0 ? 0n : memory.address(input), true);
  view.setBigUint64(STREAM.availIn, BigInt(input.length), true);
  view.setBigUint64(STREAM.nextOut, memory.address(room), true);
  view.setBigUint64(STREAM.availOut, BigInt(room.length), true);
  const status = Number(await queue.run(code, [stream, last ? ACTION.finish : ACTION.run]));
  const taken = input.length - Number(view.getBigUint64(STREAM.availIn, true));
  const made = room.length - Number(view.getBigUint64(STREAM.availOut, true));
  if (status === STATUS.buffer && (taken > 0 || made > 0)) return { taken, made, ended: false };
  if (status !== STATUS.ok && status !== STATUS.end) throw new XzFailure(status);
  return { taken, made, ended: status === STATUS.end };
}
