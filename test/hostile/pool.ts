/**
 * Child processes that try files, each with little heap. One that hangs, dies or takes too much is replaced, and its case
 * is tried again alone in a fresh one: what fails twice is a finding, what does not was the machine being busy, or the
 * garbage of the cases before.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type BaseImage, BOUNDS, type CaseReport, type FromChild, type HostileCase, type ToChild } from './protocol.ts';

export interface PoolOptions {
  /** The bundled script. */
  readonly script: string;
  readonly children: number;
  readonly coverage?: boolean;
  /** Cases that a child gets at once. Default 1. */
  readonly batch?: number;
  /** Time that one case may compute. A child that does not answer in several times this time is ended. */
  readonly milliseconds?: number;
}

/** Outcome of a case for the parent process. */
export interface CaseResult extends CaseReport {
  readonly work: HostileCase;
}

/** A child that does not answer within this many times the limit of its cases is ended. */
const PATIENCE = 8;
/** A few children that share one list of work. */
export class Pool {
  readonly #options: PoolOptions;
  readonly #bases = new Map<string, BaseImage>();
  #workers: Worker[] = [];

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** Makes a base image known. */
  addBase(base: BaseImage): void {
    this.#bases.set(base.name, base);
  }

  /** Drops the base images, here and in the children: others may have their names. */
  async forget(): Promise<void> {
    this.#bases.clear();
    await Promise.all(this.#workers.map((worker) => worker.forget()));
  }

  /** Tries all files; `onResult` hears of each as it ends. */
  async run(cases: Iterable<HostileCase>, onResult: (result: CaseResult) => void): Promise<void> {
    const list = cases[Symbol.iterator]();
    while (this.#workers.length < this.#options.children) this.#workers.push(this.#worker());
    const { batch = 1 } = this.#options;
    await Promise.all(
      this.#workers.map(async (worker) => {
        for (let works = takeSome(list, batch); works.length > 0; works = takeSome(list, batch)) {
          for (const result of await this.#try(worker, works)) onResult(result);
        }
      }),
    );
  }

  /** Ends all children. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    this.#workers = [];
  }

  async #try(worker: Worker, works: readonly HostileCase[]): Promise<CaseResult[]> {
    const reports = await worker.run(works);
    const results: CaseResult[] = [];
    for (const [index, work] of works.entries()) {
      const first = reports[index];
      const isFine = first !== undefined && first.findings.length === 0 && outOfBounds(first, this.#options) === null;
      results.push({ ...(isFine ? first : await this.#again(worker, work)), work });
    }
    return results;
  }

  /** Alone in a fresh child. */
  async #again(worker: Worker, work: HostileCase): Promise<CaseReport> {
    await worker.stop();
    const [report] = await worker.run([work], { isTold: true });
    await worker.stop();
    if (report === undefined) return { ...NOTHING, findings: [worker.lastWords] };
    const outside = outOfBounds(report, this.#options);
    return outside === null ? report : { ...report, findings: [...report.findings, outside] };
  }

  #worker(): Worker {
    return new Worker(this.#options, this.#bases);
  }
}

const NOTHING: CaseReport = { findings: [], steps: [], milliseconds: 0, peakBytes: 0, isTired: false, newBranches: [] };

function takeSome(list: Iterator<HostileCase>, count: number): HostileCase[] {
  const taken: HostileCase[] = [];
  while (taken.length < count) {
    const next = list.next();
    if (next.done === true) break;
    taken.push(next.value);
  }
  return taken;
}

function outOfBounds({ milliseconds, peakBytes }: CaseReport, options: PoolOptions): string | null {
  if (milliseconds > (options.milliseconds ?? BOUNDS.milliseconds)) return `took ${Math.round(milliseconds)} ms`;
  if (peakBytes > BOUNDS.bytes) return `took ${Math.round(peakBytes / 2 ** 20)} MiB of memory`;
  return null;
}

/** One place for a child; the child itself comes and goes. */
class Worker {
  readonly #options: PoolOptions;
  readonly #bases: ReadonlyMap<string, BaseImage>;
  #child: ChildProcess | null = null;
  #known = new Set<string>();
  #errors = '';
  /** Reason why the last child did not answer. */
  lastWords = '';

  constructor(options: PoolOptions, bases: ReadonlyMap<string, BaseImage>) {
    this.#options = options;
    this.#bases = bases;
  }

  /** The reports; none when the child did not answer. `isTold`: stacks of errors name the sources, which takes time. */
  async run(works: readonly HostileCase[], { isTold = false } = {}): Promise<readonly CaseReport[]> {
    const child = await this.#ready(isTold);
    for (const { base: name } of works) {
      const base = this.#bases.get(name);
      if (base === undefined) throw new Error(`no base image ${name}`);
      if (!this.#known.has(name)) await post(child, { kind: 'base', base });
      this.#known.add(name);
    }
    const answer = this.#reports(child, works.length);
    await post(child, { kind: 'cases', works });
    const reports = await answer;
    if (reports.at(-1)?.isTired === true) await this.stop();
    return reports;
  }

  /** The child drops its base images. */
  async forget(): Promise<void> {
    this.#known = new Set();
    if (this.#child !== null) await post(this.#child, { kind: 'forget' });
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  async #ready(isTold: boolean): Promise<ChildProcess> {
    if (this.#child !== null) return this.#child;
    const child = fork(this.#options.script, {
      execArgv: [
        `--max-old-space-size=${BOUNDS.heapMegabytes}`,
        '--expose-gc',
        ...(isTold ? ['--enable-source-maps'] : []),
      ],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child = child;
    this.#known = new Set();
    this.#errors = '';
    child.stderr?.on('data', (bytes) => {
      this.#errors = `${this.#errors}${bytes}`.slice(-2000);
    });
    await once(child, 'message');
    if (this.#options.coverage === true) await post(child, { kind: 'coverage' });
    return child;
  }

  #reports(child: ChildProcess, count: number): Promise<readonly CaseReport[]> {
    const patienceMs = PATIENCE * count * (this.#options.milliseconds ?? BOUNDS.milliseconds);
    return new Promise((resolve) => {
      const end = (reports: readonly CaseReport[]): void => {
        clearTimeout(timer);
        child.off('message', onMessage);
        child.off('exit', onExit);
        resolve(reports);
      };
      const onMessage = (message: FromChild): void => {
        if (message.kind === 'reports') end(message.reports);
      };
      const onExit = (code: number | null, signal: string | null): void => {
        this.#child = null;
        this.lastWords = `the process ended (${signal ?? `exit ${code}`}): ${this.#errors.trim().slice(-600)}`;
        end([]);
      };
      const timer = setTimeout(() => {
        this.#child = null;
        this.lastWords = `no answer within ${patienceMs} ms`;
        child.kill('SIGKILL');
        end([]);
      }, patienceMs);
      child.on('message', onMessage);
      child.on('exit', onExit);
    });
  }
}

function post(child: ChildProcess, message: ToChild): Promise<void> {
  return new Promise((resolve) => {
    // A child that is gone is noticed by its exit.
    child.send(message, () => resolve());
  });
}
