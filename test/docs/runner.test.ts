/** The command that runs the tests counts and ends rightly, however a run ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ROOT } from '../../scripts/prepare.mjs';
import { runningProcesses } from '../../scripts/processes.mjs';
import { type RunEvent, RunWatch } from '../../scripts/run-watch.mjs';

describe('a run', () => {
  let folder = '';
  beforeEach(() => {
    // Inside the project, so that the tests find vitest.
    mkdirSync(join(ROOT, '.cache'), { recursive: true });
    folder = mkdtempSync(join(ROOT, '.cache', 'runner-'));
    mkdirSync(join(folder, 'test'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('prints a line a file and ends with the counts', async () => {
    writeTests(
      'slow',
      "it('takes its time', () => new Promise((done) => setTimeout(done, 400)));\nit('is quick', () => {});",
    );
    writeTests('fails', "it('fails', () => { throw new Error('on purpose'); });");
    const { output, status } = await startRun().ended;
    expect(lastLine(output)).toBe('2 passed, 1 failed');
    expect(status).toBe(1);
    expect(output).toContain('test/slow.test.ts (2 tests)');
    expect(output).not.toContain('takes its time');
    expect(output).toContain('on purpose');
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('counts what passed until %s, and ends every process that it started', async (signal, wanted) => {
    writeTests('busy', BUSY);
    writeTests('passes', "it('passes', () => {});");
    const { child, printed, ended } = startRun();
    await until(() => existsSync(join(folder, 'pids')) && printed.text.includes('test/passes.test.ts (1 test)'));
    const pids = readFileSync(join(folder, 'pids'), 'utf8');
    child.kill(signal);
    const { output, status } = await ended;
    expect(lastLine(output)).toMatch(/^[12] passed, 1 failed$/);
    expect(output).toContain(`interrupted by ${signal}`);
    expect(status).toBe(wanted);
    expect(alive(pids)).toEqual([]);
  });

  it('ends what outlives the tests', async () => {
    writeTests('leaves', BUSY.replace('await new Promise', 'void new Promise'));
    const { output, status } = await startRun().ended;
    expect(lastLine(output)).toBe('2 passed, 0 failed');
    expect(status).toBe(0);
    expect(alive(readFileSync(join(folder, 'pids'), 'utf8'))).toEqual([]);
  });

  it('ends a worker whose test blocks it, counts its file as failed, and goes on', async () => {
    writeTests('blocks', "it('is fine', () => {});\nit('blocks', () => { for (;;); });");
    writeTests('passes', "it('passes', () => {});");
    const { output, status } = await startRun(['--testTimeout=500', '--hookTimeout=500', '--maxWorkers=1']).ended;
    expect(output).toMatch(/blocks\.test\.ts made no progress for \d+ s/);
    expect(lastLine(output)).toMatch(/^[12] passed, [1-9]\d* failed$/);
    expect(output).toContain('test/passes.test.ts (1 test)');
    expect(status).toBe(1);
  });

  function writeTests(name: string, body: string): void {
    writeFileSync(join(folder, 'test', `${name}.test.ts`), `import { it } from 'vitest';\n${body}\n`);
  }

  /** The project's configuration and reporter, over the files of this test. */
  function startRun(args: readonly string[] = []): Run {
    const command = [
      join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      `--root=${folder}`,
      `--config=${join(ROOT, 'vitest.config.ts')}`,
      '--reporter=default',
      `--reporter=${join(ROOT, 'scripts', 'suite-reporter.mjs')}`,
      ...args,
    ];
    const options = {
      cwd: folder,
      folder: join(folder, 'run'),
      env: { VDKIT_TEST_GRACE_MS: '1500', NO_COLOR: '1' },
      pollMs: 200,
    };
    const supervise = pathToFileURL(join(ROOT, 'scripts', 'supervise.mjs')).href;
    const script = `import { supervise } from '${supervise}';
      process.exitCode = await supervise(${JSON.stringify(command)}, ${JSON.stringify(options)});`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    return follow(child);
  }
});

/** Starts processes that hang on no group or tree of the run, and waits for ever. */
const BUSY = `
import { spawn } from 'node:child_process';
import { renameSync, writeFileSync } from 'node:fs';
it('passes', () => {});
it('is busy', async () => {
  const script = "require('node:child_process').spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref();";
  const own = spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' });
  const between = spawn(process.execPath, ['-e', script + 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  writeFileSync('pids.new', [process.pid, own.pid, between.pid].join(' '));
  renameSync('pids.new', 'pids');
  await new Promise(() => {});
});`;

describe('progress', () => {
  const events: RunEvent[] = [
    { type: 'file', file: 'a', limitMs: 100 },
    { type: 'test', file: 'a', name: 'one' },
    { type: 'result', file: 'a', state: 'passed' },
    { type: 'file', file: 'b', limitMs: 100 },
    { type: 'result', file: 'b', state: 'failed' },
    { type: 'result', file: 'b', state: 'skipped' },
  ];

  it('is counted as it comes; the end has the last word', () => {
    const watch = new RunWatch();
    expect(watch.summary(true)).toBe('0 passed, 1 failed');
    for (const event of events) watch.note(event, 0);
    expect(watch.summary(true)).toBe('1 passed, 1 failed');
    watch.note({ type: 'end', counts: { passed: 7, failed: 0 } }, 0);
    expect(watch.summary(false)).toBe('7 passed, 0 failed');
    expect(watch.summary(true)).toBe('7 passed, 1 failed');
  });

  it('is missed in a file that makes none for longer than its limit, once', () => {
    const watch = new RunWatch();
    for (const event of events) watch.note(event, 0);
    watch.note({ type: 'test', file: 'b', name: 'two' }, 50);
    expect(watch.takeStuck(100)).toEqual([]);
    expect(watch.takeStuck(101)).toEqual([{ file: 'a', test: 'one', idleMs: 101 }]);
    expect(watch.takeStuck(150)).toEqual([]);
    watch.note({ type: 'file end', file: 'b' }, 150);
    expect(watch.takeStuck(1000)).toEqual([]);
  });
});

interface Run {
  child: ChildProcess;
  printed: { text: string };
  ended: Promise<{ output: string; status: number | null }>;
}

function follow(child: ChildProcess): Run {
  const printed = { text: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      printed.text += text;
    });
  }
  const ended = new Promise<{ output: string; status: number | null }>((resolve) => {
    child.once('close', (status) => resolve({ output: printed.text, status }));
  });
  return { child, printed, ended };
}

function lastLine(output: string): string | undefined {
  return output.trimEnd().split('\n').pop();
}

function alive(pids: string): number[] {
  const running = new Set(runningProcesses().map(({ pid }) => pid));
  return pids
    .split(' ')
    .map(Number)
    .filter((pid) => running.has(pid));
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
}
