/** Runs the commands of a walk in its folder: vdkit inside the test, QEMU as programs, sessions through the library. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Disk } from '../../src/index.ts';
import type { Program } from '../cli/program.ts';
import { runCli } from '../cli/run-cli.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import type { Command, Session } from './plan.ts';
import { perform } from './session.ts';
import type { World } from './world.ts';

/** The status of a program that was killed. */
export const KILLED = 137;

/** Nothing that a walk does takes so long, whatever else the machine does. */
const HANGS_MS = 120_000;

/** Point at which a program is killed: on entry to the call of that name and number, which does not take effect. */
export interface Kill {
  readonly call: string;
  readonly number: number;
}

/** Outcome of a command. */
export interface Answer {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

/** A folder with a folder in it. While a walk runs it is the working directory, so that names are as they are typed. */
export class Workshop implements AsyncDisposable {
  readonly folder: string;
  /** On another file system where there is one; the link "other" leads to it. */
  readonly other: string;
  readonly #home = process.cwd();
  readonly #program: Program;

  private constructor(folder: string, other: string, program: Program) {
    this.folder = folder;
    this.other = other;
    this.#program = program;
    process.chdir(folder);
  }

  static async make(program: Program): Promise<Workshop> {
    const folder = await mkdtemp(join(memoryFolder(), 'vdkit-walk-'));
    const other = await mkdtemp(join(tmpdir(), 'vdkit-walk-'));
    await mkdir(join(folder, 'sub'));
    await symlink(other, join(folder, 'other'));
    return new Workshop(folder, other, program);
  }

  async run(command: Command): Promise<Answer> {
    const { program, words, session } = command;
    if (session !== undefined) return this.#session(session);
    if (program === 'vdkit') {
      const { status, stdout, stderr } = await runCli(words);
      return { status, output: stdout, errors: stderr };
    }
    if (program === 'cp') await cp(words[0] ?? '', words[1] ?? '', { errorOnExist: true });
    else if (program === 'rm') await Promise.all(words.map((word) => rm(word)));
    else return execute(program, words);
    return { status: 0, output: '', errors: '' };
  }

  /**
   * The same as a program, killed on its way into a system call, if it comes to that. With one thread for its calls it
   * makes them in the same order each time.
   */
  runKilled({ program, words, session }: Command, { call, number }: Kill): Promise<Answer> {
    const own = join(this.#program.path, '..');
    const child =
      program === 'vdkit'
        ? [process.execPath, this.#program.path, ...words]
        : program === 'library'
          ? [process.execPath, join(own, 'writer.js'), JSON.stringify(session)]
          : [program, ...words];
    const inject = ['-f', '-qqq', '-o', '/dev/null', '-e', `trace=${call}`];
    return execute('strace', [...inject, '-e', `inject=${call}:signal=SIGKILL:when=${number}`, ...child], {
      ...process.env,
      UV_THREADPOOL_SIZE: '1',
    });
  }

  async #session({ image, format, allow, operations }: Session): Promise<Answer> {
    try {
      await using disk = await Disk.open(image, {
        mode: 'write',
        format,
        allow: ['same-directory', ...allow],
        flushAfterMs: 0,
      });
      for (const operation of operations) await perform(disk, operation);
      return { status: 0, output: '', errors: '' };
    } catch (error) {
      return { status: 1, output: '', errors: String(error) };
    }
  }

  /** Temporary files of programs that were killed. */
  async removeUnknown(world: World): Promise<void> {
    for (const name of await unknownFiles(world)) await rm(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.chdir(this.#home);
    if (process.env['KEEP']) return;
    for (const folder of [this.folder, this.other]) await rm(folder, { recursive: true, force: true });
  }
}

/** Runs a program to its end. */
export function execute(program: string, words: readonly string[], env = process.env): Promise<Answer> {
  return new Promise((resolve) => {
    execFile(program, words, { maxBuffer: 64 * 1024 * 1024, env, timeout: HANGS_MS }, (error, output, errors) => {
      const killed = error?.signal === 'SIGKILL' || error?.code === KILLED;
      const status = error === null ? 0 : killed ? KILLED : typeof error.code === 'number' ? error.code : 128;
      resolve({ status, output, errors });
    });
  });
}

const FOLDERS = ['.', 'sub', 'other'];

/** Names of all files in the folder of the walk. */
export async function listFiles(): Promise<Set<string>> {
  const names = await Promise.all(
    FOLDERS.map(async (folder) => {
      const entries = await readdir(folder, { withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).map(({ name }) => join(folder, name));
    }),
  );
  return new Set(names.flat());
}

/** Files that belong to no image of the world, except caches. */
export async function unknownFiles(world: World): Promise<string[]> {
  const known = new Set([...world.values()].flatMap(({ name, facts }) => [name, ...facts.files]));
  return [...(await listFiles())].filter((name) => !known.has(name) && !name.endsWith('.vci'));
}
