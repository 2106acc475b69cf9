/**
 * The states in which a power cut can leave a medium, enumerated from a log of the operations on it.
 *
 * A cut falls between two entries of the log. Everything that a completed flush covers is present; every other started
 * operation may be present or not, each sector independently. With few pending pieces every combination is visited,
 * otherwise a fixed list of revealing ones and a seeded sample of the rest.
 *
 * The set of pending operations only grows between flushes, so the cuts that matter are those just before a flush ends
 * and those after a mark, where a promise becomes stronger. Others are sampled.
 */

import { checkArguments, NUMBER, OBJECT, optional } from '../arguments.ts';
import { largest } from '../binary/numbers.ts';
import type { StorageProvider } from '../storage/contract.ts';
import { LOG, RULES } from './kinds.ts';
import { type Fate, MediumState, type MetadataClassifier, sectorSpan } from './medium-state.ts';
import {
  describeFlush,
  describeOperation,
  type FlushOperation,
  type LoggedFile,
  type Mark,
  type MediumOperation,
  type OperationLog,
} from './operation-log.ts';
import { PairCoverage } from './pair-coverage.ts';
import { Random } from './random.ts';
import {
  metadataCombinations,
  type Pending,
  randomSelection,
  requiredSelections,
  type Selection,
  selectionKey,
  selectionOf,
  unitCount,
} from './selections.ts';
import { type NameRules, SnapshotProvider } from './snapshot-provider.ts';

/** Combinations of metadata sectors visited at a significant cut, whatever the budget. */
const METADATA_STATES = 64;

/** Options for the enumeration. */
export interface CrashStateOptions {
  /** Default 1. */
  readonly seed?: number | undefined;
  /** Target number of states. The required ones of each cut are visited even if they are more. Default 2000. */
  readonly maxStates?: number | undefined;
  /** Default: everything is metadata. */
  readonly isMetadata?: MetadataClassifier | undefined;
  /** Visit every combination if at most this many pieces are pending. Default 10. */
  readonly exhaustiveUnits?: number | undefined;
  /** Ignore the flush with this number. */
  readonly dropFlush?: number | undefined;
  /** Cut only in this range of positions, both ends included. */
  readonly cuts?: readonly [first: number, last: number] | undefined;
  /** Visits one in this many of the significant cuts, and the last one; the seed decides which. Default 1: all. */
  readonly everyCut?: number | undefined;
  /** Marks after which a cut gets the full list. Default: all. */
  readonly isMilestone?: ((mark: Mark) => boolean) | undefined;
}

/** Coverage of the visited states. */
export interface CrashCoverage {
  /** Visited cuts. */
  readonly cuts: number;
  readonly states: number;
  /** States with different metadata bytes. */
  readonly distinct: number;
  /** Ordered pairs (a, b) of metadata sectors, as written, for which a state with a and without b was visited. */
  readonly pairsSplit: number;
  /** Ordered pairs of metadata sectors that were pending together. */
  readonly pairsTotal: number;
}

/** One state of the medium. */
export interface CrashState {
  /** Position in the log: the entries before it have happened. */
  readonly cutAt: number;
  /** Equal for states with equal metadata bytes. */
  readonly key: string;
  /** The files, readable and writable. Belongs to the caller. */
  readonly provider: StorageProvider;
  /** The operations kept, lost and torn. */
  describe(): string;
}

/** The states of a log. Can be iterated once; read the coverage afterwards. */
export interface CrashStates extends Iterable<CrashState> {
  readonly coverage: CrashCoverage;
}

/** Enumerates the states that a power cut can leave. `rules` is the recorded provider. */
export function crashStates(log: OperationLog, rules: NameRules, options: CrashStateOptions = {}): CrashStates {
  checkArguments('crashStates', { log: [log, LOG], rules: [rules, RULES], options: [options, OBJECT] });
  return new Enumeration(log, rules, options);
}

/** The medium after a cut at which nothing was lost. */
export function completeState(log: OperationLog, rules: NameRules, cutAt: number): StorageProvider {
  checkArguments('completeState', { log: [log, LOG], rules: [rules, RULES], cutAt: [cutAt, NUMBER] });
  const state = MediumState.initial(log, () => false);
  state.apply(
    log.operations.filter((operation) => operation.startedAt < cutAt),
    () => ({ pieces: 'all', size: true }),
  );
  return snapshot(state, rules);
}

/** Position at which each operation became durable; `Infinity` when it never did. */
export function durablePositions(log: OperationLog, dropFlush?: number): Map<MediumOperation, number> {
  checkArguments('durablePositions', { log: [log, LOG], dropFlush: [dropFlush, optional(NUMBER)] });
  const targets = new Map<LoggedFile | string, FlushOperation[]>();
  for (const flush of log.flushes) {
    const target = flush.file ?? flush.directory;
    if (flush.number === dropFlush || target === null) continue;
    const list = targets.get(target) ?? [];
    list.push(flush);
    targets.set(target, list);
  }
  const positions = new Map<MediumOperation, number>();
  for (const operation of log.operations) {
    const needed = 'directories' in operation ? operation.directories : [operation.file];
    const covers = needed.map((target) => firstCover(targets.get(target) ?? [], operation));
    positions.set(operation, largest(covers, Number.NEGATIVE_INFINITY));
  }
  return positions;
}

