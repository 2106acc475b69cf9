/** Behaviour visible only in a process: statuses, signals, closed pipes, and any working directory. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildProgram, type Program, runProgram } from './program.ts';

const SAMPLE = fileURLToPath(new URL('../../samples/disk.vdi', import.meta.url));
/** Slow enough to be interrupted for certain: it would take a minute. */
const SLOW = ['--rate-limit', '1M', '--progress', 'json'];

let program: Program;
let folder: string;

beforeAll(async () => {
  program = await buildProgram();
});
afterAll(() => program.remove());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-process-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const run = (...words: string[]) => runProgram(program, words, { cwd: folder });

function writeLargeDisk(): void {
  writeFileSync(join(folder, 'large.raw'), new Uint8Array(64 * 2 ** 20).fill(1));
}

/** The first sign of progress brings the interrupt; a second one would kill. */
function interruptOnce(signal: NodeJS.Signals): (text: string, child: ChildProcess) => void {
  let sent = false;
  return (_, child) => {
    if (!sent) child.kill(signal);
    sent = true;
  };
}

describe('the program', () => {
  it('run five times at once on one image does its work, or refuses since the image is in use', async () => {
    expect((await run('create', 'a.qcow2', '4M')).status).toBe(0);
    const made = await Promise.all([1, 2, 3, 4, 5].map((n) => run('snapshot', 'create', 'a.qcow2', `s${n}`)));
    for (const { status, stderr } of made) {
      if (status !== 0) expect(stderr).toMatch(/has this image open/);
    }
    const done = made.filter(({ status }) => status === 0).length;
    expect(done).toBeGreaterThanOrEqual(1);
    const report = JSON.parse((await run('info', '--json', 'a.qcow2')).stdout);
    expect(report.snapshots).toHaveLength(done);
    expect((await run('check', 'a.qcow2')).status).toBe(0);
  });

  it('ends with 0, 1, 2 and 64', async () => {
    writeFileSync(join(folder, 'other.raw'), new Uint8Array(512).fill(1));
    const outcomes = await Promise.all([
      run('info', SAMPLE),
      run('info', 'missing'),
      run('compare', SAMPLE, 'other.raw'),
      run('compare', SAMPLE, 'missing'),
      run('info'),
      run('convert', SAMPLE, '-', '--json'),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual([0, 1, 1, 2, 64, 64]);
  });

  it.each([
    ['another engine', Buffer.alloc(4096, 7)],
    ['nobody', Buffer.alloc(0)],
  ])('does not mind a compiled form made by %s', async (_, form) => {
    const file = join(dirname(program.path), 'program.cache');
    writeFileSync(file, form);
    try {
      expect(await run('info', SAMPLE, '--json')).toMatchObject({ status: 0, stderr: '' });
    } finally {
      rmSync(file);
    }
  });

  it('knows its version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await run('--version')).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('does not hang on a FIFO', async () => {
    execFileSync('mkfifo', [join(folder, 'fifo')]);
    expect(await run('info', 'fifo')).toMatchObject({ status: 1, stdout: '' });
    expect(await run('convert', 'fifo', 'out.raw')).toMatchObject({ status: 1, stdout: '' });
  });

  it('reads standard input and writes standard output', async () => {
    const input = readFileSync(SAMPLE);
    expect(await runProgram(program, ['convert', '-', 'out.raw'], { cwd: folder, input })).toMatchObject({ status: 0 });
    const raw = readFileSync(join(folder, 'out.raw'));
    const piped = execFileSync(process.execPath, [program.path, 'convert', SAMPLE, '-', '--quiet'], {
      maxBuffer: 2 ** 25,
    });
    expect(piped.equals(raw)).toBe(true);
  });

  it('ends quietly when its reader goes away', async () => {
    const bash = (line: string) =>
      execFileSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    const vdkit = `'${process.execPath}' '${program.path}'`;
    writeLargeDisk();
    expect(bash(`{ ${vdkit} convert large.raw - -f raw; echo "status $?"  >&2; } 2>&1 >/dev/null | cat`)).toContain(
      'status 0',
    );
    const early = bash(
      `{ ${vdkit} convert large.raw - -f raw 2>err; echo "$?" >status; } | head -c 10 >/dev/null; cat status err`,
    );
    expect(early).toBe('1\n');
    const text = bash(`{ ${vdkit} map '${SAMPLE}' 2>err; echo "$?" >status; } | true; cat status err`);
    expect(text).toBe('0\n');
  });
});

describe.skipIf(!existsSync('/dev/full'))('an output that takes nothing', () => {
  /** Exit status and standard error of a command whose outputs go to other places. */
  const redirected = (words: string, where: string): { status: number | null; stderr: string } => {
    const line = `'${process.execPath}' '${program.path}' ${words} ${where}`;
    const { status, stderr } = spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8' });
    return { status, stderr };
  };
  const refused = 'error: standard output: No space left on the device\n';

  it.each([
    ['compare a.raw a.raw', 2],
    ['compare a.raw a.raw --json', 2],
    ['info a.raw', 1],
    ['info a.raw --json', 1],
    ['map a.raw', 1],
    ['map a.raw --json', 1],
    ['convert a.raw - --to raw', 1],
    ['formats', 1],
    ['--help', 1],
    ['--version', 1],
  ])('fails "%s" with status %i and names the output', (words, status) => {
    writeFileSync(join(folder, 'a.raw'), new Uint8Array(4096).fill(1));
    const outcome = redirected(words, '>/dev/full');
    expect(outcome).toMatchObject({ status, stderr: expect.stringContaining(refused) });
    expect(outcome.stderr).not.toMatch(/bug/);
  });

  it('keeps the error and its status, whichever output is lost', () => {
    const missing = expect.stringContaining('No such file');
    expect(redirected('info missing --json', '>/dev/full')).toMatchObject({ status: 1, stderr: missing });
    expect(redirected('compare missing missing', '2>/dev/full')).toEqual({ status: 2, stderr: '' });
    expect(redirected('compare missing missing --json', '>/dev/full 2>&1')).toEqual({ status: 2, stderr: '' });
    expect(redirected('info', '2>/dev/full')).toEqual({ status: 64, stderr: '' });
  });

  it('does its work with the outputs closed', () => {
    expect(redirected('create a.vdi 1M', '>&- 2>&-')).toEqual({ status: 0, stderr: '' });
    expect(redirected('info a.vdi', '>&-')).toEqual({ status: 0, stderr: '' });
  });
});

describe('Ctrl-C', () => {
  it('cancels, cleans up, and says what is left', async () => {
    writeLargeDisk();
    const outcome = await runProgram(program, ['convert', 'large.raw', 'out.vdi', ...SLOW], {
      cwd: folder,
      onStderr: interruptOnce('SIGINT'),
    });
    expect(outcome).toMatchObject({ status: 130, signal: null, stdout: '' });
    expect(outcome.stderr).toMatch(/^cancelled; no target was left behind$/m);
    expect(readdirSync(folder)).toEqual(['large.raw']);
  });

  it('says that a target that existed may be changed', async () => {
    writeLargeDisk();
    expect(await run('create', 'out.vdi', '64M')).toMatchObject({ status: 0 });
    const outcome = await runProgram(program, ['convert', 'large.raw', 'out.vdi', '--into', ...SLOW], {
      cwd: folder,
      onStderr: interruptOnce('SIGTERM'),
    });
    expect(outcome.status).toBe(130);
    expect(outcome.stderr).toMatch(/^cancelled; out\.vdi may be partly overwritten$/m);
  });

  it('is heard while the output is not read', async () => {
    writeLargeDisk();
    const child = spawn(process.execPath, [program.path, 'convert', 'large.raw', '-', '-f', 'raw'], { cwd: folder });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    // The pipe is full, and stays so: nothing takes the bytes.
    child.stdout.once('readable', () => child.kill('SIGINT'));
    const [status] = await once(child, 'exit');
    child.stdout.destroy();
    expect(status).toBe(130);
    expect(errors).toBe('cancelled; the output is incomplete\n');
  });
});
