/** Content of a disk that is too large to hold in memory: a few ranges of bytes, zeroes elsewhere. */
import { open } from 'node:fs/promises';
import { Random } from '../../src/testing/random.ts';

/** One range filled with one byte. */
export interface Fill {
  readonly offset: number;
  readonly length: number;
  readonly byte: number;
}

/** Sector-aligned ranges that do not touch: the first and the last sector of the disk, and seeded places between. */
export function makeFills(size: number, seed: number, count: number): Fill[] {
  const random = new Random(seed);
  const fills: Fill[] = [{ offset: 0, length: 512, byte: 0xa5 }];
  const sectors = size / 512;
  if (sectors > 1) fills.push({ offset: size - 512, length: 512, byte: 0x5a });
  for (let attempt = 0; attempt < count; attempt++) {
    // Two draws, since one has fewer bits than the sectors of a large disk need.
    const first = Math.floor(((random.next() / 2 ** 32 + random.next()) / 2 ** 32) * sectors);
    const length = Math.min(1 + random.below(600), sectors - first) * 512;
    const fill = { offset: first * 512, length, byte: 1 + random.below(255) };
    const free = fills.every(({ offset, length: l }) => offset + l < fill.offset || fill.offset + length < offset);
    if (free && length > 0) fills.push(fill);
  }
  return fills.sort((a, b) => a.offset - b.offset);
}

/** The bytes of `[offset, offset + length)`. */
export function contentOf(fills: readonly Fill[], offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const fill of fills) {
    const start = Math.max(fill.offset, offset);
    const end = Math.min(fill.offset + fill.length, offset + length);
    if (start < end) bytes.fill(fill.byte, start - offset, end - offset);
  }
  return bytes;
}

/** True when nothing but zeroes lies in the range. */
export function isEmptyThere(fills: readonly Fill[], offset: number, length: number): boolean {
  return fills.every((fill) => fill.offset + fill.length <= offset || offset + length <= fill.offset);
}

/** Makes a raw disk of this content; what is not filled is a hole. */
export async function writeRaw(path: string, size: number, fills: readonly Fill[]): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.truncate(size);
    for (const { offset, length, byte } of fills)
      await file.write(new Uint8Array(length).fill(byte), 0, length, offset);
  } finally {
    await file.close();
  }
}
