/** Values of the options of QCOW2 images, checked where an image is made or changed. */
import { isPowerOfTwo } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { Config } from '../../image/contract.ts';
import { FLAGS } from './config.ts';

const ON = /^(on|1|true|yes)$/;

/** Value of a key that must be a power of two. Throws `invalid-argument`. */
export function powerOfTwo(config: Config, key: string, fallback: number, min: number, max: number): number {
  const value = Number(config[key] ?? fallback);
  if (isPowerOfTwo(value) && value >= min && value <= max) return value;
  throw badValue(config, key, `a power of two from ${min} to ${max}`);
}

/** Value of an on/off key. Throws `invalid-argument`. */
export function flag(config: Config, key: string): boolean {
  return ON.test(word(config, key, FLAGS, 'off'));
}

/** Value of a key with a fixed set of words. Throws `invalid-argument`. */
export function word<T extends string>(config: Config, key: string, words: readonly T[], fallback: T): T {
  const found = String(config[key] ?? fallback);
  const known = words.find((one) => one === found);
  if (known !== undefined) return known;
  throw badValue(config, key, words.join(', '));
}

function badValue(config: Config, key: string, expected: string): ImageError {
  return new ImageError('invalid-argument', `The value of ${key} is not valid`, {
    field: key,
    found: String(config[key]),
    expected,
  });
}
