/**
 * Requests that ran together must have done what they would have done one after another, in some order. Here the
 * order is looked for.
 */

import { isZero } from '../../src/codec/bytes.ts';

/** A write or zero that ran: what it left in its range. */
export interface RanWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A read that ran: what it found. */
export interface RanRead {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** For the message. */
  readonly what: string;
}

/** Bytes of the disk. */
export interface Span {
  readonly offset: number;
  readonly length: number;
}

/** Content of a range before anything ran. */
export type Matches = (offset: number, bytes: Uint8Array) => boolean;

/** A stretch that every write covers whole or not at all. */
interface Segment {
  readonly start: number;
  readonly end: number;
}

/** One segment of a read, and which contents it equals: number of a write, or BEFORE. */
interface Found {
  readonly segment: number;
  readonly writers: ReadonlySet<number>;
}

const BEFORE = -1;
const SECTOR = 512;

/** Everything that ran, and what came before and after. */
export interface Course {
  readonly writes: readonly RanWrite[];
  readonly reads: readonly RanRead[];
  /** Reads that ran when all else had ended. */
  readonly last: readonly RanRead[];
  readonly before: Matches;
  /** Whole sectors that were discarded: each reads as without that, or zero. */
  readonly discarded: readonly Span[];
}

/**
 * Null when there is an order of the writes in which all reads found what they should, and `last` reads what they left.
 * Otherwise a sentence that says which read fits nowhere.
 */
export function explainDisorder(course: Course): string | null {
  const { writes, reads, last } = course;
  const segments = segmentsOf(course);
  const evaluate = (read: RanRead): Found[] =>
    segments.flatMap((segment, index) => findIn(segment, index, read, course));
  const found = reads.map(evaluate);
  const end = last.map(evaluate);
  for (const [index, list] of [...found, ...end].entries()) {
    const nowhere = list.find(({ writers }) => writers.size === 0);
    const segment = nowhere === undefined ? undefined : segments[nowhere.segment];
    if (segment === undefined) continue;
    const what = [...reads, ...last][index]?.what ?? 'a read';
    return `${what} found bytes from ${segment.start} to ${segment.end} that neither were there nor were written`;
  }
  const ordered = search({
    covered: writes.map((write) => segments.flatMap((segment, index) => (covers(write, segment) ? [index] : []))),
    reads: found,
    last: end,
    winner: segments.map(() => BEFORE),
    left: new Set(writes.keys()),
  });
  return ordered ? null : 'no order of the requests explains what was read: some were mixed with others';
}

function segmentsOf({ writes, reads, last, discarded }: Course): Segment[] {
  const edges = new Set<number>();
  for (const { offset, bytes } of [...writes, ...reads, ...last]) edges.add(offset).add(offset + bytes.length);
  for (const { offset, length } of discarded) {
    for (let at = offset; at <= offset + length; at += SECTOR) edges.add(at);
  }
  const sorted = [...edges].sort((a, b) => a - b);
  return sorted.slice(1).map((end, index) => ({ start: sorted[index] ?? end, end }));
}

function covers(range: { readonly offset: number; readonly bytes: Uint8Array }, segment: Segment): boolean {
  return range.offset <= segment.start && segment.end <= range.offset + range.bytes.length;
}

function findIn(segment: Segment, index: number, read: RanRead, course: Course): Found[] {
  if (!covers(read, segment)) return [];
  const { writes, before, discarded } = course;
  const bytes = part(read, segment);
  const any =
    isZero(bytes) && discarded.some(({ offset, length }) => offset <= segment.start && segment.end <= offset + length);
  const writers = new Set<number>();
  if (any || before(segment.start, bytes)) writers.add(BEFORE);
  for (const [number, write] of writes.entries()) {
    if (!covers(write, segment)) continue;
    if (any || Buffer.compare(part(write, segment), bytes) === 0) writers.add(number);
  }
  return [{ segment: index, writers }];
}

function part(
  { offset, bytes }: { readonly offset: number; readonly bytes: Uint8Array },
  { start, end }: Segment,
): Uint8Array {
  return bytes.subarray(start - offset, end - offset);
}

interface SearchState {
  /** Segments that each write covers. */
  readonly covered: readonly (readonly number[])[];
  readonly reads: readonly (readonly Found[])[];
  readonly last: readonly (readonly Found[])[];
  /** Last writer of each segment. */
  readonly winner: readonly number[];
  /** Writes whose turn has not come. */
  readonly left: ReadonlySet<number>;
}

/** Tries the writes in the order in which they were issued first: a disk that serves in turn is found right at once. */
function search(state: SearchState): boolean {
  const fits = (read: readonly Found[]): boolean =>
    read.every(({ segment, writers }) => writers.has(state.winner[segment] ?? BEFORE));
  // A read that fits now never spoils a later one, so it takes its place here.
  const reads = state.reads.filter((read) => !fits(read));
  if (state.left.size === 0) return reads.length === 0 && state.last.every(fits);
  for (const number of state.left) {
    const winner = [...state.winner];
    for (const segment of state.covered[number] ?? []) winner[segment] = number;
    const left = new Set(state.left);
    left.delete(number);
    if (search({ ...state, reads, winner, left })) return true;
  }
  return false;
}
