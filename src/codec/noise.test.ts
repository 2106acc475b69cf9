import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { looksLikeNoise } from './noise.ts';

const SIZE = 65_536;
const TRIES = 200;
const noise = (size = SIZE): Uint8Array => Uint8Array.from(randomBytes(size));
const share = (make: () => Uint8Array): number =>
  Array.from({ length: TRIES }, () => looksLikeNoise(make())).filter((is) => is).length / TRIES;

describe('noise', () => {
  it('is told from data of any kind', () => {
    const samples = [
      new Uint8Array(SIZE),
      Uint8Array.from({ length: SIZE }, (_, at) => at & 0xff),
      new TextEncoder().encode('the map of a disk image '.repeat(3000)).subarray(0, SIZE),
      Uint8Array.from(new Uint8Array(Float64Array.from({ length: SIZE / 8 }, (_, at) => Math.sqrt(at)).buffer)),
      Uint8Array.from(noise(), (byte) => byte & 0x7f),
    ];
    for (const sample of samples) expect(looksLikeNoise(sample)).toBe(false);
  });

  it('is mostly known as such', () => {
    for (const size of [4096, SIZE, 2 ** 21]) expect(share(() => noise(size))).toBeGreaterThan(0.9);
  });

  it('is not what has a part that gets smaller', () => {
    const withPart = (length: number, at: number): Uint8Array => noise().fill(0x20, at, at + length);
    for (const at of [0, 5000, SIZE - 1024]) expect(looksLikeNoise(withPart(1024, at))).toBe(false);
    const twice = (): Uint8Array => {
      const bytes = noise();
      for (let at = 0; at < SIZE; at += 2048) bytes.copyWithin(at + 1024, at, at + 1024);
      return bytes;
    };
    expect(share(twice)).toBe(0);
  });

  it('is never said of a few bytes', () => {
    expect(looksLikeNoise(noise(4095))).toBe(false);
    expect(looksLikeNoise(new Uint8Array(0))).toBe(false);
  });
});
