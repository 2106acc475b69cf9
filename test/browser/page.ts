/** Runs in a page, and in Node to tell the same cases' names: the conformance suite as it is in `test/conformance`. */
import { collectTests, type Suite, startTests, type Test, type VitestRunner } from '@vitest/runner';

/** One case and how it ended. */
export interface CaseResult {
  /** Titles from the outermost `describe` to the case. */
  readonly path: readonly string[];
  readonly state: 'pass' | 'fail' | 'skip';
  /** The failure; empty for none. */
  readonly message: string;
}

/** The files that are the suite. A page has no file system, so the bundler has to see each. */
const FILES: Record<string, () => Promise<unknown>> = {
  'caches.test.ts': () => import('../conformance/caches.test.ts'),
  'conformance.test.ts': () => import('../conformance/conformance.test.ts'),
  'filters.test.ts': () => import('../conformance/filters.test.ts'),
  'storage.test.ts': () => import('../conformance/storage.test.ts'),
};

/** Runs every case. */
export async function runCases(): Promise<CaseResult[]> {
  return (await startTests(Object.keys(FILES), makeRunner())).flatMap((file) => resultsOf(file, []));
}

/** The paths of all cases that are not skipped, without running any. */
export async function listCases(): Promise<(readonly string[])[]> {
  const files = await collectTests(Object.keys(FILES), makeRunner());
  return files
    .flatMap((file) => resultsOf(file, [], 'pass'))
    .flatMap(({ path, state }) => (state === 'skip' ? [] : [path]));
}

function makeRunner(): VitestRunner {
  return {
    importFile: (name) => FILES[name]?.(),
    config: {
      root: '/',
      setupFiles: [],
      name: undefined,
      passWithNoTests: false,
      testNamePattern: undefined,
      allowOnly: false,
      sequence: { seed: 0, hooks: 'stack', setupFiles: 'list' },
      chaiConfig: undefined,
      maxConcurrency: 1,
      testTimeout: 60_000,
      hookTimeout: 60_000,
      retry: 0,
      includeTaskLocation: false,
      tags: [],
      tagsFilter: undefined,
      strictTags: false,
    },
  };
}

/** `unrun`: what a case counts as that was only collected. */
function resultsOf(suite: Suite, above: readonly string[], unrun: CaseResult['state'] = 'fail'): CaseResult[] {
  const broken = suite.result?.errors?.map(({ message }) => message).join('\n');
  // A file that cannot be loaded, or a hook that fails, has no test case to fail.
  const own: CaseResult[] = broken ? [{ path: [...above, suite.name], state: 'fail', message: broken }] : [];
  return suite.tasks.reduce((all, task) => {
    const path = [...above, task.name];
    return all.concat(task.type === 'suite' ? resultsOf(task, path, unrun) : resultOf(task, path, unrun));
  }, own);
}

function resultOf(test: Test, path: readonly string[], unrun: CaseResult['state']): CaseResult {
  const message = test.result?.errors?.map((error) => error.stack ?? error.message).join('\n') ?? '';
  if (test.mode === 'skip' || test.mode === 'todo') return { path, state: 'skip', message };
  const state = test.result?.state;
  return { path, state: state === 'pass' || state === 'fail' ? state : unrun, message };
}
