/** Comparison of two devices; ranges without data in both are not read. */
import { alignDown } from '../binary/numbers.ts';
import { firstDifference, isZero } from '../codec/bytes.ts';
import type { BlockDevice, Extent } from '../disk/device.ts';
import type { CompareOptions, CompareResult } from '../disk/options.ts';
import { markHandled } from '../storage/all-done.ts';
import { isPromise } from '../storage/contract.ts';
import { Turns } from '../storage/turns.ts';
import { PARALLEL_RUNS, RUN_BYTES } from './copy-engine.ts';
import { DataCount } from './data-count.ts';

/** A stretch of one kind in each device. */
interface Stretch {
  readonly offset: number;
  readonly length: number;
  readonly inA: boolean;
  readonly inB: boolean;
  readonly data: boolean;
}

/** Compares two devices; see {@link compare}. */
export async function compareDevices(
  a: BlockDevice,
  b: BlockDevice,
  options: CompareOptions = {},
): Promise<CompareResult> {
  const sizes = [a.size, b.size] as const;
  const total = Math.max(a.size, b.size);
  if (options.strict === true && a.size !== b.size) {
    // Content up to the shorter end still decides where the first difference is.
    const common = Math.min(a.size, b.size);
    const first = (await differenceIn(a, b, { start: 0, end: common, total, options })) ?? common;
    return { same: false, firstDifference: first, sizes };
  }
  const first = await differenceWithin(a, b, total, options);
  return { same: first === null, firstDifference: first, sizes };
}

/**
 * First difference of two devices before `end`, or null. Past the end of the shorter one the other is compared with
 * zeroes.
 */
export async function differenceWithin(
  a: BlockDevice,
  b: BlockDevice,
  end: number,
  options: CompareOptions,
): Promise<number | null> {
  const [shorter, longer] = a.size < b.size ? [a, b] : [b, a];
  const total = Math.min(end, longer.size);
  const common = Math.min(end, shorter.size);
  const inBoth = { start: 0, end: common, total, options };
  const behind = { start: common, end: total, total, options };
  const data = countAhead(options, [
    { a, b, range: inBoth },
    { a: longer, b: null, range: behind },
  ]);
  try {
    const first = await differenceIn(a, b, { ...inBoth, data });
    return first ?? (await differenceIn(longer, null, { ...behind, data }));
  } finally {
    data?.stop();
  }
}

/** Counts the data to compare; null where nothing is shown, or what goes forwards only cannot be looked at ahead. */
function countAhead(
  { onProgress }: CompareOptions,
  parts: readonly { readonly a: BlockDevice; readonly b: BlockDevice | null; readonly range: Range }[],
): DataCount | null {
  const ahead = parts.every(({ a, b }) => a.can.random && b?.can.random !== false);
  if (onProgress === undefined || !ahead) return null;
  return new DataCount(
    (async function* () {
      for (const { a, b, range } of parts) yield* stretches(a, b, range);
    })(),
  );
}

/** Offset of the first non-zero byte from `start` on, or null. */
export function differenceFromZero(
  device: BlockDevice,
  start: number,
  options: CompareOptions,
): Promise<number | null> {
  return differenceIn(device, null, { start, end: device.size, total: device.size, options });
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly total: number;
  readonly options: CompareOptions;
  readonly data?: DataCount | null;
}

/** First difference in a range; without `b`, the first non-zero byte. */
async function differenceIn(a: BlockDevice, b: BlockDevice | null, range: Range): Promise<number | null> {
  const { options, data } = range;
  // What goes forwards only is read piece by piece.
  const inTurn = !a.can.random || b?.can.random === false;
  const parallel = inTurn ? 1 : (options.parallel ?? PARALLEL_RUNS);
  const pool = new BufferPairs();
  const ahead: { run: Stretch; answer: Promise<number | null> }[] = [];
  const next = async (): Promise<number | null> => {
    const entry = ahead.shift();
    const found = entry === undefined ? null : await entry.answer;
    if (entry !== undefined) {
      const done = entry.run.offset + entry.run.length;
      data?.add(entry.run);
      options.onProgress?.({ operation: 'compare', done, total: range.total, data: data?.progress });
    }
    return found;
  };
  try {
    for await (const run of stretches(a, b, range)) {
      ahead.push({ run, answer: markHandled(compareRun(a, b, run, pool)) });
      if (ahead.length < parallel) continue;
      const found = await next();
      if (found !== null) return found;
    }
    while (ahead.length > 0) {
      const found = await next();
      if (found !== null) return found;
    }
    return null;
  } finally {
    await Promise.allSettled(ahead.map((entry) => entry.answer));
  }
}

async function* stretches(a: BlockDevice, b: BlockDevice | null, range: Range): AsyncGenerator<Stretch> {
  const turns = new Turns(range.options.signal, 'The comparison');
  for (let at = range.start; at < range.end; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const inA = await stretchAt(a, at, range.end);
    const inB = b === null ? { end: range.end, data: false } : await stretchAt(b, at, range.end);
    let end = Math.min(inA.end, inB.end);
    if (inA.data || inB.data) end = Math.min(end, alignDown(at, RUN_BYTES) + RUN_BYTES);
    yield { offset: at, length: end - at, inA: inA.data, inB: inB.data, data: inA.data || inB.data };
    at = end;
  }
}

async function stretchAt(device: BlockDevice, at: number, end: number): Promise<{ end: number; data: boolean }> {
  const answer = device.extentAt(at, end, { damaged: true });
  const extent: Extent = isPromise(answer) ? await answer : answer;
  return { end: at + extent.length, data: extent.state === 'data' || extent.state === 'damaged' };
}

async function compareRun(
  a: BlockDevice,
  b: BlockDevice | null,
  run: Stretch,
  pool: BufferPairs,
): Promise<number | null> {
  if (!run.inA && !run.inB) return null;
  const pair = pool.take();
  const first = pair[0].subarray(0, run.length);
  const second = pair[1].subarray(0, run.length);
  try {
    const reads = await Promise.allSettled([
      run.inA ? a.read(run.offset, first) : null,
      run.inB && b !== null ? b.read(run.offset, second) : null,
    ]);
    for (const read of reads) if (read.status === 'rejected') throw read.reason;
    if (run.inA && run.inB) {
      const at = firstDifference(first, second);
      return at === -1 ? null : run.offset + at;
    }
    const data = run.inA ? first : second;
    return isZero(data) ? null : run.offset + data.findIndex((byte) => byte !== 0);
  } finally {
    pool.giveBack(pair);
  }
}

type Pair = readonly [Uint8Array, Uint8Array];

class BufferPairs {
  readonly #free: Pair[] = [];

  take(): Pair {
    return this.#free.pop() ?? [new Uint8Array(RUN_BYTES), new Uint8Array(RUN_BYTES)];
  }

  giveBack(pair: Pair): void {
    this.#free.push(pair);
  }
}
