/**
 * Runs the tests in a separate process, watches their progress, and ends with one line `N passed, M failed`, however
 * they end: by themselves, by a signal, or because their process died. Nothing that they started outlives them.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { endProcess, endRun, RUN_VARIABLE } from './processes.mjs';
import { RunWatch } from './run-watch.mjs';

/** A worker writes its file's name to this folder, in a file named after its process (`test-worker.mjs`). */
export const WORKERS_VARIABLE = 'VDKIT_TEST_WORKERS';

const SIGNALS = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);

/**
 * @param {string[]} command Arguments of Node: a script, in which vitest runs with the reporter.
 * @param {{ cwd: string, folder: string, env?: Record<string, string>, pollMs?: number }} options
 *   `folder` is made for the run and removed after it.
 * @returns {Promise<number>} Exit status.
 */
export async function supervise(command, { cwd, folder, env = {}, pollMs = 5000 }) {
  const watch = new RunWatch();
  mkdirSync(folder, { recursive: true });
  const child = spawn(process.execPath, command, {
    cwd,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // A separate group: Ctrl-C reaches this process alone, which counts first.
    detached: true,
    env: { ...process.env, ...env, [RUN_VARIABLE]: folder, [WORKERS_VARIABLE]: folder },
  });
  child.on('message', (event) => watch.note(/** @type {import('./run-watch.mjs').RunEvent} */ (event), Date.now()));
  const poll = setInterval(() => endStuckWorkers(watch, folder), pollMs);
  const { status, signal } = await ended(child);
  clearInterval(poll);
  await endRun(folder, child.pid);
  rmSync(folder, { recursive: true, force: true });
  if (signal !== undefined) console.error(`error: interrupted by ${signal}`);
  const trouble = status !== 0 || watch.final === undefined || watch.final.failed > 0;
  console.log(watch.summary(trouble));
  return trouble ? status || 1 : 0;
}

/** Resolves when the child has ended, or this process was asked to end. */
function ended(child) {
  return new Promise((resolve) => {
    const interrupt = (signal) => resolve({ status: 128 + constants.signals[signal], signal });
    for (const signal of SIGNALS) process.on(signal, interrupt);
    child.once('error', (error) => {
      console.error(`error: ${error.message}`);
      resolve({ status: 1 });
    });
    child.once('exit', (status) => resolve({ status: status ?? 1 }));
  });
}

/** Ends the worker, not the run: vitest counts its file as failed and goes on with the others. */
function endStuckWorkers(watch, folder) {
  for (const { file, test, idleMs } of watch.takeStuck(Date.now())) {
    const last = test === '' ? 'before its first test' : `in "${test}"`;
    console.error(`error: ${file} made no progress for ${Math.round(idleMs / 1000)} s, ${last}: its worker is ended`);
    for (const pid of readdirSync(folder)) {
      if (readFileSync(join(folder, pid), 'utf8') === file) endProcess(Number(pid));
    }
  }
}
