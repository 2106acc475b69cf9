/**
 * The system's libdeflate, through `koffi` (both optional): it decodes whole streams into memory that is there, several
 * times as fast as Node's zlib, which makes an object and a buffer for each. Loaded on first use.
 */
import { CallQueue, type Library, type Pointer, systemLibrary } from './system-library.ts';

/** The call that is used. */
export interface SystemDeflate {
  /** Decodes a zlib stream that fills the target, and verifies its checksum. False: it does not, or is broken. */
  inflate(target: Uint8Array, stream: Uint8Array): boolean | Promise<boolean>;
}

const NAMES = { linux: 'libdeflate.so.0' };
/** Up to this many bytes the work takes hardly longer than handing it to a thread. */
const AT_ONCE = 64 * 1024;
const SUCCESS = 0;

let loaded: SystemDeflate | null | undefined;

/** The library; null where it is not available. */
export function systemDeflate(): SystemDeflate | null {
  if (process.env['VDKIT_NO_NATIVE'] === '1') return null;
  if (loaded === undefined) loaded = systemLibrary(NAMES, bind);
  return loaded;
}

function bind(library: Library): SystemDeflate {
  const allocate = library.func<Pointer>('void *libdeflate_alloc_decompressor()');
  const decompress = library.func(
    'int libdeflate_zlib_decompress(void *decompressor, void *source, size_t length, void *target, size_t room, void *made)',
  );
  const queue = new CallQueue();
  /** Decompressors that are not in use: one serves one call at a time. */
  const idle: Pointer[] = [];
  return {
    inflate(target, stream) {
      const decompressor = idle.pop() ?? allocate();
      // Without a place for the length the result must fill the target.
      const values = [decompressor, stream, stream.length, target, target.length, null];
      if (target.length <= AT_ONCE) {
        const result = decompress(...values);
        idle.push(decompressor);
        return result === SUCCESS;
      }
      return queue.run(decompress, values).then((result) => {
        idle.push(decompressor);
        return result === SUCCESS;
      });
    },
  };
}
