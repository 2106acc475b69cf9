/**
 * The driver: records the operations of a format on its storages under a workload, cuts the power at every significant
 * moment, opens the remains, and compares them with the promise.
 *
 * The promise: after `build` the image exists; every sector reads as the model allows; the image opens for writing
 * without help; and after another write, flush and close it still reads correctly. A suite can add rules about the
 * content of the files.
 */
import { checkArguments, OBJECT } from '../arguments.ts';
import { SECTOR, smallest } from '../binary/numbers.ts';
import { firstDifference } from '../codec/bytes.ts';
import { type ErrorKind, isImageError } from '../errors.ts';
import type { StorageProvider } from '../storage/contract.ts';
import {
  type CrashCoverage,
  type CrashState,
  type CrashStateOptions,
  completeState,
  crashStates,
  durablePositions,
} from './crash-states.ts';
import { RUN, SUITE } from './kinds.ts';
import { describeFlush, type FlushOperation, type OperationLog } from './operation-log.ts';
import {
  type AllowedContents,
  describeSector,
  SectorModel as Model,
  type SectorModel,
  SectorReader,
  writeBytes,
} from './oracle.ts';
import { Random } from './random.ts';
import { RecordingProvider } from './recording-storage.ts';
import { type CrashDevice, CrashSession } from './session.ts';

/** Marks that strengthen the promise. */
const MILESTONES = new Set(['built', 'flushed', 'resized', 'compacted', 'changed', 'closed']);
/** First number of the writes made after the cut. */
const AFTERWARDS = 0x4000_0000;
/** Fills buffers before a read: a byte that no sector contains. */
const UNREAD = 0xa5;

/** A crash test of a format. */
export interface CrashSuite {
  /** An empty provider; everything done through it is recorded. */
  readonly provider: StorageProvider;
  /** Name of the image. */
  readonly image: string;
  /** Guest bytes, a multiple of 512. */
  readonly size: number;
  /** Creates existing files: durable, and never cut. Parents, for example. */
  prepare?(provider: StorageProvider): Promise<void>;
  /** Sectors with `initialBytes` in a new image, e.g. from its parent. Default: none, all are zero. */
  hasInitial?(sector: number): boolean;
  /** Creates the image. A cut before it ends may leave none, but never a partial one. */
  build(provider: StorageProvider): Promise<void>;
  /** Each is run between an `open` and a `close`. */
  readonly sessions: readonly ((session: CrashSession) => Promise<void>)[];
  /** Opens for writing. */
  open(provider: StorageProvider): Promise<CrashDevice>;
  /**
   * Additional work of the session after the cut, beside writing. Must not change the disk: compaction, for example.
   */
  afterwards?(disk: CrashDevice): Promise<void>;
  /** The medium fails on purpose: a session may end with an error of this kind, and its earlier promises hold. */
  readonly expectedFailure?: ErrorKind;
  /** Additional rules about the content of the files: one sentence for each violation. */
  check?(context: CrashCheck): Promise<readonly string[]>;
  /** Seed of all random choices. Default 1. */
  readonly seed?: number;
}

/** Context of a suite's own rules. */
export interface CrashCheck {
  /**
   * `found`: as the cut left it. `rewritten`: after another session that was closed properly.
   */
  readonly stage: 'found' | 'rewritten';
  readonly provider: StorageProvider;
  readonly image: string;
  /** Number of the session that was cut; null before the first. */
  readonly session: number | null;
  /** The disk reads differently than at the start of that session. */
  readonly contentChanged: boolean;
  /** The files as they were when that session began. */
  atOpen(): StorageProvider;
}

/** A recorded run; it can be checked any number of times. */
export interface CrashRun {
  readonly suite: CrashSuite;
  readonly log: OperationLog;
  readonly model: SectorModel;
  /** Position at which the image was complete. */
  readonly builtAt: number;
  /** Positions just before each session opened the image. */
  readonly openedAt: readonly number[];
}

/** Options for checking a run. */
export interface CrashCheckOptions extends CrashStateOptions {
  /** Every n-th state is written to afterwards. Default 4. */
  readonly rewriteEvery?: number | undefined;
  /** Stop after this number of violations: a broken format fails in thousands of states. Default 50. */
  readonly stopAfter?: number | undefined;
}

/** A violation of the promise in one state. */
export interface CrashViolation {
  readonly cutAt: number;
  /** The violated rule. */
  readonly problem: string;
  /** The operations kept, lost and torn. */
  readonly state: string;
}

/** Result of a crash test. */
export interface CrashReport extends CrashCoverage {
  /** States that were written to afterwards. */
  readonly rewritten: number;
  readonly violations: readonly CrashViolation[];
}

