/**
 * Child processes that try files, each with little heap. One that hangs, dies or takes too much is replaced, and its case
 * is tried again alone in a fresh one: what fails twice is a finding, what does not was the machine being busy, or the
 * garbage of the cases before.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { BOUNDS, type BaseImage, type CaseReport, type FromChild, type HostileCase, type ToChild } from './protocol.ts';

export interface PoolOptions {
  /** The bundled script. */
  readonly script: string;
  readonly children: number;
  readonly coverage?: boolean;
}

/** How a case ended for the parent. */
export interface CaseResult extends CaseReport {
  readonly work: HostileCase;
}

/** Beyond this a child is replaced before its garbage is taken for a leak. */
const TIRED_BYTES = 160 * 1024 * 1024;

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

  /** Tries all files; `onResult` hears of each as it ends. */
  async run(cases: Iterable<HostileCase>, onResult: (result: CaseResult) => void): Promise<void> {
    const list = cases[Symbol.iterator]();
    while (this.#workers.length < this.#options.children) this.#workers.push(this.#worker());
    await Promise.all(
      this.#workers.map(async (worker) => {
        for (let next = list.next(); next.done !== true; next = list.next()) {
          onResult({ ...(await this.#try(worker, next.value)), work: next.value });
        }
      }),
    );
  }

  /** Ends all children. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    this.#workers = [];
  }

  async #try(worker: Worker, work: HostileCase): Promise<CaseReport> {
    const first = await worker.run(work);
    if (first.findings.length === 0 && outOfBounds(first) === null) return first;
    await worker.stop();
    const second = await worker.run(work);
    const outside = outOfBounds(second);
    await worker.stop();
    return outside === null ? second : { ...second, findings: [...second.findings, outside] };
  }

  #worker(): Worker {
    return new Worker(this.#options, this.#bases);
  }
}

function outOfBounds({ milliseconds, peakBytes }: CaseReport): string | null {
  if (milliseconds > BOUNDS.milliseconds) return `took ${Math.round(milliseconds)} ms`;
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

  constructor(options: PoolOptions, bases: ReadonlyMap<string, BaseImage>) {
    this.#options = options;
    this.#bases = bases;
  }

  async run(work: HostileCase): Promise<CaseReport> {
    const child = await this.#ready();
    const base = this.#bases.get(work.base);
    if (base === undefined) throw new Error(`no base image ${work.base}`);
    if (!this.#known.has(base.name)) await post(child, { kind: 'base', base });
    this.#known.add(base.name);
    const report = this.#report(child);
    await post(child, { kind: 'case', work });
    const ended = await report;
    if (ended.peakBytes > TIRED_BYTES) await this.stop();
    return ended;
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  async #ready(): Promise<ChildProcess> {
    if (this.#child !== null) return this.#child;
    const child = fork(this.#options.script, {
      execArgv: [`--max-old-space-size=${BOUNDS.heapMegabytes}`, '--enable-source-maps'],
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

  /** The child's answer, or what is to be said of one that gives none. */
  #report(child: ChildProcess): Promise<CaseReport> {
    return new Promise((resolve) => {
      const end = (report: CaseReport): void => {
        clearTimeout(timer);
        child.off('message', onMessage);
        child.off('exit', onExit);
        resolve(report);
      };
      const fail = (text: string, milliseconds: number): void => {
        this.#child = null;
        end({ findings: [text], steps: [], milliseconds, peakBytes: 0, newBranches: [] });
      };
      const onMessage = (message: FromChild): void => {
        if (message.kind === 'report') end(message.report);
      };
      const onExit = (code: number | null, signal: string | null): void => {
        fail(`the process ended (${signal ?? `exit ${code}`}): ${this.#errors.trim().slice(-600)}`, 0);
      };
      const timer = setTimeout(() => {
        child.off('exit', onExit);
        child.kill('SIGKILL');
        fail(`no answer within ${2 * BOUNDS.milliseconds} ms`, 2 * BOUNDS.milliseconds);
      }, 2 * BOUNDS.milliseconds);
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