/** End of the earliest-ending flush among those started after the operation ended. Sorted by start. */
function firstCover(flushes: readonly FlushOperation[], operation: MediumOperation): number {
  let earliest = Number.POSITIVE_INFINITY;
  let failed = Number.POSITIVE_INFINITY;
  for (let index = flushes.length - 1; index >= 0; index--) {
    const flush = flushes[index];
    if (flush === undefined) break;
    if (flush.failedAt > operation.startedAt) failed = Math.min(failed, flush.failedAt);
    if (flush.startedAt >= operation.endedAt) earliest = Math.min(earliest, flush.endedAt);
  }
  // What a failed flush did not write is forgotten; a later one that succeeds says nothing about it.
  return earliest < failed ? earliest : Number.POSITIVE_INFINITY;
}

/** The pending operations at a cut, and their fates. */
interface Chosen {
  readonly operations: readonly MediumOperation[];
  readonly pending: readonly Pending[];
  readonly selection: Selection;
}

class Enumeration implements CrashStates {
  readonly #log: OperationLog;
  readonly #rules: NameRules;
  readonly #options: CrashStateOptions;
  readonly #isMetadata: MetadataClassifier;
  readonly #durableAt: Map<MediumOperation, number>;
  readonly #pairs = new PairCoverage();
  readonly #keys = new Set<string>();
  #cuts = 0;
  #states = 0;

  constructor(log: OperationLog, rules: NameRules, options: CrashStateOptions) {
    this.#log = log;
    this.#rules = rules;
    this.#options = options;
    this.#isMetadata = options.isMetadata ?? ((): boolean => true);
    this.#durableAt = durablePositions(log, options.dropFlush);
  }

  get coverage(): CrashCoverage {
    return {
      cuts: this.#cuts,
      states: this.#states,
      distinct: this.#keys.size,
      pairsSplit: this.#pairs.split,
      pairsTotal: this.#pairs.total,
    };
  }