/** A flush that could be left out without any violation. */
export interface UnmissedFlush {
  readonly flush: FlushOperation;
  readonly description: string;
  /** True when nothing was waiting for it, so that leaving it out changes nothing. */
  readonly idle: boolean;
}

/** Records a suite, cuts it, and reports the violations. */
export async function runCrashSuite(suite: CrashSuite, options: CrashCheckOptions = {}): Promise<CrashReport> {
  checkArguments('runCrashSuite', { suite: [suite, SUITE], options: [options, OBJECT] });
  return checkCrashRun(await recordCrashRun(suite), options);
}

/** Builds the image and runs the sessions, recording everything. */
export async function recordCrashRun(suite: CrashSuite): Promise<CrashRun> {
  checkArguments('recordCrashRun', { suite: [suite, SUITE] });
  await suite.prepare?.(suite.provider);
  const random = new Random(suite.seed ?? 1);
  const turns = { read: 3, write: 12, flush: 40, names: 3 } as const;
  const provider = new RecordingProvider(suite.provider, { turns: (kind) => random.below(turns[kind]) });
  const { log } = provider;
  const model = new Model(suite.size / SECTOR, suite.hasInitial?.bind(suite));
  await suite.build(provider);
  const builtAt = log.mark('built');
  const openedAt: number[] = [];
  for (const [number, workload] of suite.sessions.entries()) {
    openedAt.push(log.mark('open'));
    const disk = await suite.open(provider);
    const session = new CrashSession({ disk, model, log, seed: (suite.seed ?? 1) * 1000 + number });
    await expectingFailure(suite, () => workload(session));
    const flush = model.beginFlush(log.mark('close begins'));
    await expectingFailure(suite, async () => {
      await disk.close();
      model.endFlush(flush, log.mark('closed'));
    });
  }
  return { suite, log, model, builtAt, openedAt };
}

async function expectingFailure(suite: CrashSuite, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (suite.expectedFailure === undefined || !isImageError(error) || error.kind !== suite.expectedFailure)
      throw error;
  }
}

/** Visits the states of a run and compares each with the promise. */
export async function checkCrashRun(run: CrashRun, options: CrashCheckOptions = {}): Promise<CrashReport> {
  checkArguments('checkCrashRun', { run: [run, RUN], options: [options, OBJECT] });
  const states = crashStates(run.log, run.suite.provider, {
    isMilestone: (mark) => MILESTONES.has(mark.label),
    ...options,
  });
  const checker = new StateChecker(run);
  const violations: CrashViolation[] = run.log.hazards.map((problem) => ({ cutAt: 0, problem, state: 'no cut' }));
  let visited = 0;
  let rewritten = 0;
  for (const state of states) {
    const rewrite = visited++ % (options.rewriteEvery ?? 4) === 0;
    if (rewrite) rewritten++;
    for (const problem of await checker.check(state, rewrite)) {
      violations.push({ cutAt: state.cutAt, problem, state: state.describe() });
    }
    if (violations.length >= (options.stopAfter ?? 50)) break;
  }
  return { ...states.coverage, rewritten, violations };
}

/**
 * Leaves out each flush in turn and lists those without consequences: either the code does not need them, or the suite
 * does not detect why it does.
 */
export async function unmissedFlushes(run: CrashRun, options: CrashCheckOptions = {}): Promise<UnmissedFlush[]> {
  checkArguments('unmissedFlushes', { run: [run, RUN], options: [options, OBJECT] });
  const unmissed: UnmissedFlush[] = [];
  const usual = durablePositions(run.log);
  for (const flush of run.log.flushes) {
    const without = durablePositions(run.log, flush.number);
    const idle = [...usual].every(([operation, position]) => without.get(operation) === position);
    if (!idle && (await isMissed(run, flush, options))) continue;
    unmissed.push({ flush, description: describeFlush(flush), idle });
  }
  return unmissed;
}

/** A flush can be missed only between its end and that of the next flush of the same target. */
async function isMissed(run: CrashRun, flush: FlushOperation, options: CrashCheckOptions): Promise<boolean> {
  const next = run.log.flushes.filter(
    (other) => other.startedAt > flush.startedAt && other.file === flush.file && other.directory === flush.directory,
  );
  const last = smallest(
    next.map((other) => other.endedAt),
    run.log.position,
  );
  const report = await checkCrashRun(run, {
    maxStates: 300,
    ...options,
    dropFlush: flush.number,
    cuts: [flush.endedAt, last],
    stopAfter: 1,
  });
  return report.violations.length > 0;
}

