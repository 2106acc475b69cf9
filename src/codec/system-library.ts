/**
 * Libraries of the system, called through `koffi` (optional), also on other threads. Callers fall back without koffi or
 * without the library.
 */
import { createRequire } from 'node:module';

/** Pointers are those of memory that does not move: views of more than 64 bytes, or into others. */
export type Argument = number | Uint8Array | Pointer | null;
/** A `size_t`. */
export type Size = number | bigint;
/** Memory of a library. */
export type Pointer = object;
/** A function of a library, for this thread and for others. */
export interface Call<R = Size> {
  (...values: readonly Argument[]): R;
  async(...values: [...Argument[], (error: Error | null, result: R) => void]): void;
}
/** A library that was loaded. */
export interface Library {
  func<R = Size>(prototype: string): Call<R>;
}
/** Memory as a library sees it. */
export interface Memory {
  /** Address of bytes that do not move: of a buffer longer than 64 bytes, held by the caller while it is used. */
  address(bytes: Uint8Array): bigint;
}
interface Koffi extends Memory {
  load(library: string): Library;
}

/** Platforms with a 64-bit `size_t` and the plain calling convention. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64'];
/** koffi runs at most 256 calls at a time, for two libraries; further calls wait here. */
const CALLS = 128;

/** A library by its name on each platform; null where it is not available. */
export function systemLibrary<T>(
  names: Readonly<Partial<Record<NodeJS.Platform, string>>>,
  bind: (library: Library, memory: Memory) => T,
): T | null {
  const name = names[process.platform];
  if (process.env['VDKIT_NO_NATIVE'] === '1' || name === undefined) return null;
  if (!ARCHITECTURES.includes(process.arch)) return null;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    return bind(koffi.load(name), koffi);
  } catch {
    // Not installed: other code does the same work, only slower.
    return null;
  }
}

/** Calls on other threads, a bounded number at a time. */
export class CallQueue {
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  run(call: Call, values: readonly Argument[]): Promise<Size> {
    return new Promise((resolve, reject) => {
      const start = (): void => {
        this.#running++;
        call.async(...values, (error, result) => {
          this.#running--;
          this.#waiting.shift()?.();
          if (error === null) resolve(result);
          else reject(error);
        });
      };
      if (this.#running < CALLS) start();
      else this.#waiting.push(start);
    });
  }
}
