/**
 * A vitest reporter that compares each suite with its time budget (`docs/testing.md`) and reports every step to the
 * process that watches the run (`supervise.mjs`). A suite over its budget, and a test that belongs to no suite, count as
 * failures.
 */
import { relative } from 'node:path';
import { ROOT } from './prepare.mjs';
import { readSuites, suiteOf } from './suites.mjs';

/** Added to the longest limit of a file's tests before its worker counts as stuck: a test that times out ends first. */
const GRACE_MS = Number(process.env.VDKIT_TEST_GRACE_MS ?? 60_000);

// biome-ignore lint/style/noDefaultExport: vitest loads a reporter by its default export
export default class SuiteReporter {
  #hookMs = 0;
  #testMs = 0;

  onInit({ config }) {
    this.#hookMs = config.hookTimeout;
    this.#testMs = config.testTimeout;
  }

  onTestModuleQueued({ moduleId }) {
    send({ type: 'file', file: moduleId, limitMs: this.#testMs + GRACE_MS });
  }

  onTestModuleCollected(module) {
    let limitMs = Math.max(this.#testMs, this.#hookMs);
    for (const { options } of module.children.allTests()) limitMs = Math.max(limitMs, options.timeout ?? 0);
    send({ type: 'file', file: module.moduleId, limitMs: limitMs + GRACE_MS });
  }

  onTestCaseReady({ module, fullName }) {
    send({ type: 'test', file: module.moduleId, name: fullName });
  }

  onTestCaseResult(test) {
    send({ type: 'result', file: test.module.moduleId, state: test.result().state });
  }

  onTestModuleEnd({ moduleId }) {
    send({ type: 'file end', file: moduleId });
  }

  onTestRunEnd(modules, unhandledErrors) {
    const suites = readSuites();
    const seconds = new Map(suites.map((suite) => [suite, 0]));
    const problems = [];
    for (const module of modules) {
      const path = relative(ROOT, module.moduleId).replaceAll('\\', '/');
      for (const [group, milliseconds] of timesByGroup(module)) {
        const suite = suiteOf(suites, path, group);
        if (suite === undefined) problems.push(`${path} belongs to no suite of docs/testing.md`);
        else seconds.set(suite, (seconds.get(suite) ?? 0) + milliseconds / 1000);
      }
    }
    problems.push(...printBudgets(seconds));
    for (const problem of problems) console.log(`error: ${problem}`);
    const counts = countTests(modules);
    const failed = counts.failed + unhandledErrors.length + problems.length;
    if (failed > 0) process.exitCode = 1;
    send({ type: 'end', counts: { passed: counts.passed, failed } });
  }
}

/** Without a watching process (`npx vitest run`) there is nothing to send to. */
function send(event) {
  if (process.connected) process.send?.(event);
}

/** Bigger numbers take longer by design, so a long run only prints its times. */
function printBudgets(seconds) {
  const enforced = !process.env.VDKIT_LONG;
  const problems = [];
  for (const [{ name, budgetSeconds }, used] of seconds) {
    if (used === 0) continue;
    console.log(`suite ${name}: ${used.toFixed(1)} s of ${budgetSeconds} s`);
    if (enforced && used > budgetSeconds) {
      problems.push(`suite ${name} took ${used.toFixed(1)} s; its budget is ${budgetSeconds} s`);
    }
  }
  return problems;
}

/** Milliseconds for each outermost `describe`; what lies outside of tests (imports, hooks) is the group ''. */
function timesByGroup(module) {
  const diagnostic = module.diagnostic();
  const times = new Map();
  let rest = diagnostic.duration + diagnostic.collectDuration + diagnostic.setupDuration;
  for (const child of module.children) {
    if (child.type !== 'suite') continue;
    let sum = 0;
    for (const test of child.children.allTests()) sum += test.diagnostic()?.duration ?? 0;
    // vitest puts a text that comes from a table (`$name`) into quotes.
    const group = child.name.replace(/^'(.*)'$/, '$1');
    times.set(group, (times.get(group) ?? 0) + sum);
    rest -= sum;
  }
  return times.set('', Math.max(rest, 0));
}

function countTests(modules) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const module of modules) {
    let any = false;
    for (const test of module.children.allTests()) {
      any = true;
      const { state } = test.result();
      if (state in counts) counts[state]++;
    }
    // A file that cannot be loaded, or whose hook failed, has failed without a failed test.
    if (module.state() === 'failed' && (!any || !module.children.allTests('failed').next().value)) counts.failed++;
  }
  return counts;
}