  *[Symbol.iterator](): Iterator<CrashState> {
    const random = new Random(this.#options.seed ?? 1);
    const cuts = this.#chooseCuts(random);
    let budget = this.#options.maxStates ?? 2000;
    let weight = cuts.reduce((sum, cut) => sum + cut.weight, 0);
    const base = new DurableBase(this.#log, this.#durableAt, this.#isMetadata);
    for (const cut of cuts) {
      base.advance(cut.at);
      const share = Math.max(Math.round((budget * cut.weight) / weight), 1);
      const before = this.#states;
      this.#cuts++;
      yield* this.#statesAt(cut, base.state, share, random);
      budget = Math.max(budget - (this.#states - before), 0);
      weight -= cut.weight;
    }
  }

  /** Positions to cut at, ascending; significant ones get most of the budget. */
  #chooseCuts(random: Random): { at: number; weight: number }[] {
    const [first, last] = this.#options.cuts ?? [0, this.#log.position];
    const telling = new Set<number>([last]);
    for (const flush of this.#log.flushes) if (Number.isFinite(flush.endedAt)) telling.add(flush.endedAt);
    for (const entry of this.#log.entries) {
      if (entry.kind === 'mark' && (this.#options.isMilestone?.(entry) ?? true)) telling.add(entry.position + 1);
    }
    // By chance: what a disk does repeats itself, and one in three could be the same step each time.
    const drawn = new Random(this.#options.seed ?? 1);
    const every = this.#options.everyCut ?? 1;
    const cuts = [...telling]
      .sort((one, other) => one - other)

      .filter((at) => at >= first && at <= last && (drawn.below(every) === 0 || at === last))
      .map((at) => ({ at, weight: 8 }));
    const extra = Math.min(last - first, Math.ceil((this.#options.maxStates ?? 2000) / 20));
    const taken = new Set(cuts.map((cut) => cut.at));
    for (let n = 0; n < extra; n++) {
      const at = first + random.below(last - first + 1);
      if (taken.has(at)) continue;
      taken.add(at);
      cuts.push({ at, weight: 1 });
    }
    return cuts.sort((one, other) => one.at - other.at);
  }

  *#statesAt(cut: { at: number; weight: number }, base: MediumState, share: number, random: Random) {
    const operations = this.#log.operations.filter(
      (operation) => operation.startedAt < cut.at && (this.#durableAt.get(operation) ?? 0) >= cut.at,
    );
    const pending = operations.map((operation) => this.#pendingOf(operation, base));
    // Where only some cuts are visited, the others owe no pairs.
    const owesPairs = cut.weight > 1 || (this.#options.everyCut ?? 1) === 1;
    this.#pairs.enter(owesPairs ? operations : [], pending);
    const seen = new Set<string>();
    for (const selection of this.#selections(pending, cut.weight > 1, share, random, seen)) {
      const key = selectionKey(pending, selection);
      if (seen.has(key)) continue;
      seen.add(key);
      yield this.#build(cut.at, base, { operations, pending, selection });
    }
  }

  *#selections(
    pending: readonly Pending[],
    required: boolean,
    share: number,
    random: Random,
    seen: ReadonlySet<string>,
  ): Generator<Selection> {
    if (required) yield* requiredSelections(pending, random);
    const units = unitCount(pending);
    if (units <= (this.#options.exhaustiveUnits ?? 10) && 2 ** units <= share) {
      for (let code = 0; code < 2 ** units; code++) yield selectionOf(pending, code);
      return;
    }
    if (required) yield* metadataCombinations(pending, Math.max(share, METADATA_STATES), random);
    // Draws that repeat an earlier one yield no state, so their number is bounded too.
    for (let draws = 0; seen.size < share && draws < 2 * share; draws++) yield randomSelection(pending, random);
  }

  #pendingOf(operation: MediumOperation, base: MediumState): Pending {
    const [first, end] = sectorSpan(operation);
    if (operation.kind === 'write' || operation.kind === 'zero') {
      const { file, offset, length } = operation;
      return {
        sectors: end - first,
        splitsSize: operation.kind === 'write' && offset + length > (base.files.get(file)?.size ?? 0),
        metadata: this.#isMetadata(file.name, offset, length),
      };
    }
    return { sectors: 0, splitsSize: operation.kind === 'rename' && !operation.replace, metadata: false };
  }

  #build(cutAt: number, base: MediumState, chosen: Chosen): CrashState {
    const { operations, pending, selection } = chosen;
    const state = base.fork();
    state.apply(operations, (index) => selection[index] ?? { pieces: 'none', size: false });
    this.#pairs.visit(operations, pending, selection);
    this.#keys.add(state.key);
    this.#states++;
    const rules = this.#rules;
    let provider: StorageProvider | null = null;
    return {
      cutAt,
      key: state.key,
      get provider() {
        provider ??= snapshot(state, rules);
        return provider;
      },
      describe: () => describeState(this.#log, cutAt, operations, selection),
    };
  }
}

/** The durable state, moved forward from cut to cut. */
class DurableBase {
  readonly state: MediumState;
  readonly #queue: readonly { readonly operation: MediumOperation; readonly at: number }[];
  #next = 0;

  constructor(log: OperationLog, durableAt: ReadonlyMap<MediumOperation, number>, isMetadata: MetadataClassifier) {
    this.state = MediumState.initial(log, isMetadata);
    this.#queue = log.operations
      .map((operation) => ({ operation, at: durableAt.get(operation) ?? Number.POSITIVE_INFINITY }))
      .filter((item) => Number.isFinite(item.at))
      .sort((one, other) => one.at - other.at || one.operation.startedAt - other.operation.startedAt);
  }

  advance(cutAt: number): void {
    const batch: MediumOperation[] = [];
    for (; this.#next < this.#queue.length; this.#next++) {
      const item = this.#queue[this.#next];
      if (item === undefined || item.at >= cutAt) break;
      batch.push(item.operation);
    }
    this.state.apply(batch, () => ({ pieces: 'all', size: true }));
  }
}

function snapshot(state: MediumState, rules: NameRules): SnapshotProvider {
  const provider = new SnapshotProvider(rules);
  for (const [name, file] of state.names) {
    const content = state.files.get(file);
    if (content !== undefined) provider.add(name, content);
  }
  return provider;
}

function describeState(
  log: OperationLog,
  cutAt: number,
  operations: readonly MediumOperation[],
  selection: Selection,
): string {
  const lines = [`cut at ${cutAt}${running(log, cutAt)}`];
  operations.forEach((operation, index) => {
    const fate = selection[index];
    if (fate !== undefined) lines.push(`${fateWord(fate, operation)}: ${describeOperation(operation)}`);
  });
  return lines.join('; ');
}

function running(log: OperationLog, cutAt: number): string {
  const flushes = log.flushes.filter((flush) => flush.startedAt < cutAt && flush.endedAt >= cutAt);
  const marks = log.entries.slice(0, cutAt).filter((entry) => entry.kind === 'mark');
  const last = marks.at(-1);
  const during = flushes.map((flush) => `, during ${describeFlush(flush)}`).join('');
  return `${last?.kind === 'mark' ? `, after "${last.label}"` : ''}${during}`;
}

function fateWord(fate: Fate, operation: MediumOperation): string {
  if (operation.kind === 'rename') return !fate.size ? 'lost' : fate.pieces === 'all' ? 'kept' : 'both names kept';
  if (operation.kind === 'resize' || 'directories' in operation) return fate.size ? 'kept' : 'lost';
  if (fate.pieces === 'all') return fate.size ? 'kept' : 'kept without its size';
  if (fate.pieces === 'none') return fate.size ? 'only its size kept' : 'lost';
  const kept = [...fate.pieces.entries()].filter(([, flag]) => flag === 1).map(([index]) => index);
  return `torn (sectors ${kept.join(', ')} of ${fate.pieces.length} kept${fate.size ? '' : ', size lost'})`;
}
