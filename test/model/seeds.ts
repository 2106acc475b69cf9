/** One seed from end to end: make, run, and when it fails, shrink and report. */
import { Random } from '../../src/testing/random.ts';
import { runOperations } from './model.ts';
import { describeOperation, makeOperations, type Operation, simplerOperations } from './operations.ts';
import type { Failure, RunOptions } from './outcome.ts';
import { describeScenario, makeScenario, type Scenario, type Shape, simplerScenarios } from './scenario.ts';
import { shrinkList } from './shrink.ts';

/** A failing seed, as short as it could be made. */
export interface Report {
  readonly seed: number;
  readonly scenario: Scenario;
  readonly operations: readonly Operation[];
  readonly failure: Failure;
  /** Number of operations made from the seed. */
  readonly made: number;
}

/** Lists tried at most to make a failure short, and for how long. */
const TRIES = 600;
const SHRINK_MS = 30_000;
/** Timings tried for each list. */
const TIMINGS = 4;
/** While shrinking, runs that hang must not take all the time. */
const HANG_MS = 2000;

/** The seeds of VDKIT_MODEL_SEED, or the first `count` ones. */
export function seedsToRun(count: number): number[] {
  const wanted = process.env['VDKIT_MODEL_SEED'];
  if (wanted !== undefined && wanted !== '') return wanted.split(',').map(Number);
  return Array.from({ length: count }, (_, index) => index + 1);
}

/** Runs one seed on a shape. Null when all went well. */
export async function runSeed(seed: number, shape: Shape, how: RunOptions = {}): Promise<Report | null> {
  const scenario = makeScenario(seed, shape);
  const operations = makeOperations(new Random(seed + 0x5eed), {
    size: scenario.sizes.at(-1) ?? 0,
    unit: scenario.unit,
    ...(scenario.setUp === null ? {} : { most: scenario.setUp.most }),
    ...(scenario.setUp?.inner === true ? { inner: scenario.setUp.other } : {}),
    layers: how.layers ?? false,
  });
  const failure = await runOperations(scenario, operations, how);
  return failure === null ? null : shrinkFailure({ seed, scenario, operations, failure, made: operations.length }, how);
}

async function shrinkFailure(report: Report, { wrap, inspect }: RunOptions): Promise<Report> {
  let { scenario, failure } = report;
  const how: RunOptions = {
    hangMs: HANG_MS,
    ...(wrap === undefined ? {} : { wrap }),
    ...(inspect === undefined ? {} : { inspect }),
  };
  const deadline = Date.now() + SHRINK_MS;
  const fails = async (list: readonly Operation[]): Promise<boolean> => {
    if (Date.now() > deadline) return false;
    // With other operations the same chance means another timing: a race gets some more tries.
    for (let other = 0; other < (scenario.restless ? TIMINGS : 1); other++) {
      const timed = { ...scenario, timing: scenario.timing + other };
      const found = await runOperations(timed, list, how);
      if (found === null) continue;
      [scenario, failure] = [timed, found];
      return true;
    }
    return false;
  };
  // What comes after the failure cannot have caused it; the end compares everything once more.
  const needed = report.operations.slice(0, failure.step + 1);
  const start = (await fails(needed)) ? needed : report.operations;
  let operations = await shrinkList(start, { fails, simpler: simplerOperations, tries: TRIES });
  for (let simpler: Scenario | undefined = scenario; simpler !== undefined; ) {
    scenario = simpler;
    simpler = undefined;
    for (const other of simplerScenarios(scenario)) {
      if (Date.now() > deadline || (await runOperations(other, operations, how)) === null) continue;
      simpler = other;
      break;
    }
  }
  operations = await shrinkList(operations, { fails, simpler: simplerOperations, tries: TRIES / 4 });
  // With chance from the machine (local files) the last run may pass: then the failure that was seen stands.
  await fails(operations);
  return { ...report, scenario, operations, failure };
}

/** A report for people: the failure, the way to replay it, and the short list as lines of a program. */
export function describeReport(report: Report): string {
  const { seed, scenario, operations, failure, made } = report;
  const at = failure.step < operations.length ? `operation ${failure.step + 1}` : 'the end';
  const { format, title } = scenario.shape;
  return [
    `Seed ${seed} (${format.name}, ${title}) fails at ${at}: ${failure.message}`,
    `Replay: VDKIT_MODEL_SEED=${seed} npx vitest run ${scenario.shape.suite ?? 'test/model'}`,
    `${made} operations, shrunk to ${operations.length}:`,
    '',
    ...`${describeScenario(scenario)}\n${operations.map((one) => describeOperation(one)).join('\n')}`
      .split('\n')
      .map((line) => `  ${line}`),
    '',
  ].join('\n');
}
