/**
 * A child process that tries files. It is bundled into one script, so that one script's coverage is that of the whole
 * library, and gets its work through IPC.
 */
import { Session } from 'node:inspector';
import { examine } from './examine.ts';
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
  else if (message.kind === 'coverage') coverage = await Coverage.start();
  else send({ kind: 'report', report: await run(message.work) });
}

async function run(work: HostileCase): Promise<CaseReport> {
  const started = performance.now();
  const base = bases.get(work.base);
  if (base === undefined) throw new Error(`no base image ${work.base}`);
  const { findings, steps } = await examine(work, base);
  const milliseconds = performance.now() - started;
  // Rejections that nobody waits for are told when the microtasks are done.
  await new Promise((resolve) => setImmediate(resolve));
  findings.push(...stray);
  stray = [];
  const newBranches = coverage === null ? [] : await coverage.take();
  return { findings, steps, milliseconds, peakBytes: process.resourceUsage().maxRSS * 1024, newBranches };
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

  /** Names the blocks that ran for the first time since the last call. */
  async take(): Promise<string[]> {
    const { result } = (await this.#post('Profiler.takePreciseCoverage')) as CoverageAnswer;
    const found: string[] = [];
    for (const { url, functions } of result) {
      if (url !== import.meta.url) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count === 0) continue;
          const block = `${startOffset}-${endOffset}-${magnitude(count)}`;
          if (this.#seen.has(block)) continue;
          this.#seen.add(block);
          found.push(block);
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

/** How often, in powers of eight: a loop that runs much longer than ever before is worth keeping too. */
function magnitude(count: number): number {
  return Math.floor(Math.log2(count) / 3);
}

interface CoverageAnswer {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly {
      readonly ranges: readonly { readonly startOffset: number; readonly endOffset: number; readonly count: number }[];
    }[];
  }[];
}
