/**
 * Locks on byte ranges: overlapping requests are kept apart, everything else runs together. Shared holders may overlap
 * each other. First come, first served: a request waits for every earlier conflicting one, held or waiting, so none
 * starves.
 *
 * A request looks only at the segments of its range, which name the last exclusive request of their bytes and the
 * shared ones since; whatever came before is waited for by these. An exclusive request leaves one segment. A shared one
 * that meets many joins them into one, whose holders form groups. So a hundred thousand requests at once, wherever they
 * lie, cost little more each than ten; in such a crowd a request may also wait for neighbours of those it overlaps.
 *
 * A few requests have no segments: looking at each of them costs less. Segments are made when a crowd forms.
 */
import { assert } from '../../errors.ts';
import type { MaybePromise } from '../../storage/contract.ts';
import { type LockNode, type Segment, SegmentList } from './lock-segments.ts';

/** A held range; release it once. */
export interface RangeLock {
  release(): void;
}

/** Requests that are looked at one by one; more get segments. */
const FEW_MAX = 96;
/** A shared request that meets more segments joins them. */
const PIECES_MAX = 12;
/** Segments that a release looks at for any that nothing holds any more. */
const TIDIED_MAX = 64;
/** Segments that may be left behind beside those in use. */
const LEFT_MAX = 64;

/** A requested range. */
class Entry implements LockNode, RangeLock {
  done = false;
  blockers = 0;
  waiters: LockNode[] | null = null;
  seenBy: LockNode | null = null;
  shared = true;
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  readonly #giveBack: (entry: Entry) => void;
  #wake: ((lock: RangeLock) => void) | null = null;

  constructor(
    range: { readonly start: number; readonly end: number },
    exclusive: boolean,
    back: (entry: Entry) => void,
  ) {
    this.start = range.start;
    this.end = range.end;
    this.exclusive = exclusive;
    this.#giveBack = back;
  }

  grant(): void {
    this.#wake?.(this);
  }

  granted(): Promise<RangeLock> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  release(): void {
    this.#giveBack(this);
  }
}

/** The locks of one disk. Without a conflict, taking one costs no promise. */
export class RangeLocks {
  readonly #segments = new SegmentList();
  readonly #back = (entry: Entry): void => this.#release(entry);
  /** Requests without segments, in their order: a few, or any number of shared ones that nothing exclusive follows. */
  readonly #plain = new Set<Entry>();
  #exclusive = 0;
  /** Segments beyond which those that nothing holds any more are removed. */
  #most = LEFT_MAX;

  /** Requests with segments that have not been released. */
  #placed = 0;
  #compared = 0;

  /** Segments and requests looked at so far: a measure of the work. */
  get visited(): number {
    return this.#segments.visited + this.#compared;
  }

