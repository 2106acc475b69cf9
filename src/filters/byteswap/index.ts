/**
 * The byteswap filter: reverses the bytes of each word, for disks of machines with byte-swapped controllers (Amiga,
 * Atari, TiVo and other appliances). The equivalent of `conv=swab` in `dd`.
 */
import { ImageError } from '../../errors.ts';
import type { Filter, FilterInstance } from '../../image/filter.ts';

const WIDTHS: readonly number[] = [2, 4, 8];

/** Filter that reverses the bytes of each word, for disks of machines with byte-swapped controllers. */
export const byteswap: Filter = {
  name: 'byteswap',
  title: 'Reverses the bytes of each word',
  configKeys: [
    {
      name: 'width',
      valueType: 'integer',
      default: '2',
      mandatory: false,
      expert: false,
      createOnly: false,
      description: 'Bytes of a word: 2, 4 or 8',
    },
  ],
  open({ config }) {
    const width = Number(config['width'] ?? 2);
    if (WIDTHS.includes(width)) return new Byteswap(width);
    throw new ImageError('invalid-argument', 'The width of the words is not supported', {
      field: 'width',
      found: width,
      expected: WIDTHS.join(', '),
    });
  },
};

class Byteswap implements FilterInstance {
  readonly #width: number;

  constructor(width: number) {
    this.#width = width;
  }

  encode(_offset: number, bytes: Uint8Array): Uint8Array {
    const last = this.#width - 1;
    for (let word = 0; word < bytes.length; word += this.#width) {
      for (let low = 0; low < last - low; low++) {
        const kept = bytes[word + low] ?? 0;
        bytes[word + low] = bytes[word + last - low] ?? 0;
        bytes[word + last - low] = kept;
      }
    }
    return bytes;
  }

  /** Swapping is its own inverse. */
  decode(offset: number, bytes: Uint8Array): Uint8Array {
    return this.encode(offset, bytes);
  }

  close(): void {}
}
