/** The command line as a separate program, for behaviour that only a process shows: signals, pipes, exit statuses. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle, bundleCommandLine } from '../../scripts/bundle.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A built program; remove it when the tests are over. */
export interface Program {
  readonly path: string;
  remove(): void;
}

/**
 * Builds the program as it stands in the sources, inside the package, so that optional packages are found; and beside it
 * another program of the tests.
 */
export async function buildProgram(beside?: string): Promise<Program> {
  const cache = join(ROOT, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'vdkit-cli-'));
  await bundleCommandLine(folder);
  if (beside !== undefined) await bundle(beside, { outdir: folder });
  writeFileSync(join(folder, 'package.json'), '{ "type": "commonjs" }');
  return { path: join(folder, 'bin.js'), remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Outcome of a child process. */
export interface ChildOutcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ChildOptions {
  readonly cwd: string;
  /** Written to standard input, which is then closed. Without it standard input is empty. */
  readonly input?: Uint8Array;
  /** Default: that of this process. */
  readonly environment?: NodeJS.ProcessEnv;
  /** Standard output goes nowhere, as to a file: it may be endless. */
  readonly discardStdout?: boolean;
  /** Gets the child as soon as it runs, and each piece of its stderr. */
  readonly onStart?: (child: ChildProcess) => void;
  readonly onStderr?: (text: string, child: ChildProcess) => void;
}

/** Runs a built program and waits for its end. */
export function runProgram(program: Program, words: readonly string[], options: ChildOptions): Promise<ChildOutcome> {
  return new Promise((resolve, reject) => {
    const { cwd, environment: env = process.env } = options;
    const stdio = ['pipe', options.discardStdout === true ? 'ignore' : 'pipe', 'pipe'] as const;
    const child = spawn(process.execPath, [program.path, ...words], { cwd, env, stdio: [...stdio] });
    const outputs = { stdout: '', stderr: '' };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      outputs.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      outputs.stderr += text;
      options.onStderr?.(text, child);
    });
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, ...outputs }));
    // A child that reads nothing may be gone already.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? new Uint8Array(0));
    options.onStart?.(child);
  });
}