  /** True when a shared lock on the range would be granted at once. */
  isFree(start: number, end: number): boolean {
    if (this.#exclusive === 0) return true;
    for (const other of this.#plain) if (other.exclusive && other.start < end && other.end > start) return false;
    return !this.#segments.overlapping(start, end).some(({ writer }) => isLive(writer));
  }

  /** Takes `[start, end)`, now or when every earlier conflicting lock is released. */
  acquire(start: number, end: number, exclusive: boolean): MaybePromise<RangeLock> {
    const entry = new Entry({ start, end }, exclusive, this.#back);
    if (exclusive) this.#exclusive++;
    if (this.#segments.count > 0 || !this.#addPlain(entry)) this.#insert(entry);
    return entry.blockers === 0 ? entry : entry.granted();
  }

  /** Adds a request without a segment; false, with segments for those before it, when it would be one of a crowd. */
  #addPlain(entry: Entry): boolean {
    const plain = this.#plain;
    if (this.#exclusive > 0) {
      if (plain.size >= FEW_MAX) {
        for (const earlier of plain) this.#insert(earlier);
        plain.clear();
        return false;
      }
      this.#compared += plain.size;
      for (const other of plain) if (conflict(other, entry)) waitFor(entry, other);
    }
    plain.add(entry);
    return true;
  }

  #insert(entry: Entry): void {
    this.#placed++;
    const { start, end, exclusive } = entry;
    const met = this.#segments.overlapping(start, end);
    for (const { writer, readers } of met) {
      waitFor(entry, writer);
      if (exclusive) waitFor(entry, readers);
    }
    const own = exclusive ? [{ start, end, writer: entry, readers: null }] : withReader(entry, met);
    this.#segments.replace(start, met.length, [...before(start, met), ...own, ...behind(end, met)]);
  }

  #release(entry: Entry): void {
    assert(!entry.done && entry.blockers === 0, 'a lock is given back once');
    if (entry.exclusive) this.#exclusive--;
    const wasPlain = this.#plain.delete(entry);
    finish(entry);
    if (wasPlain) return;
    if (--this.#placed > 0) this.#tidy(entry);
    else this.#segments.clear();
  }

  /** Forgets what nothing holds any more, and joins what is held alike: in a narrow range and beside it at once. */
  #tidy({ start, end }: Entry): void {
    const segments = this.#segments;
    const met = segments.overlapping(start - 1, end + 1, TIDIED_MAX);
    const kept = tidied(met);
    if (kept.length < met.length) segments.replace(start - 1, met.length, kept);
    if (segments.count <= this.#most) return;
    segments.sweep(isHeld);
    this.#most = segments.count * 2 + LEFT_MAX;
  }
}

function conflict(one: Entry, other: Entry): boolean {
  return (one.exclusive || other.exclusive) && one.start < other.end && one.end > other.start;
}

function tidied(segments: readonly Segment[]): Segment[] {
  const kept: Segment[] = [];
  for (const { start, end, ...holders } of segments) {
    const [writer, readers] = [isLive(holders.writer) ? holders.writer : null, remaining(holders.readers)];
    if (writer === null && readers === null) continue;
    const last = kept.at(-1);
    const alike = last !== undefined && last.end === start && last.writer === writer && last.readers === readers;
    if (alike) kept.splice(-1, 1, { ...last, end });
    else kept.push({ start, end, writer, readers });
  }
  return kept;
}

/** Remaining shared holders of a segment: the first one, when those that joined it are done. */
function remaining(readers: LockNode | null): LockNode | null {
  if (!isLive(readers)) return null;
  const { rest, blockers, waiters } = readers;
  return rest !== undefined && !rest.done && blockers === 1 && waiters === null ? remaining(rest) : readers;
}

function isLive(node: LockNode | null): node is LockNode {
  return node !== null && !node.done;
}

function isHeld({ writer, readers }: Segment): boolean {
  return isLive(writer) || isLive(readers);
}

/** Makes a node wait for an earlier one, once. */
function waitFor(node: LockNode, earlier: LockNode | null): void {
  if (!isLive(earlier) || earlier.seenBy === node) return;
  earlier.seenBy = node;
  earlier.waiters ??= [];
  earlier.waiters.push(node);
  node.blockers++;
}

/** Wakes those that waited for nothing else, in the order of their arrival. */
function finish(first: LockNode): void {
  const ended: LockNode[] = [first];
  for (const node of ended) {
    node.done = true;
    const { waiters } = node;
    node.waiters = null;
    for (const waiter of waiters ?? []) {
      waiter.blockers--;
      if (waiter.blockers > 0) continue;
      if (waiter.grant === undefined) ended.push(waiter);
      else waiter.grant();
    }
  }
}

/** A group that is done when all of its members are; with one or none there is no need for a group. */
function groupOf(members: readonly (LockNode | null)[], rest?: LockNode): LockNode | null {
  const live = [...new Set(members.filter(isLive))];
  if (live.length < 2) return live[0] ?? null;
  const parts = { done: false, blockers: 0, waiters: null, seenBy: null, shared: false };
  const group: LockNode = rest === undefined ? parts : { ...parts, rest };
  for (const member of live) waitFor(group, member);
  return group;
}

/** The shared holders of a segment and one more. Nothing that waits for a group may wait for those that come later. */
function joined(readers: LockNode | null, reader: LockNode): LockNode {
  if (!isLive(readers)) return reader;
  if (readers.shared || readers.waiters !== null) return groupOf([readers, reader], readers) ?? reader;
  waitFor(readers, reader);
  return readers;
}

/** The part of the first segment before the range. */
function before(start: number, [first]: readonly Segment[]): Segment[] {
  return first !== undefined && first.start < start ? [part(first, first.start, start)] : [];
}

/** The part of the last segment behind the range. */
function behind(end: number, met: readonly Segment[]): Segment[] {
  const last = met.at(-1);
  return last !== undefined && last.end > end ? [part(last, end, last.end)] : [];
}

function part(segment: Segment, start: number, end: number): Segment {
  if (segment.readers !== null) segment.readers.shared = true;
  return { ...segment, start, end };
}

/** The segments of a range with one more shared holder; many are joined. */
function withReader(entry: Entry, met: readonly Segment[]): Segment[] {
  const { start, end } = entry;
  const held = met.filter(isHeld);
  if (held.length > PIECES_MAX) {
    const writer = groupOf(held.map((segment) => segment.writer));
    return [{ start, end, writer, readers: groupOf([...held.map(({ readers }) => readers), entry]) }];
  }
  const pieces: Segment[] = [];
  let at = start;
  for (const segment of held) {
    const [from, to] = [Math.max(segment.start, start), Math.min(segment.end, end)];
    if (from > at) pieces.push({ start: at, end: from, writer: null, readers: entry });
    const { readers } = segment.start < from || segment.end > to ? part(segment, from, to) : segment;
    pieces.push({ start: from, end: to, writer: segment.writer, readers: joined(readers, entry) });
    at = to;
  }
  if (at < end) pieces.push({ start: at, end, writer: null, readers: entry });
  return pieces;
}
