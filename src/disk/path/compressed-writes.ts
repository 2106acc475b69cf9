/**
 * Compressed writes. Two steps, so that many writers can compress concurrently and still store in order:
 * `compressUnits` makes the streams, on other threads, and touches no image; the disk stores them later. Zeroes,
 * partial units and data that does not get smaller are written uncompressed.
 */
import { alignDown, alignUp } from '../../binary/numbers.ts';
import { isZero } from '../../codec/bytes.ts';
import { ImageError } from '../../errors.ts';
import type { EncodedUnit, Encoder, Image } from '../../image/contract.ts';
import { allDone, markHandled } from '../../storage/all-done.ts';
import { isPromise } from '../../storage/contract.ts';

/** A stretch of a write: units in their stored form, or plain bytes. */
export interface WritePiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Null: written uncompressed. */
  readonly units: readonly EncodedUnit[] | null;
}

/** The encoder of an image. Throws `unsupported` without one. */
export function encoderOf(image: Image, path: string): Encoder {
  const { encoder } = image;
  if (encoder !== undefined && encoder !== null) return encoder;
  throw new ImageError('unsupported', 'This image cannot store compressed data', {
    path,
    hint: 'Write without compression.',
  });
}

/** Target of compressed units. */
export interface UnitTarget {
  readonly encoder: Encoder;
  readonly diskSize: number;
  /** Zeroes must hide what a parent has. */
  readonly hasParent: boolean;
}

/** Compresses the whole units of a write. The bytes must not change until they are stored. */
export async function compressUnits(
  { encoder, diskSize, hasParent }: UnitTarget,
  offset: number,
  bytes: Uint8Array,
): Promise<WritePiece[]> {
  const { unit } = encoder;
  // Such an image has no other form for them.
  const storesZeroes = hasParent && encoder.must === true;
  const end = offset + bytes.length;
  const first = Math.min(alignUp(offset, unit), end);
  const last = end === diskSize ? end : Math.max(alignDown(end, unit), first);
  const streams: (Uint8Array | null)[] = [];
  const work: Promise<void>[] = [];
  for (let at = first; at < last; at += unit) {
    const index = streams.push(null) - 1;
    const part = bytes.subarray(at - offset, Math.min(at + unit, end) - offset);
    if (!storesZeroes && isZero(part)) continue;
    const stream = encoder.encode(part.length === unit ? part : filledUp(part, unit));
    if (!isPromise(stream)) streams[index] = stream;
    else {
      const done = stream.then((made) => {
        streams[index] = made;
      });
      work.push(markHandled(done));
    }
  }
  await allDone(work);
  return piecesOf({ offset, bytes, first, last, unit }, streams);
}

/** Pads the last unit of a disk. */
function filledUp(part: Uint8Array, unit: number): Uint8Array {
  const whole = new Uint8Array(unit);
  whole.set(part);
  return whole;
}

interface Stretch {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly first: number;
  readonly last: number;
  readonly unit: number;
}

/** Joins neighbours that are stored in the same way. */
function piecesOf(
  { offset, bytes, first, last, unit }: Stretch,
  streams: readonly (Uint8Array | null)[],
): WritePiece[] {
  const pieces: WritePiece[] = [];
  const add = (start: number, stop: number, units: readonly EncodedUnit[] | null): void => {
    if (start < stop) pieces.push({ offset: start, bytes: bytes.subarray(start - offset, stop - offset), units });
  };
  /** Start of the plain bytes not yet in a piece. */
  let plain = offset;
  for (let index = 0; index < streams.length; ) {
    const start = first + index * unit;
    const units: EncodedUnit[] = [];
    for (let stream = streams[index]; stream !== null && stream !== undefined; stream = streams[++index]) {
      units.push({ guestOffset: first + index * unit, bytes: stream });
    }
    if (units.length === 0) {
      index++;
      continue;
    }
    add(plain, start, null);
    plain = Math.min(first + index * unit, last);
    add(start, plain, units);
  }
  add(plain, offset + bytes.length, null);
  return pieces;
}
