/**
 * The state of a test run, as the reporter tells it (`suite-reporter.mjs`): how many tests have passed and failed, and
 * which files have made no progress for longer than any of their tests may take. A test that blocks its process cannot
 * be timed out from inside.
 */

/**
 * @typedef {{ passed: number, failed: number }} Counts
 * @typedef {(
 *   | { type: 'file', file: string, limitMs: number }
 *   | { type: 'test', file: string, name: string }
 *   | { type: 'result', file: string, state: string }
 *   | { type: 'file end', file: string }
 *   | { type: 'end', counts: Counts }
 * )} RunEvent
 */

export class RunWatch {
  /** @type {Counts | undefined} The reporter's own counts; set when the run came to its end. */
  final;
  #passed = 0;
  #failed = 0;
  /** @type {Map<string, { lastMs: number, limitMs: number, test: string }>} */
  #running = new Map();

  /**
   * @param {RunEvent} event
   * @param {number} nowMs
   */
  note(event, nowMs) {
    if (event.type === 'end') {
      this.final = event.counts;
      return;
    }
    if (event.type === 'file end') {
      this.#running.delete(event.file);
      return;
    }
    const file = this.#running.get(event.file) ?? { lastMs: nowMs, limitMs: Number.POSITIVE_INFINITY, test: '' };
    file.lastMs = nowMs;
    if (event.type === 'file') file.limitMs = event.limitMs;
    if (event.type === 'test') file.test = event.name;
    if (event.type === 'result' && event.state === 'passed') this.#passed++;
    if (event.type === 'result' && event.state === 'failed') this.#failed++;
    this.#running.set(event.file, file);
  }

  /**
   * Files without progress for longer than their limit, each once.
   * @param {number} nowMs
   */
  takeStuck(nowMs) {
    const stuck = [...this.#running].filter(([, { lastMs, limitMs }]) => nowMs - lastMs > limitMs);
    for (const [file] of stuck) this.#running.delete(file);
    return stuck.map(([file, { lastMs, test }]) => ({ file, test, idleMs: nowMs - lastMs }));
  }

  /**
   * The last line of the command. Whatever ended the run early must not look like a run without failures.
   * @param {boolean} trouble
   */
  summary(trouble) {
    const { passed, failed } = this.final ?? { passed: this.#passed, failed: this.#failed };
    return `${passed} passed, ${trouble ? Math.max(failed, 1) : failed} failed`;
  }
}
