import { describe, expect, it } from 'vitest';
import { ByteStream } from './byte-stream.ts';

const BYTES = Uint8Array.from({ length: 1000 }, (_, index) => (index * 7) % 251);

async function* pieces(step: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < BYTES.length; at += step) yield BYTES.subarray(at, at + step);
}

async function all(chunks: AsyncIterable<Uint8Array>): Promise<number[]> {
  const bytes: number[] = [];
  for await (const chunk of chunks) bytes.push(...chunk);
  return bytes;
}

describe('ByteStream', () => {
  it('gives the same bytes to looks, takes, skips and the rest, whatever pieces come', async () => {
    for (const step of [1, 3, 64, 999, 1000]) {
      const stream = new ByteStream(pieces(step), 'pipe');
      expect([...(await stream.peek(100))]).toEqual([...BYTES.subarray(0, 100)]);
      expect(stream.position).toBe(0);
      expect([...(await stream.take(70))]).toEqual([...BYTES.subarray(0, 70)]);
      expect(await stream.skip(230)).toBe(230);
      expect([...(await stream.take(5))]).toEqual([...BYTES.subarray(300, 305)]);
      expect(stream.position).toBe(305);
      expect(await all(stream.rest())).toEqual([...BYTES.subarray(305)]);
      expect(stream.position).toBe(1000);
    }
  });

  it('gives fewer at the end, and none behind it', async () => {
    const stream = new ByteStream(pieces(300), 'pipe');
    expect(await stream.peek(5000)).toHaveLength(1000);
    expect(await stream.skip(990)).toBe(990);
    expect([...(await stream.take(20))]).toEqual([...BYTES.subarray(990)]);
    expect(await stream.take(1)).toHaveLength(0);
    expect(await stream.skip(Number.POSITIVE_INFINITY)).toBe(0);
  });

  it('ends with the failure of its source, and when it is aborted', async () => {
    const broken = async function* () {
      yield BYTES;
      throw new Error('read EIO');
    };
    const stream = new ByteStream(broken(), 'pipe');
    expect(await stream.take(1000)).toHaveLength(1000);
    await expect(stream.peek(1)).rejects.toThrow('read EIO');
    const controller = new AbortController();
    const aborted = new ByteStream(pieces(10), 'pipe', { signal: controller.signal });
    await aborted.take(10);
    controller.abort();
    await expect(aborted.take(10)).rejects.toMatchObject({ kind: 'aborted' });
  });
});