/** Compares single states with the promise; caches data that belongs to a cut. */
class StateChecker {
  readonly #run: CrashRun;
  readonly #random = new Random(7);
  /** Room for the disk as it was found, and as it is after a further session: thousands of states take turns in it. */
  readonly #rooms: [Uint8Array, Uint8Array] = [new Uint8Array(0), new Uint8Array(0)];
  readonly #reader = new SectorReader();
  #allowed: { readonly cutAt: number; readonly contents: AllowedContents } | null = null;
  #session: { readonly openedAt: number; readonly contents: AllowedContents; files: StorageProvider | null } | null =
    null;

  constructor(run: CrashRun) {
    this.#run = run;
  }

  async check(state: CrashState, rewrite: boolean): Promise<string[]> {
    const { suite, builtAt } = this.#run;
    if ((await state.provider.lookUp(suite.image)) === null) {
      return state.cutAt > builtAt ? ['The image is gone, or has no name'] : [];
    }
    const problems: string[] = [];
    try {
      await this.#checkImage(state, rewrite, problems);
    } catch (error) {
      problems.push(`The image cannot be used: ${error instanceof Error ? error.message : String(error)}`);
    }
    return problems;
  }

  async #checkImage(state: CrashState, rewrite: boolean, problems: string[]): Promise<void> {
    const disk = await this.#run.suite.open(state.provider);
    let closed = false;
    try {
      const bytes = await this.#readAll(disk, 0);
      for (const { sector, found, allowed } of this.#contents(state.cutAt).verify(bytes, 3, this.#reader)) {
        problems.push(`Sector ${sector} holds ${found}; allowed: ${allowed}`);
      }
      for (const problem of await this.#ownRules('found', state, bytes)) problems.push(problem);
      if (!rewrite || problems.length > 0) return;
      await this.#rewrite(disk, bytes);
      closed = true;
      await disk.close();
      for (const problem of await this.#compareAgain(state, bytes)) problems.push(problem);
    } finally {
      if (!closed) await disk.close();
    }
  }

  async #readAll(disk: CrashDevice, room: 0 | 1): Promise<Uint8Array> {
    if (this.#rooms[room].length < disk.size) this.#rooms[room] = new Uint8Array(disk.size);
    // Neither zeroes nor what the last state held: a read has to fill all of it.
    const bytes = this.#rooms[room].subarray(0, disk.size).fill(UNREAD);
    await disk.read(0, bytes);
    return bytes;
  }

  /** Writes a little, some of it into unused space, and records it in `bytes`. */
  async #rewrite(disk: CrashDevice, bytes: Uint8Array): Promise<void> {
    const sectors = bytes.length / SECTOR;
    for (let n = 0; n < 4; n++) {
      const sector = this.#random.below(sectors);
      const count = Math.min(1 + this.#random.below(3), sectors - sector);
      const content = writeBytes({ number: AFTERWARDS + n, sector, count });
      await disk.write(sector * SECTOR, content);
      bytes.set(content, sector * SECTOR);
    }
    await disk.flush();
    await this.#run.suite.afterwards?.(disk);
  }

  async #compareAgain(state: CrashState, expected: Uint8Array): Promise<string[]> {
    const disk = await this.#run.suite.open(state.provider);
    try {
      const bytes = await this.#readAll(disk, 1);
      const differs = bytes.length === expected.length ? firstDifference(bytes, expected) : 0;
      const problems = await this.#ownRules('rewritten', state, bytes);
      if (differs === -1) return [...problems];
      const sector = Math.floor(differs / SECTOR);
      const [found, wanted] = [bytes, expected].map((all) =>
        describeSector(all.slice(sector * SECTOR, (sector + 1) * SECTOR)),
      );
      return [`After a further session sector ${sector} holds ${found}; expected: ${wanted}`, ...problems];
    } finally {
      await disk.close();
    }
  }

  async #ownRules(stage: CrashCheck['stage'], state: CrashState, bytes: Uint8Array): Promise<readonly string[]> {
    const { suite, openedAt } = this.#run;
    if (suite.check === undefined) return [];
    const session = openedAt.filter((position) => position < state.cutAt).length - 1;
    const start = this.#sessionAt(openedAt[session] ?? 0);
    const reader = this.#reader;
    return suite.check({
      stage,
      provider: state.provider,
      image: suite.image,
      session: session < 0 ? null : session,
      get contentChanged() {
        return start.contents.verify(bytes, 1, reader).length > 0;
      },
      atOpen: () => {
        start.files ??= completeState(this.#run.log, suite.provider, start.openedAt);
        return start.files;
      },
    });
  }

  #contents(cutAt: number): AllowedContents {
    if (this.#allowed?.cutAt !== cutAt) this.#allowed = { cutAt, contents: this.#run.model.at(cutAt) };
    return this.#allowed.contents;
  }

  #sessionAt(openedAt: number) {
    if (this.#session?.openedAt !== openedAt) {
      this.#session = { openedAt, contents: this.#run.model.at(openedAt), files: null };
    }
    return this.#session;
  }
}
