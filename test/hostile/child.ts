/**
 * A child process that tries files. It is bundled into one script, so that one script's coverage is that of the whole
 * library, and gets its work through IPC.
 */
import { Session } from 'node:inspector';
import { examine } from './examine.ts';
import { peakBytes, rest } from './peak-memory.mjs';
import type { BaseImage, CaseReport, FromChild, HostileCase, ToChild } from './protocol.ts';

const bases = new Map<string, BaseImage>();
let stray: string[] = [];
let coverage: Coverage | null = null;
let queue: Promise<void> = Promise.resolve();

for (const event of ['unhandledRejection', 'uncaughtException'] as const) {
  process.on(event, (error: unknown) => {
    stray.push(`${event}: ${error instanceof Error ? error.stack : String(error)}`);
  });
}
process.on('message', (message: ToChild) => {
  queue = queue.then(() => receive(message));
});
process.on('disconnect', () => process.exit());
send({ kind: 'ready' });

async function receive(message: ToChild): Promise<void> {
  if (message.kind === 'base') bases.set(message.base.name, message.base);
  else if (message.kind === 'forget') bases.clear();
  else if (message.kind === 'coverage') coverage = await Coverage.start();
  else send({ kind: 'reports', reports: await runAll(message.works) });
}

/** When the works together reached something new, each is run again to see which of them it was. */
async function runAll(works: readonly HostileCase[]): Promise<CaseReport[]> {
  const reports: CaseReport[] = [];
  for (const work of works) reports.push(await run(work));
  if (coverage === null || !(await coverage.hasNew())) return reports;
  const again: CaseReport[] = [];
  for (const [index, work] of works.entries()) {
    await run(work);
    const report = reports[index];
    if (report !== undefined) again.push({ ...report, newBranches: await coverage.take() });
  }
  return again;
}

/** Beyond this the garbage of some cases would soon be taken for the need of the next. */
const TIRED_BYTES = 160 * 1024 * 1024;
/** Milliseconds that the loop takes on the machine that the bounds were chosen on. */
const USUAL_LOOP_MS = 2;

/** How much slower this machine is than that one, at least 1: the same file may cost more here. */
function slowness(): number {
  const times = Array.from({ length: 9 }, () => {
    const started = performance.now();
    let sum = 0;
    for (let n = 0; n < 2_000_000; n++) sum = (sum + Math.imul(n, sum | 1)) | 0;
    return sum === 0.5 ? 0 : performance.now() - started;
  });
  return Math.max(Math.min(...times) / USUAL_LOOP_MS, 1);
}

const SLOWNESS = slowness();

async function run(work: HostileCase): Promise<CaseReport> {
  const [started, cpu] = [performance.now(), process.cpuUsage()];
  const base = bases.get(work.base);
  if (base === undefined) throw new Error(`no base image ${work.base}`);
  const { findings, steps } = await examine(work, base);
  // On a busy machine a child waits; what counts is the time that it computes.
  const { user, system } = process.cpuUsage(cpu);
  const milliseconds = Math.min(performance.now() - started, (user + system) / 1000) / SLOWNESS;
  // Unhandled rejections are reported when the microtasks are done.
  await new Promise((resolve) => setImmediate(resolve));
  findings.push(...stray);
  stray = [];
  const bytes = peakBytes();
  const isTired = bytes > TIRED_BYTES && rest() > TIRED_BYTES;
  return { findings, steps, milliseconds, peakBytes: bytes, isTired, newBranches: [] };
}

function send(message: FromChild): void {
  process.send?.(message);
}

/** Blocks of this script that ran, by V8's own counters. */
class Coverage {
  readonly #session: Session;
  readonly #seen = new Set<string>();

  private constructor(session: Session) {
    this.#session = session;
  }

  static async start(): Promise<Coverage> {
    const session = new Session();
    session.connect();
    const made = new Coverage(session);
    await made.#post('Profiler.enable');
    await made.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    return made;
  }

  /** True when blocks ran since the last call that were not taken yet. */
  async hasNew(): Promise<boolean> {
    return (await this.#ran()).some((block) => !this.#seen.has(block));
  }

  /** Names the blocks that ran since the last call and were not taken yet. */
  async take(): Promise<string[]> {
    const found = (await this.#ran()).filter((block) => !this.#seen.has(block));
    for (const block of found) this.#seen.add(block);
    return found;
  }

  async #ran(): Promise<string[]> {
    const { result } = (await this.#post('Profiler.takePreciseCoverage')) as CoverageAnswer;
    const found: string[] = [];
    for (const { url, functions } of result) {
      if (url !== import.meta.url) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count > 0) found.push(`${startOffset}-${endOffset}`);
        }
      }
    }
    return found;
  }

  #post(method: string, parameters: object = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#session.post(method, parameters, (error, answer) => (error === null ? resolve(answer) : reject(error)));
    });
  }
}

interface CoverageAnswer {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly {
      readonly ranges: readonly { readonly startOffset: number; readonly endOffset: number; readonly count: number }[];
    }[];
  }[];
}
