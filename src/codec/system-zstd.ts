/**
 * The system's Zstandard library, through `koffi` (optional): where Node has none (before 22.15), it is three times as
 * fast as WebAssembly and runs on Node's threads. Without koffi or the library, callers fall back. Loaded on first use.
 */
import { type Argument, type Call, CallQueue, type Library, systemLibrary } from './system-library.ts';

/** The two calls. Both throw if the result does not fit into the target. */
export interface SystemZstd {
  /** Compresses into the target and returns the number of bytes written. */
  compress(target: Uint8Array, source: Uint8Array, level: number): Promise<number>;
  /** Decodes one whole frame into the target and returns the number of bytes written. */
  decompress(target: Uint8Array, frame: Uint8Array): Promise<number>;
}

/** The library on each platform. */
export const ZSTD_NAMES = { linux: 'libzstd.so.1', darwin: 'libzstd.1.dylib' };
/** Below this many bytes handing the work to a thread costs more than doing it. */
const AT_ONCE = 8 * 1024;

let loaded: SystemZstd | null | undefined;

/** The library; null where it is not available. */
export function systemZstd(): SystemZstd | null {
  if (process.env['VDKIT_NO_NATIVE'] === '1') return null;
  if (loaded === undefined) loaded = systemLibrary(ZSTD_NAMES, bind);
  return loaded;
}

function bind(library: Library): SystemZstd {
  const isError = library.func('unsigned int ZSTD_isError(size_t code)');
  const compress = library.func(
    'size_t ZSTD_compress(void *target, size_t room, void *source, size_t length, int level)',
  );
  const decompress = library.func('size_t ZSTD_decompress(void *target, size_t room, void *source, size_t length)');
  const queue = new CallQueue();
  const run = async (call: Call, values: readonly Argument[], bytes: number): Promise<number> => {
    const result = bytes <= AT_ONCE ? call(...values) : await queue.run(call, values);
    if (isError(result as number) !== 0) throw new Error('the Zstandard library refuses');
    return Number(result);
  };
  return {
    compress: (target, source, level) =>
      run(compress, [target, target.length, source, source.length, level], source.length),
    decompress: (target, frame) => run(decompress, [target, target.length, frame, frame.length], target.length),
  };
}
