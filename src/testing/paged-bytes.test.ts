import { expect, it } from 'vitest';
import { PagedBytes } from './paged-bytes.ts';
import { Random } from './random.ts';

/** A copy and its expected content. */
interface Pair {
  readonly paged: PagedBytes;
  plain: Uint8Array;
}

function change({ paged, plain }: Pair, random: Random): Uint8Array {
  const at = random.below(20_000);
  const length = 1 + random.below(9000);
  const grown = new Uint8Array(Math.max(plain.length, at + length));
  grown.set(plain);
  switch (random.below(4)) {
    case 0:
      paged.resize(at);
      return plain.length > at ? plain.slice(0, at) : Uint8Array.from({ length: at }, (_, index) => plain[index] ?? 0);
    case 1:
      paged.zero(Math.min(at, plain.length), Math.min(length, Math.max(plain.length - at, 0)));
      return plain.slice().fill(0, at, at + length);
    default: {
      const bytes = new Uint8Array(length).fill(1 + random.below(255));
      paged.write(at, bytes);
      grown.set(bytes, at);
      return grown;
    }
  }
}

it('behaves like plain bytes, and forks do not see each other', () => {
  const random = new Random(3);
  const pairs: Pair[] = [{ paged: new PagedBytes(), plain: new Uint8Array(0) }];
  for (let step = 0; step < 400; step++) {
    const pair = pairs[random.below(pairs.length)];
    if (pair === undefined) throw new Error('there is always one');
    if (random.chance(0.1) && pairs.length < 8) pairs.push({ paged: pair.paged.fork(), plain: pair.plain });
    pair.plain = change(pair, random);
    for (const { paged, plain } of pairs) {
      const bytes = new Uint8Array(paged.size);
      paged.read(0, bytes);
      expect(bytes.length).toBe(plain.length);
      expect(bytes.findIndex((byte, index) => byte !== plain[index])).toBe(-1);
    }
  }
});
