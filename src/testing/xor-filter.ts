/** A filter for tests: each byte is changed by a key, its offset and its position in the word. Counts its calls. */
import type { Filter, FilterInstance } from '../image/filter.ts';

/** One call of an instance. */
export interface FilterCall {
  readonly way: 'encode' | 'decode';
  readonly offset: number;
  readonly length: number;
}

/** Options for the filter. */
export interface XorFilterOptions {
  readonly name?: string | undefined;
  readonly key?: number | undefined;
  /** Completes asynchronously. */
  readonly slow?: boolean | undefined;
  /** Returns a new buffer and fills the given one with rubbish. */
  readonly elsewhere?: boolean | undefined;
}

/** A filter that records its calls and the number of open instances. */
export interface XorFilter extends Filter {
  readonly calls: FilterCall[];
  opened: number;
  closed: number;
}

/** Creates the filter. Its transformation of zeroes is nowhere zero. */
export function xorFilter(options: XorFilterOptions = {}): XorFilter {
  const { name = 'xor', key = 0x5a, slow = false, elsewhere = false } = options;
  const calls: FilterCall[] = [];
  const run = (way: FilterCall['way'], offset: number, bytes: Uint8Array): Uint8Array | Promise<Uint8Array> => {
    calls.push({ way, offset, length: bytes.length });
    const result = elsewhere ? bytes.slice() : bytes;
    for (let at = 0; at < bytes.length; at++) {
      // Never 0: what is stored for zeroes must not be zeroes.
      const mask = ((key + Math.floor((offset + at) / 512) * 31 + at * 7) & 0xff) | 1;
      result[at] = (bytes[at] ?? 0) ^ mask;
    }
    if (elsewhere) bytes.fill(0xee);
    return slow ? Promise.resolve(result) : result;
  };
  const filter: XorFilter = {
    name,
    title: 'For tests',
    configKeys: [],
    calls,
    opened: 0,
    closed: 0,
    open: (): FilterInstance => {
      filter.opened++;
      return {
        encode: (offset, bytes) => run('encode', offset, bytes),
        decode: (offset, bytes) => run('decode', offset, bytes),
        close: () => {
          filter.closed++;
        },
      };
    },
  };
  return filter;
}
