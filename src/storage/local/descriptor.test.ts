import { beforeEach, describe, expect, it, vi } from 'vitest';
import { EndOfFile, readFully, readListFully, writeFully, writeListFully } from './descriptor.ts';

/** A medium whose calls move at most `step` bytes, as real ones do when signals or quotas interfere. */
const medium = vi.hoisted(() => ({ bytes: new Uint8Array(64), end: 64, step: 3 }));

vi.mock('node:fs', () => {
  const move = (
    list: readonly Uint8Array[],
    position: number,
    each: (part: Uint8Array, at: number) => void,
  ): number => {
    let rest = Math.min(medium.step, Math.max(medium.end - position, 0));
    const allowed = rest;
    for (const buffer of list) {
      const part = buffer.subarray(0, rest);
      each(part, position + allowed - rest);
      rest -= part.length;
    }
    return allowed - rest;
  };
  const get = (part: Uint8Array, at: number): void => part.set(medium.bytes.subarray(at, at + part.length));
  const put = (part: Uint8Array, at: number): void => medium.bytes.set(part, at);
  type Done = (error: null, count: number) => void;
  return {
    read: (_fd: number, buffer: Uint8Array, offset: number, length: number, position: number, done: Done) =>
      done(null, move([buffer.subarray(offset, offset + length)], position, get)),
    write: (_fd: number, buffer: Uint8Array, offset: number, length: number, position: number, done: Done) =>
      done(null, move([buffer.subarray(offset, offset + length)], position, put)),
    readv: (_fd: number, list: Uint8Array[], position: number, done: Done) => done(null, move(list, position, get)),
    writev: (_fd: number, list: Uint8Array[], position: number, done: Done) => done(null, move(list, position, put)),
  };
});

const LENGTHS = [0, 2, 5, 0, 1, 9, 3, 0];
const count = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index + 1);
const split = (bytes: Uint8Array): Uint8Array[] => {
  let at = 0;
  return LENGTHS.map((length) => {
    at += length;
    return bytes.slice(at - length, at);
  });
};

describe.each([1, 2, 3, 7, 100])('with calls that move %d bytes', (step) => {
  beforeEach(() => {
    medium.bytes.fill(0);
    medium.step = step;
    medium.end = 64;
  });

  it('moves all the same, one buffer', async () => {
    await writeFully(1, 10, count(20));
    expect(medium.bytes.subarray(10, 31)).toEqual(Uint8Array.of(...count(20), 0));
    const target = new Uint8Array(20);
    await readFully(1, 10, target);
    expect(target).toEqual(count(20));
    await readFully(1, 64, new Uint8Array(0));
  });

  it('moves all the same, lists', async () => {
    await writeListFully(1, 10, split(count(20)));
    expect(medium.bytes.subarray(10, 31)).toEqual(Uint8Array.of(...count(20), 0));
    const target = LENGTHS.map((length) => new Uint8Array(length));
    await readListFully(1, 10, target);
    expect(target).toEqual(split(count(20)));
    await readListFully(1, 64, [new Uint8Array(0)]);
  });

  it('tells where the file ended', async () => {
    medium.end = 17;
    for (const reading of [readFully(1, 10, new Uint8Array(8)), readListFully(1, 10, split(count(20)))]) {
      await expect(reading).rejects.toThrow(EndOfFile);
      await expect(reading).rejects.toMatchObject({ offset: 17 });
    }
  });
});
