/** Bytes that depend on a seed, made by copying: writes of the model suite are many. */
import { Random } from '../../src/testing/random.ts';
import { Mismatch } from './mismatch.ts';
import type { Content, Range } from './operations.ts';

const POOL_BYTES = 3 * 1024 * 1024;
const POOL = makePool();
const SECTOR = 512;

function makePool(): Uint8Array {
  const random = new Random(20_240_229);
  return new Uint8Array(Uint32Array.from({ length: POOL_BYTES / 4 }, () => random.next()).buffer);
}

/** Bytes without a pattern, different for different seeds. */
export function randomContent(length: number, seed: number): Uint8Array {
  const start = Math.imul(seed + 1, 0x9e37_79b1) >>> 0;
  if (length >= POOL_BYTES) {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += SECTOR) {
      bytes.set(POOL.subarray((start + at * 7) % (POOL_BYTES - SECTOR)).subarray(0, Math.min(SECTOR, length - at)), at);
    }
    return bytes;
  }
  const at = start % (POOL_BYTES - length);
  return POOL.slice(at, at + length);
}

/** Some sectors with data, some without. */
export function mixedContent(length: number, seed: number): Uint8Array {
  const bytes = randomContent(length, seed);
  const random = new Random(seed);
  for (let at = 0; at < length; ) {
    const end = Math.min(at + SECTOR * (1 + random.below(12)), length);
    if (random.chance(0.5)) bytes.fill(0, at, end);
    at = end;
  }
  return bytes;
}

/** Sectors that compress, each of them another one, and some that do not. */
export function textContent(length: number, seed: number): Uint8Array {
  const bytes = randomContent(length, seed);
  const random = new Random(seed);
  for (let at = 0; at < length; at += SECTOR) {
    if (random.chance(0.8)) bytes.fill(random.below(256), at + 8, at + SECTOR);
  }
  return bytes;
}

/** The bytes of a write. `present` and `below` are the whole disk as it reads now, and as the images below read. */
export function writeContent(
  wanted: Range & { readonly content: Content; readonly seed: number },
  present: Uint8Array,
  below: Uint8Array,
): Uint8Array {
  const { offset, length, content, seed } = wanted;
  switch (content) {
    case 'random':
      return randomContent(length, seed);
    case 'mixed':
      return mixedContent(length, seed);
    case 'text':
      return textContent(length, seed);
    case 'same':
      return present.slice(offset, offset + length);
    case 'below': {
      const bytes = new Uint8Array(length);
      bytes.set(below.subarray(offset, offset + length));
      return bytes;
    }
    case 'zeroes':
      return new Uint8Array(length);
  }
}

/** The bytes as this many buffers of different lengths, an empty one among them. */
export function splitBytes(bytes: Uint8Array, buffers: number): Uint8Array | Uint8Array[] {
  if (buffers === 1) return bytes;
  const parts: Uint8Array[] = [new Uint8Array(0)];
  for (let part = 1, at = 0; part < buffers; part++) {
    const end = part === buffers - 1 ? bytes.length : Math.min(at + Math.ceil(bytes.length / 3), bytes.length);
    parts.push(bytes.subarray(at, end));
    at = end;
  }
  return parts;
}

/** Expected content of a disk. `loose` bytes were discarded: they may read as zero instead. */
export interface DiskContent {
  readonly bytes: Uint8Array;
  readonly loose: Uint8Array;
}

export function copyOf({ bytes, loose }: DiskContent): DiskContent {
  return { bytes: bytes.slice(), loose: loose.slice() };
}

/** Index of the first byte that may not be read at `offset`; -1 when all may. */
export function firstDifference(found: Uint8Array, { bytes, loose }: DiskContent, offset: number): number {
  const wanted = bytes.subarray(offset, offset + found.length);
  if (Buffer.compare(found, wanted) === 0) return -1;
  return found.findIndex((byte, index) => byte !== wanted[index] && !(byte === 0 && loose[offset + index] === 1));
}

/** Throws a {@link Mismatch} that begins with `what` where something else was read than must be. */
export function fits(found: Uint8Array, content: DiskContent, offset: number, what: string): void {
  const at = firstDifference(found, content, offset);
  if (at === -1) return;
  const wanted = describeByte(content.bytes[offset + at]);
  throw new Mismatch(`${what} has ${describeByte(found[at])} at ${offset + at} instead of ${wanted}`);
}

/** The byte for people. */
export function describeByte(byte: number | undefined): string {
  return byte === undefined ? 'nothing' : `0x${byte.toString(16).padStart(2, '0')}`;
}
