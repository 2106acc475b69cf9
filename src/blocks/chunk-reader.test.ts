import { describe, expect, it, vi } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { ImageError } from '../errors.ts';
import { MemoryStorage } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { type Chunk, ChunkReader } from './chunk-reader.ts';

const SIZE = 4096;

/** Stored: the byte that fills the chunk, twice; so nothing may decode into something. */
async function decode(stored: Uint8Array, size: number, room?: Uint8Array): Promise<Uint8Array> {
  const [first, second] = stored;
  if (first === undefined || first !== second) throw new ImageError('corrupt', 'This is not a chunk');
  const target = room?.length === size ? room : new Uint8Array(size);
  return target.fill(first);
}

interface Toy {
  readonly storage: MemoryStorage;
  readonly chunks: readonly Chunk[];
  readonly model: Uint8Array;
}

/** Chunks of several sizes, stored in any order with gaps between them. */
async function toy(random: Random, count: number): Promise<Toy> {
  const storage = new MemoryStorage('/chunks');
  const places = Array.from({ length: count }, (_, n) => n).sort(() => random.below(3) - 1);
  const chunks: Chunk[] = [];
  const parts: Uint8Array[] = [];
  let guestOffset = 0;
  let fileOffset = 7;
  const starts = places.map(() => {
    const start = fileOffset;
    fileOffset += 20 + random.below(3) * 10_000;
    return start;
  });
  for (let n = 0; n < count; n++) {
    const size = random.below(4) === 0 ? SIZE / 2 : SIZE;
    const byte = 1 + random.below(255);
    const start = starts[places.indexOf(n)] ?? 0;
    await storage.write(start, new Uint8Array(2).fill(byte));
    chunks.push({ guestOffset, size, fileOffset: start, storedBytes: 10 + random.below(10) });
    parts.push(new Uint8Array(size).fill(byte));
    guestOffset += size;
  }
  const model = new Uint8Array(guestOffset);
  for (const [n, part] of parts.entries()) model.set(part, chunks[n]?.guestOffset ?? 0);
  return { storage, chunks, model };
}

function readerOf({ storage, chunks }: Toy, keptBytes: number) {
  const decoder = vi.fn(decode);
  const reader = new ChunkReader({
    storage,
    chunkBytes: SIZE,
    keptBytes,
    hint: 'Others can be read.',
    find(guestOffset) {
      const chunk = chunks.findLast((one) => one.guestOffset <= guestOffset);
      if (chunk === undefined) throw new ImageError('corrupt', 'There is no chunk');
      return chunk.guestOffset % 3 === 0 ? chunk : Promise.resolve(chunk);
    },
    decode: decoder,
  });
  return { reader, decoder };
}

function wholes(count: number): Toy {
  const storage = new MemoryStorage('/chunks');
  const chunks = Array.from({ length: count }, (_, n) => {
    return { guestOffset: n * SIZE, size: SIZE, fileOffset: n * 10, storedBytes: 10 };
  });
  return { storage, chunks, model: new Uint8Array(count * SIZE) };
}

describe('ChunkReader', () => {
  it('agrees with the decoded disk, whatever is asked for and however little is kept', async () => {
    const random = new Random(3);
    for (let round = 0; round < 6; round++) {
      const image = await toy(random, 40);
      const { reader } = readerOf(image, [0, SIZE, 4 * SIZE][round % 3] ?? 0);
      for (let step = 0; step < 40; step++) {
        const start = random.below(image.model.length);
        const length = 1 + random.below(Math.min(image.model.length - start, step % 2 === 0 ? 100 : 30_000));
        const cut = random.below(length);
        const [a, b] = [new Uint8Array(cut), new Uint8Array(length - cut)];
        await reader.read(start, [a, b]);
        expect(Buffer.compare(Buffer.concat([a, b]), image.model.subarray(start, start + length))).toBe(0);
      }
    }
  });

  it('fetches neighbours by one read', async () => {
    const image = wholes(30);
    await image.storage.write(0, new Uint8Array(300).fill(5));
    const read = vi.spyOn(image.storage, 'read');
    const { reader } = readerOf(image, SIZE);
    const target = new Uint8Array(30 * SIZE);
    await reader.read(0, target);
    expect(read).toHaveBeenCalledTimes(1);
    expect(target.every((byte) => byte === 5)).toBe(true);
  });

  it('keeps decoded chunks of which a part was wanted, the last ones within the bound', async () => {
    const image = wholes(4);
    await image.storage.write(0, new Uint8Array(40).fill(5));
    const { reader, decoder } = readerOf(image, 2 * SIZE);
    const part = new Uint8Array(100);
    const readParts = async (...chunks: number[]): Promise<number> => {
      decoder.mockClear();
      for (const chunk of chunks) await reader.read(chunk * SIZE + 50, part);
      return decoder.mock.calls.length;
    };
    expect(await readParts(0, 0, 1, 0, 1)).toBe(2);
    // Chunk 0 was used last, so 1 goes.
    expect(await readParts(0, 2, 0)).toBe(1);
    expect(await readParts(1)).toBe(1);
    reader.forget();
    expect(await readParts(1, 1)).toBe(1);
  });

  it('decodes a chunk once for requests at the same time', async () => {
    const image = wholes(1);
    await image.storage.write(0, new Uint8Array(10).fill(5));
    const { reader, decoder } = readerOf(image, 0);
    await Promise.all([reader.read(0, new Uint8Array(10)), reader.read(10, new Uint8Array(10))]);
    expect(decoder).toHaveBeenCalledTimes(1);
  });

  it('tells where a chunk lies that does not decode, reads the others, and tries again', async () => {
    const image = wholes(3);
    await image.storage.write(0, new Uint8Array([5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 6, 6]));
    const { reader } = readerOf(image, SIZE);
    for (const length of [SIZE, 10]) {
      await expectKind(() => reader.read(SIZE, new Uint8Array(length)), 'corrupt');
      await expect(reader.read(SIZE, new Uint8Array(length))).rejects.toMatchObject({
        hint: 'Others can be read.',
        context: { path: '/chunks', offset: 10, guestOffset: SIZE },
      });
    }
    await reader.read(0, new Uint8Array(SIZE));
    // What is said to lie behind the end of the file is not missed where the chunk itself is whole.
    const last = new Uint8Array(SIZE);
    await reader.read(2 * SIZE, last);
    expect(last[0]).toBe(6);
    await image.storage.write(11, new Uint8Array([1]));
    await reader.read(SIZE, new Uint8Array(10));
  });

  it('decodes a damaged chunk once for all its parts', async () => {
    const image = wholes(2);
    await image.storage.write(0, new Uint8Array([5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]));
    const { reader, decoder } = readerOf(image, SIZE);
    for (let at = 0; at < 20; at++) await expectKind(() => reader.read(at, new Uint8Array(1)), 'corrupt');
    expect(decoder).toHaveBeenCalledTimes(1);
    await reader.read(SIZE, new Uint8Array(1));
    await expectKind(() => reader.read(0, new Uint8Array(1)), 'corrupt');
    expect(decoder).toHaveBeenCalledTimes(3);
  });

  it('makes nothing up for what the file does not have', async () => {
    const image = wholes(2);
    await image.storage.write(0, new Uint8Array(11).fill(5));
    const { reader } = readerOf(image, SIZE);
    await expect(reader.read(SIZE, new Uint8Array(SIZE))).rejects.toMatchObject({
      kind: 'corrupt',
      context: { expected: expect.stringContaining('before the end of the file') },
    });
  });
});
