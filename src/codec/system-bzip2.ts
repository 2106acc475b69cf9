/**
 * The system's libbz2, through `koffi` (both optional): it works on Node's threads, several times as fast as JavaScript.
 * Loaded on first use.
 */
import { CallQueue, type Library, type Memory, systemLibrary } from './system-library.ts';

/** A bzip2 file that is decoded in pieces: one stream after the other. */
export interface Bzip2Steps {
  /** Decodes from `input` into `room`, and resolves with the bytes taken and made. Throws for damaged data. */
  decode(input: Uint8Array, room: Uint8Array): Promise<Bzip2Step>;
  /** Frees its memory. Must not be called while a step runs. */
  close(): void;
}

/** Result of a step. */
export interface Bzip2Step {
  readonly taken: number;
  readonly made: number;
  /** The stream has ended; another may follow. */
  readonly ended: boolean;
}

/** The calls that are used. */
export interface SystemBzip2 {
  /** A decoder of one stream. */
  decoder(): Bzip2Steps;
  /** Decodes one stream that fills the target. False: it does not, or is broken. */
  fill(target: Uint8Array, stream: Uint8Array): Promise<boolean>;
  /** Compresses into one stream. */
  encode(bytes: Uint8Array): Promise<Uint8Array>;
}

const NAMES = { linux: 'libbz2.so.1.0', darwin: 'libbz2.1.0.dylib' };
/** Results of the library's functions. */
const STATUS = { ok: 0, end: 4 } as const;
/** `bz_stream`: places of its members in a program of 64 bits. */
const STREAM = { nextIn: 0, availIn: 8, nextOut: 24, availOut: 32, size: 80 } as const;
/** Memory of this length does not move. */
const STEADY = 128;
/** Blocks of 900,000 bytes, the default of the bzip2 program. */
const LEVEL = 9;
/** A result is at most 1 % and 600 bytes longer, says the library's manual. */
const GROWTH = { divisor: 100, bytes: 600 } as const;

let loaded: SystemBzip2 | null | undefined;

/** The library; null where it is not available. */
export function systemBzip2(): SystemBzip2 | null {
  if (process.env['VDKIT_NO_NATIVE'] === '1') return null;
  if (loaded === undefined) loaded = systemLibrary(NAMES, bind);
  return loaded;
}

function bind(library: Library, memory: Memory): SystemBzip2 {
  const queue = new CallQueue();
  const compress = library.func(
    'int BZ2_bzBuffToBuffCompress(void *target, void *room, void *source, unsigned int length, int level, int verbosity, int work)',
  );
  const decompress = library.func(
    'int BZ2_bzBuffToBuffDecompress(void *target, void *room, void *source, unsigned int length, int small, int verbosity)',
  );
  return {
    decoder: decoders(library, memory, queue),
    async fill(target, stream) {
      const length = lengthCell(target.length);
      const status = await queue.run(decompress, [target, length.memory, stream, stream.length, 0, 0]);
      return Number(status) === STATUS.ok && length.value === target.length;
    },
    async encode(bytes) {
      const target = new Uint8Array(bytes.length + Math.ceil(bytes.length / GROWTH.divisor) + GROWTH.bytes);
      const length = lengthCell(target.length);
      const status = await queue.run(compress, [target, length.memory, bytes, bytes.length, LEVEL, 0, 0]);
      if (Number(status) !== STATUS.ok) throw new Error(`libbz2 refuses with status ${status}`);
      // A copy, so that what is kept until it is written is no longer than it needs to be.
      return target.slice(0, length.value);
    },
  };
}

/** A number that the library reads and changes. */
function lengthCell(length: number): { readonly memory: Uint8Array; readonly value: number } {
  const memory = new Uint8Array(STEADY);
  const view = new DataView(memory.buffer);
  view.setUint32(0, length, true);
  return {
    memory,
    get value() {
      return view.getUint32(0, true);
    },
  };
}

function decoders(library: Library, memory: Memory, queue: CallQueue): () => Bzip2Steps {
  const open = library.func('int BZ2_bzDecompressInit(void *stream, int verbosity, int small)');
  const step = library.func('int BZ2_bzDecompress(void *stream)');
  const end = library.func('int BZ2_bzDecompressEnd(void *stream)');
  return () => {
    const stream = new Uint8Array(STREAM.size);
    const view = new DataView(stream.buffer);
    if (Number(open(stream, 0, 0)) !== STATUS.ok) throw new Error('libbz2 has no memory');
    return {
      async decode(input, room) {
        // The library sees addresses: both buffers are held by this call until it ends.
        view.setBigUint64(STREAM.nextIn, memory.address(input), true);
        view.setUint32(STREAM.availIn, input.length, true);
        view.setBigUint64(STREAM.nextOut, memory.address(room), true);
        view.setUint32(STREAM.availOut, room.length, true);
        const status = Number(await queue.run(step, [stream]));
        if (status !== STATUS.ok && status !== STATUS.end) throw new Error(`libbz2 refuses with status ${status}`);
        const taken = input.length - view.getUint32(STREAM.availIn, true);
        return { taken, made: room.length - view.getUint32(STREAM.availOut, true), ended: status === STATUS.end };
      },
      close: () => void end(stream),
    };
  };
}
